"""The run directory: rounds that are whole or absent, one writer, nothing left behind."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tlcli import runs
from tlcli.errors import RunError, RunLocked, StorageError, UsageError
from tlcli.manifest import FORMAT, Manifest, RegisteredClass, read_manifest, write_manifest
from tlcli.runs import creating, extending, open_run

BACKBONE = "f" * 64


def manifest(number: int = 1, fingerprint: str = BACKBONE) -> Manifest:
    return Manifest(
        round=number,
        parent=number - 1 or None,
        command="pretrain",
        strategy=None,
        head="lda",
        head_options={"shrinkage": "auto"},
        backbone="MobileNetV2",
        backbone_fingerprint=fingerprint,
        projection=None,
        classes=(RegisteredClass("red panda", 1), RegisteredClass("キツネ", number)),
        memory="moments",
        memory_sha256="0" * 64,
        arithmetic=("openvino 0",),
        decoder=("pillow 0",),
        exact=True,
        config={"data": "photos", "nested": {"lr": 0.001, "sizes": [1, 2]}},
        versions={"tlcli": "0"},
        created="2026-01-01T00:00:00+00:00",
    )


def commit(
    writer: runs.Writer, number: int | None = None, fingerprint: str = BACKBONE
) -> runs.Round:
    """Commit a small round on a backbone, as the stages do."""
    number = number or writer.next_number
    with writer.staging() as staged:
        (staged / "model.bin").write_bytes(b"backbone")
        writer.add_backbone(staged, fingerprint)
    with writer.staging() as staged:
        (staged / "head.h5").write_bytes(b"head %d" % number)
        (staged / "memory.h5").write_bytes(b"memory %d" % number)
        return writer.commit(staged, manifest(number, fingerprint))


def names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run with one round."""
    with creating(tmp_path / "run", 0) as writer:
        commit(writer)
    return tmp_path / "run"


def content(folder: Path) -> dict[str, bytes | None]:
    """Path → bytes of every file and folder below, without the lock."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != "lock"
    }


def test_a_committed_round_can_be_read_back(run: Path) -> None:
    with extending(run, 0) as writer:
        assert writer.next_number == 2
        committed = commit(writer)
    opened = open_run(run)
    assert opened.numbers() == [1, 2]
    assert [entry.number for entry in opened.rounds()] == [1, 2]
    current = opened.round()
    assert current == committed
    assert replace(current.manifest, files={}) == manifest(2)
    assert current.classes == ("red panda", "キツネ")
    assert current.file("head.h5").read_bytes() == b"head 2"
    assert opened.round(1).file("head.h5").read_bytes() == b"head 1"
    assert current.manifest.files["head.h5"] == hashlib.sha256(b"head 2").hexdigest()
    assert (opened.backbone_folder(BACKBONE) / "model.bin").read_bytes() == b"backbone"


def test_a_run_holds_nothing_but_what_is_documented(run: Path) -> None:
    assert set(content(run)) == {
        "backbones",
        f"backbones/{BACKBONE}",
        f"backbones/{BACKBONE}/model.bin",
        "rounds",
        "rounds/0001",
        *(f"rounds/0001/{name}" for name in ("head.h5", "memory.h5", "round.json")),
    }


def test_a_backbone_that_is_there_is_kept(run: Path) -> None:
    with extending(run, 0) as writer, writer.staging() as staged:
        (staged / "model.bin").write_bytes(b"other")
        target = writer.add_backbone(staged, BACKBONE)
    assert (target / "model.bin").read_bytes() == b"backbone"


@pytest.mark.parametrize("number", [0, 2, 99])
def test_a_round_that_does_not_exist_is_a_usage_error(run: Path, number: int) -> None:
    with pytest.raises(UsageError, match=f"1 to 1.*round={number}"):
        open_run(run).round(number)


def test_rounds_beyond_9999_are_in_numeric_order(run: Path) -> None:
    for number in (9999, 10000, 10001):
        with extending(run, 0) as writer:
            commit(writer, number)
    assert open_run(run).numbers() == [1, 9999, 10000, 10001]
    assert open_run(run).round().number == 10001
    with extending(run, 0) as writer:
        assert writer.next_number == 10002


def test_every_flipped_bit_of_the_manifest_is_noticed(run: Path) -> None:
    path = run / "rounds" / "0001" / "round.json"
    before = path.read_bytes()
    for place in range(len(before)):
        damaged = bytearray(before)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(RunError, match=r"round\.json"):
            open_run(run)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "7", '{"format": 1}', '{"format": "x"}'])
def test_a_manifest_of_another_shape_is_refused(run: Path, text: str) -> None:
    (run / "rounds" / "0001" / "round.json").write_text(text)
    with pytest.raises(RunError, match="is damaged"):
        open_run(run)


def test_a_missing_manifest_is_refused(run: Path) -> None:
    (run / "rounds" / "0001" / "round.json").unlink()
    with pytest.raises(RunError, match="is damaged"):
        open_run(run)


def test_a_round_of_a_newer_program_is_refused_and_left_alone(run: Path) -> None:
    path = run / "rounds" / "0001" / "round.json"
    path.write_text(json.dumps({"format": FORMAT + 1, "unheard": "of"}))
    before = content(run)
    for use in (open_run, lambda path: extending(path, 0).__enter__()):
        with pytest.raises(RunError, match="Upgrade tlcli"):
            use(run)
    assert content(run) == before


@pytest.mark.parametrize("name", ["/etc/passwd", "../0002/head.h5", "a/b", ".."])
def test_a_manifest_that_leaves_its_folder_is_refused(run: Path, name: str) -> None:
    """Also where whoever changed it has corrected its checksum."""
    folder = run / "rounds" / "0001"
    manifest = read_manifest(folder)
    write_manifest(replace(manifest, files={**manifest.files, name: "0" * 64}), folder)
    with pytest.raises(RunError, match="no file of a round"):
        open_run(run)


def test_a_file_that_changed_or_vanished_is_named(run: Path) -> None:
    current = open_run(run).round()
    assert current.damages() == []
    (current.folder / "head.h5").write_bytes(b"other")
    (current.folder / "memory.h5").unlink()
    assert len(current.damages()) == 2
    with pytest.raises(RunError, match=r"head\.h5 was changed after it was saved"):
        current.file("head.h5")
    with pytest.raises(RunError, match=r"memory\.h5 is missing"):
        current.file("memory.h5")


def test_a_file_that_the_manifest_does_not_know_is_not_read(run: Path) -> None:
    current = open_run(run).round()
    (current.folder / "smuggled.h5").write_bytes(b"")
    with pytest.raises(RunError, match="smuggled"):
        current.file("smuggled.h5")


@pytest.mark.parametrize("use", [open_run, lambda path: extending(path, 0).__enter__()])
def test_only_a_run_can_be_opened(tmp_path: Path, use: Callable[[Path], object]) -> None:
    with pytest.raises(UsageError, match="does not exist") as missing:
        use(tmp_path / "nothing")
    assert missing.value.exit_code == 2
    (tmp_path / "photos").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("photos", "file"):
        with pytest.raises(RunError, match="no committed round") as foreign:
            use(tmp_path / name)
        assert foreign.value.exit_code == 5
    assert content(tmp_path) == {"photos": None, "file": b""}


def test_a_foreign_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"cat")
    for target in (tmp_path / "photos", tmp_path / "photos" / "cat.png"):
        with pytest.raises(UsageError, match="is not a run"), creating(target, 0):
            pass
    assert content(tmp_path) == {"photos": None, "photos/cat.png": b"cat"}
    assert names_in(tmp_path / "photos") == ["cat.png"]


@pytest.mark.parametrize("name", ["rounds", "backbones"])
def test_a_foreign_folder_with_a_familiar_name_inside_is_untouched(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "out" / name / "mine").mkdir(parents=True)
    (tmp_path / "out" / name / "mine" / "notes.txt").write_text("notes")
    before = content(tmp_path)
    with suppress(UsageError, Failure), creating(tmp_path / "out", 0):
        raise Failure
    assert content(tmp_path) == before


class Failure(Exception):
    """What goes wrong in the middle of a command."""


def fail_before_the_commit(writer: runs.Writer) -> None:
    """Do all that a command does, up to the commit."""
    with writer.staging() as staged:
        (staged / "model.bin").write_bytes(b"backbone")
        writer.add_backbone(staged, "e" * 64)
    with writer.staging() as staged:
        (staged / "head.h5").write_bytes(b"half")
        raise Failure


def test_a_first_round_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(Failure), creating(tmp_path / "run", 0) as writer:
        fail_before_the_commit(writer)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_used_and_kept_when_the_first_round_fails(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(Failure), creating(tmp_path / "run", 0) as writer:
        fail_before_the_commit(writer)
    assert list((tmp_path / "run").iterdir()) == []
    with creating(tmp_path / "run", 0) as writer:
        commit(writer)
    assert open_run(tmp_path / "run").numbers() == [1]


def test_creating_what_is_a_run_already_is_left_to_the_caller(run: Path) -> None:
    before = content(run)
    with creating(run, 0) as writer:
        assert writer.run.numbers() == [1]
    with pytest.raises(Failure), creating(run, 0):
        raise Failure
    assert content(run) == before


def test_an_extension_that_fails_leaves_the_old_round_as_it_was(run: Path) -> None:
    before = content(run)
    with pytest.raises(Failure), extending(run, 0) as writer:
        fail_before_the_commit(writer)
    assert open_run(run).numbers() == [1]
    with extending(run, 0):
        assert content(run) == before


def test_the_next_writer_sweeps_what_a_killed_one_left(run: Path) -> None:
    before = content(run)
    (run / ".building-abc").mkdir()
    (run / ".building-abc" / "model.keras").write_bytes(b"half")
    (run / "backbones" / ("d" * 64)).mkdir()
    (run / "backbones" / ("d" * 64) / "model.bin").write_bytes(b"unused")
    open_run(run)
    assert content(run) != before
    with extending(run, 0):
        assert content(run) == before


def test_an_interrupted_first_round_does_not_block_the_next(tmp_path: Path) -> None:
    (tmp_path / "run" / "backbones" / BACKBONE).mkdir(parents=True)
    (tmp_path / "run" / ".building-abc").mkdir()
    (tmp_path / "run" / "lock").touch()
    with creating(tmp_path / "run", 0) as writer:
        commit(writer)
    assert open_run(tmp_path / "run").round().number == 1
    assert ".building-abc" not in names_in(tmp_path / "run")


HOLDER = """
    import sys
    from pathlib import Path
    from tlcli.runs import extending
    with extending(Path(sys.argv[1]), 0):
        print("held", flush=True)
        sys.stdin.readline()
"""


@contextmanager
def held(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that writes to the run until it is sent a line."""
    command = [sys.executable, "-c", textwrap.dedent(HOLDER), str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        try:
            assert holder.stdout and holder.stdout.readline() == "held\n"
            yield holder
        finally:
            holder.kill()


def test_a_second_writer_is_refused_at_once_or_after_its_wait(run: Path) -> None:
    with held(run):
        for enter in (extending, creating):
            start = time.monotonic()
            with pytest.raises(RunLocked, match="--wait") as refused, enter(run, 0):
                pass
            assert time.monotonic() - start < 1
            assert refused.value.exit_code == 75
        start = time.monotonic()
        with pytest.raises(RunLocked), extending(run, 0.4):
            pass
        assert 0.4 <= time.monotonic() - start < 2


def test_a_second_writer_can_wait_for_the_first(run: Path) -> None:
    with held(run) as holder:
        assert holder.stdin
        holder.stdin.write("\n")
        holder.stdin.flush()
        with extending(run, 20) as writer:
            commit(writer)
    assert open_run(run).numbers() == [1, 2]


FAILING = """
    import sys
    from pathlib import Path
    from tlcli.runs import creating
    with creating(Path(sys.argv[1]), 0):
        print("held", flush=True)
        sys.stdin.readline()
        sys.exit(3)
"""


def test_a_first_round_can_be_waited_for_that_comes_to_nothing(tmp_path: Path) -> None:
    """Whoever fails takes the folder away, with the lock that is waited for."""
    path = tmp_path / "run"
    command = [sys.executable, "-c", textwrap.dedent(FAILING), str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        waited: list[float] = []

        def sleep(seconds: float, asleep: Callable[[float], None] = time.sleep) -> None:
            if not waited:
                holder.communicate("\n")
            waited.append(seconds)
            asleep(0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "sleep", sleep)
            with creating(path, 20) as writer:
                commit(writer)
        assert waited
        assert holder.returncode == 3
    assert open_run(path).numbers() == [1]


def test_a_folder_that_cannot_be_removed_does_not_hide_why_the_first_round_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOTEMPTY, "not empty")

    monkeypatch.setattr("pathlib.Path.rmdir", refuse)
    with pytest.raises(ZeroDivisionError), creating(tmp_path / "run", 0):
        raise ZeroDivisionError


def test_a_run_that_was_removed_meanwhile_is_a_run_error(run: Path) -> None:
    opened = open_run(run)
    run.rename(run.with_name("elsewhere"))
    with pytest.raises(RunError, match="meanwhile"):
        opened.round()


def test_a_killed_writer_does_not_hold_the_run(run: Path) -> None:
    with held(run) as holder:
        holder.kill()
        holder.wait()
        with extending(run, 5):
            pass


def test_readers_do_not_wait_for_a_writer(run: Path) -> None:
    with held(run):
        start = time.monotonic()
        assert open_run(run).round().file("head.h5").read_bytes() == b"head 1"
        assert time.monotonic() - start < 1


class Failing:
    """Stands in for a function of `os`: the call of this number, and all later ones, fail."""

    def __init__(self, function: Callable[..., Any], number: int) -> None:
        self.function, self.left = function, number

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.left -= 1
        return self.function(*arguments, **options)


def fill_disk_at(patched: pytest.MonkeyPatch, name: str, number: int) -> None:
    patched.setattr(os, name, Failing(getattr(os, name), number))


def fill_disk_after_the_rename(patched: pytest.MonkeyPatch) -> None:
    """Every flush fails once a round was renamed into place."""
    rename = os.rename

    def renamed(source: Path, target: Path) -> None:
        rename(source, target)
        if os.path.basename(os.path.dirname(target)) == "rounds":  # noqa: PTH119, PTH120
            fill_disk_at(patched, "fsync", 0)

    patched.setattr(os, "rename", renamed)


def assert_full_disk_keeps(
    run: Path,
    before: dict[str, bytes | None],
    monkeypatch: pytest.MonkeyPatch,
    fill: Callable[[pytest.MonkeyPatch], None],
) -> None:
    with extending(run, 0) as writer, monkeypatch.context() as patched:
        fill(patched)
        with pytest.raises(StorageError, match="No space left") as full:
            commit(writer, fingerprint="e" * 64)
    assert full.value.exit_code == 6
    assert open_run(run).numbers() == [1]
    with extending(run, 0):
        assert content(run) == before


def test_every_file_is_flushed_before_the_round_is_renamed_and_the_folder_after(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed, fsync, rename = [], os.fsync, os.rename

    def record_fsync(descriptor: int) -> None:
        flushed.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def record_rename(source: Path, target: Path) -> None:
        inodes = {entry.inode() for entry in os.scandir(source)}
        assert len(inodes) in (1, 3)
        assert inodes <= set(flushed)
        assert os.stat(source).st_ino in flushed  # noqa: PTH116
        flushed.clear()
        rename(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record_rename)
    with extending(run, 0) as writer:
        commit(writer, fingerprint="e" * 64)
    assert (run / "rounds").stat().st_ino in flushed


STEPS = [("fsync", number) for number in range(8)] + [("rename", 0), ("rename", 1), ("replace", 0)]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_full_disk_is_a_storage_error_and_the_run_stays_as_it_was(
    run: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[str, int]
) -> None:
    before = content(run)
    assert_full_disk_keeps(run, before, monkeypatch, lambda patched: fill_disk_at(patched, *step))
    with extending(run, 0) as writer:
        commit(writer)
    assert open_run(run).round().damages() == []


def test_a_full_disk_right_after_the_rename_takes_the_round_back(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_full_disk_keeps(run, content(run), monkeypatch, fill_disk_after_the_rename)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_full_disk_at_the_first_round_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[str, int]
) -> None:
    fill_disk_at(monkeypatch, *step)
    with pytest.raises(StorageError), creating(tmp_path / "run", 0) as writer:
        commit(writer)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError), creating(tmp_path / "file" / "run", 0):
        pass


# Commits a second round again and again in child processes, each on its own copy of the run, and
# kills the N-th child just before its N-th change of the disk, until a child gets to the end.
KILLER = """
    import os, shutil, signal, sys
    from pathlib import Path

    sys.path.insert(0, sys.argv[3])
    from test_runs import commit
    from tlcli import runs

    template, copies = Path(sys.argv[1]), Path(sys.argv[2])
    CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod"}

    def child(path, fatal):
        left = [fatal]

        def count(*ignored):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def audit(event, arguments):
            writing = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
            if event in CHANGES or writing:
                count()

        fsync = os.fsync
        os.fsync = lambda descriptor: (count(), fsync(descriptor))
        sys.addaudithook(audit)
        enter = runs.extending if path.exists() else runs.creating
        with enter(path, 0) as writer:
            commit(writer, fingerprint="e" * 64)

    fatal = 0
    while True:
        path = copies / str(fatal)
        if template.exists():
            shutil.copytree(template, path)
        pid = os.fork()
        if pid == 0:
            try:
                child(path, fatal)
            except BaseException:
                os._exit(1)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        print(fatal, status, flush=True)
        if status != signal.SIGKILL:
            break
        fatal += 1
"""


def killed_at_every_change(template: Path, copies: Path) -> list[Path]:
    """The folders of the run after a kill at each change; the last was not killed."""
    here = os.path.dirname(__file__)  # noqa: PTH120
    command = [sys.executable, "-c", textwrap.dedent(KILLER), str(template), str(copies), here]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[-1][1] == "0"
    assert len(lines) > 20
    return [copies / number for number, _ in lines]


def test_a_kill_at_any_change_leaves_the_old_round_or_the_new_one(
    run: Path, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    seen = set()
    for copy in killed_at_every_change(run, copies):
        opened = open_run(copy)
        number = opened.round().number
        assert [entry.damages() for entry in opened.rounds()] == [[]] * number
        assert opened.round().file("head.h5").read_bytes() == b"head %d" % number
        fingerprint = opened.round().manifest.backbone_fingerprint
        assert (opened.backbone_folder(fingerprint) / "model.bin").read_bytes() == b"backbone"
        assert (copy / "rounds" / "0001" / "head.h5").read_bytes() == b"head 1"
        with extending(copy, 0) as writer:
            assert not list(copy.glob(".*"))
            commit(writer)
        assert open_run(copy).round().number == number + 1
        seen.add(number)
    assert seen == {1, 2}


def test_a_kill_at_any_change_of_the_first_round_leaves_no_run_or_a_whole_one(
    tmp_path: Path,
) -> None:
    seen = set()
    for path in killed_at_every_change(tmp_path / "no template", tmp_path):
        born = runs.is_run(path)
        if born:
            assert open_run(path).round().damages() == []
        with creating(path, 0) as writer:
            assert writer.next_number == 1 + born
            commit(writer)
        assert open_run(path).round().damages() == []
        assert not list(path.glob(".*"))
        seen.add(born)
    assert seen == {False, True}
