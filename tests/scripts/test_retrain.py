"""scripts/retrain: no image is lost, and what is published has passed, whatever happens when.

Most tests put a small program in the place of tlcli whose rounds are lists of what was learned;
some run the real one with the tiny backbone.
"""

import fcntl
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import tiny
from tlcli import runs
from tlcli.images import IMAGE_SUFFIXES

HERE = Path(__file__).parents[2]
SCRIPT = HERE / "scripts" / "retrain"
DOCS = (HERE / "docs" / "cron.md").read_text("utf-8")

STUB = """#!/bin/sh
# RUN/rounds/N is a list of what was learned; "poison" fails gates, "broken" is unusable.
PATH=/usr/bin:/bin
said=$*
[ "$1" = --config ] && shift 2
[ "$1" = data ] && exec DIVIDE "$@"
echo "$said" >> "$CALLS"
[ "$(readlink /proc/$$/fd/0)" = /dev/null ] || exit 9
[ -z "$TLCLI_EVALUATE_FAIL_UNDER$TLCLI_CONFIG" ] && [ -n "$TLCLI_CACHE_DIR" ] || exit 8
[ "$1" = rounds ] && shift
now() { ls "$1/rounds" | sort -n | tail -n 1; }
commit() {
    cmp -s "$1/new" "$1/rounds/$(now "$1")" && return
    mv "$1/new" "$1/rounds/$(printf %04d $(($(now "$1" | sed 's/^0*//') + 1)))"
}
case $1 in
    extend-classes)
        grep -rqx broken "$3" && { echo "tlcli: error: broken" >&2; exit 3; }
        grep -rqx bug "$3" && { echo "tlcli: error: a bug" >&2; exit 1; }
        { cat "$2/rounds/$(now "$2")"; cd "$3"; find . -type f -exec cat {} +; } |
            sort -u > "$2/new"
        commit "$2" ;;
    evaluate)
        [ -e "$3" ] || exit 2
        echo "report of $(now "$2") on $(find -L "$3" -type f ! -path '*/.*' | wc -l)"
        ! grep -qx poison "$2/rounds/$(now "$2")" || { echo "tlcli: error: gate" >&2; exit 4; } ;;
    rollback)
        [ ! -e "$2/stuck" ] || { echo "tlcli: error: stuck" >&2; exit 5; }
        cp "$2/rounds/$(printf %04d "${4#0}")" "$2/new"; commit "$2" ;;
    export)
        ! grep -qx unlike "$2/rounds/$(now "$2")" || { echo "tlcli: error: unlike" >&2; exit 4; }
        cp "$2/rounds/$(now "$2")" "$6.new"; mv "$6.new" "$6"; echo "$6" ;;
    prune) [ ! -e "$2/stuck" ] || { echo "tlcli: error: stuck" >&2; exit 5; } ;;
    *) exit 2 ;;
esac
"""

DIVIDE = """# The command itself, of a run whose rounds are lists
import sys
from hashlib import sha256
from pathlib import Path
from tlcli.cli import app
from tlcli.commands.data import divide

def learned_by(run):
    lines = max((run / "rounds").iterdir()).read_bytes().splitlines(keepends=True)
    return {sha256(line).hexdigest(): "" for line in lines}

divide.learned_by = learned_by
sys.exit(app.run(sys.argv[1:]))
"""

KILLER = """#!/bin/sh
printf . >> "$COUNT"
[ "$(/usr/bin/wc -c < "$COUNT")" -lt "$KILL_AT" ] || kill -9 0
exec NAME "$@"
"""
COMMANDS = (
    *("cat", "date", "find", "flock", "ln", "mkdir", "mv", "realpath", "rm", "sort", "stat"),
    *("sync", "tail"),
)


@dataclass(frozen=True)
class Site:
    """A folder with a run, an inbox, and all that the script makes beside it."""

    folder: Path
    tlcli: Path

    @property
    def run(self) -> Path:
        return self.folder / "run"

    @property
    def inbox(self) -> Path:
        return self.folder / "in box"

    @property
    def out(self) -> Path:
        return self.folder / "model.keras"

    def command(self, *options: object) -> list[str]:
        given = {"run": self.run, "inbox": self.inbox, "test": self.folder / "test"}
        given |= {"out": self.out}
        flags = [text for name, value in given.items() for text in (f"--{name}", str(value))]
        return [str(SCRIPT), *flags, "--settle", "0", *map(str, options)]

    def environment(self) -> dict[str, str]:
        return {"TLCLI": str(self.tlcli), "CALLS": str(self.folder / "calls")}

    def __call__(self, *options: object, code: int = 0, **extra: str) -> str:
        """Standard output of the script, in an empty environment, without standard input."""
        done = subprocess.run(
            ["bash", "-c", 'exec "$@" <&-', "-", *self.command(*options)],
            env=self.environment() | extra,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
        )
        assert done.returncode == code, done.stderr
        self.said.write_text(done.stderr, "utf-8")
        return done.stdout

    @property
    def said(self) -> Path:
        return self.folder / "said"

    def put(self, label: str, *contents: str, start: int = 0) -> None:
        """Images of one line each; the stub reads nothing but it."""
        folder = self.inbox / label
        folder.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents, start):
            (folder / f"{number}.jpg").write_text(f"{content}\n")

    def where(self) -> dict[str, Counter[str]]:
        """The content of all images, by the folder that they are in."""
        places = ("in box", "in box.work", "in box.archive", "in box.quarantine", "test")
        return {
            place: Counter(
                path.read_text("latin-1").strip()
                for path in (self.folder / place).rglob("*")
                if path.suffix.lower() in (".jpg", ".png") and path.is_file()
            )
            for place in places
        }

    def images(self) -> Counter[str]:
        return sum(self.where().values(), Counter())

    def batches(self, place: str) -> list[Path]:
        return sorted((self.folder / f"in box.{place}").glob("*Z-*"))

    def learned(self) -> str:
        return max((self.run / "rounds").iterdir()).read_text()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site whose tlcli is the stub; one round, one test image."""
    (tmp_path / "run" / "rounds").mkdir(parents=True)
    (tmp_path / "run" / "rounds" / "0001").write_text("first\n")
    (tmp_path / "test" / "old").mkdir(parents=True)
    (tmp_path / "test" / "old" / "0.jpg").write_text("tested\n")
    (tmp_path / "in box").mkdir()
    (tmp_path / "model.keras").write_text("first\n")
    stub = tmp_path / "tlcli stub"
    divide = [f"PYTHONPATH={HERE}", sys.executable, "-c", DIVIDE]
    stub.write_text(STUB.replace("DIVIDE", f"env {shlex.join(divide)}"))
    stub.chmod(0o755)
    return Site(tmp_path, stub)


def test_a_good_batch_is_published_and_filed_away(site: Site) -> None:
    site.put("new", "a", "b", "c", "d")
    assert str(site.out) in site("--hold-out", "25%", "--keep", 5)
    (batch,) = site.batches("archive")
    held_out = list((site.folder / "test" / "new" / batch.name).iterdir())
    assert len(held_out) == 2
    assert len(list((batch / "images" / "new").iterdir())) == 2
    assert site.images() == Counter(["a", "b", "c", "d", "tested"])
    assert site.out.read_text() == site.learned()
    assert len(site.learned().splitlines()) == 3
    assert not list((site.folder / "in box.work").glob("batch-*"))
    assert "on 3" in (batch / "test.txt").read_text()
    assert "on 2" in (batch / "batch.txt").read_text()
    calls = (site.folder / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == [
        *("extend-classes", "evaluate", "evaluate", "export", "rounds")
    ]
    assert "--max-regression 2% --min-class-accuracy 65% --report" in calls[1]
    assert "--ignore-unknown --fail-under 60% --report" in calls[2]
    assert calls[4].endswith("--keep 5 --wait 0")
    assert site() == ""
    assert len((site.folder / "calls").read_text().splitlines()) == 5


def test_options_are_passed_on(site: Site) -> None:
    site.put("new", "a", "b")
    options = {"format": "onnx", "fail-under": "0.9", "batch-fail-under": "", "wait": "1"}
    options |= {"config": "/a b.toml", "hold-out": "0", "archive": str(site.folder / "done")}
    site(*[text for name, value in options.items() for text in (f"--{name}", value)])
    learn, measure, export = (site.folder / "calls").read_text().splitlines()
    assert learn.startswith("--config /a b.toml extend-classes")
    assert learn.endswith("--wait 1")
    assert "--fail-under 0.9" in measure
    assert "--format onnx" in export
    assert len(list((site.folder / "done").glob("*/images/new/*.jpg"))) == 2


def test_a_poisoned_batch_goes_to_quarantine_and_the_run_back(site: Site) -> None:
    before = site.learned()
    site.put("new", "a", "poison", "poison", "poison")
    site(code=4)
    (batch,) = site.batches("quarantine")
    assert "tlcli: error: gate" in site.said.read_text()
    assert str(batch) in site.said.read_text()
    assert "gate" in (batch / "messages.txt").read_text()
    assert "report of 0002" in (batch / "test.txt").read_text()
    assert site.learned() == before == site.out.read_text()
    assert len(list((site.run / "rounds").iterdir())) == 3
    assert site.where()["in box.quarantine"].total() == 4
    site.put("new", "b", "c")
    site()
    assert site.learned() == site.out.read_text() != before


@pytest.mark.parametrize(("wrong", "code", "options"), [
    ("poison", 4, ()), ("broken", 3, ("--hold-out", "0"))
])  # fmt: skip
def test_a_batch_in_quarantine_is_submitted_again_as_the_docs_say(
    site: Site, wrong: str, code: int, options: tuple[str, ...]
) -> None:
    """After what was wrong in it was removed; one that was not measured has no reports."""
    site.put("new", "a", "b", "c", wrong)
    site(*options, code=code)
    (batch,) = site.batches("quarantine")
    for path in batch.rglob("*.jpg"):
        if wrong in path.read_text():
            path.unlink()
    section = DOCS.split("## A batch in quarantine")[1]
    commands = re.findall(r"^\$ ((?:cat|find|for|rm) [^#\n]*)", section, re.M)
    assert len(commands) == 5
    line = "set -e\n" + "\n".join(commands).replace("../../inbox", shlex.quote(str(site.inbox)))
    line = line.replace("20261124T023001Z-4711", batch.name)
    done = subprocess.run(["/bin/sh", "-c", line], cwd=batch, capture_output=True, check=True)
    assert not done.stderr
    assert not site.batches("quarantine")
    assert site.where()["in box"] == Counter(["a", "b", "c"])
    site()
    assert site.learned() == site.out.read_text()
    assert site.where()["in box.archive"].total() == 2


def test_an_unusable_batch_goes_to_quarantine(site: Site) -> None:
    site.put("new", "broken", "broken")
    site(code=3)
    assert len(list((site.run / "rounds").iterdir())) == 1
    assert site.where()["in box.quarantine"].total() == 2
    assert "broken" in site.said.read_text()


def test_a_model_that_cannot_be_written_as_it_is_goes_to_quarantine(site: Site) -> None:
    before = site.learned()
    site.put("new", "unlike", "unlike")
    site(code=4)
    assert site.learned() == before == site.out.read_text()
    assert site.where()["in box.quarantine"].total() == 2


def test_a_bug_is_passed_on_and_the_batch_waits_for_the_next_start(site: Site) -> None:
    site.put("new", "bug", "bug")
    site(code=1)
    assert "a bug" in site.said.read_text()
    (waiting,) = (site.folder / "in box.work").glob("batch-*/images")
    for path in waiting.rglob("*.jpg"):
        path.write_text("repaired\n")
    site.put("later", "x", "y")
    site()
    assert [len(list(batch.glob("images/*"))) for batch in site.batches("archive")] == [1, 1]


def test_what_is_published_is_not_judged_again(site: Site) -> None:
    """Of the held-out images, a part may be among the test images already."""
    batch = site.folder / "in box.work" / "batch-20260101T000000Z-1"
    for label, part in (("a", "images"), ("b", "images"), ("b", "held-out")):
        (batch / part / label).mkdir(parents=True)
        (batch / part / label / f"{part}.jpg").write_text(f"poison {part} {label}\n")
    for name in ("base", "messages.txt", "published.txt"):
        (batch / name).write_text("0001\n")
    site()
    assert not (site.folder / "calls").exists()
    assert site.where()["in box.archive"].total() == 2
    assert (site.folder / "test" / "b" / "20260101T000000Z-1" / "held-out.jpg").exists()


def test_what_is_under_test_is_never_learned(site: Site) -> None:
    """Not under any name, not in any batch; what comes beside it is."""
    site.put("new", "a", "tested", "b")
    site.put("other", "tested")
    site()
    (batch,) = site.batches("archive")
    assert Counter(path.parent.name for path in batch.glob("tested/*/*")) == {"new": 1, "other": 1}
    assert str(batch / "tested") in site.said.read_text()
    assert set(site.learned().split()) & {"a", "b", "tested"} < {"a", "b"}
    held_out = set(site.where()["test"]) - {"tested"}
    rounds = len(list((site.run / "rounds").iterdir()))
    site.put("new", "tested", *held_out, start=10)
    site()
    assert len(list((site.run / "rounds").iterdir())) == rounds
    assert site.where()["test"] == Counter(["tested", *held_out])
    assert site.images() == Counter(["a", "b", "tested", *["tested"] * 3, *held_out])


def test_equal_copies_in_a_batch_go_the_same_way(site: Site) -> None:
    site.put("new", *"aaabbbcccddd")
    site()
    learned, tested = set(site.learned().split()), site.where()["test"]
    assert learned | set(tested) == {"first", "tested", *"abcd"}
    assert not learned & set(tested)
    assert sorted(tested.values()) == [1, 3, 3]


def test_one_image_under_two_names_is_left_to_tlcli(site: Site) -> None:
    """Which refuses it; were it held out, nothing would notice."""
    site.put("one", "a", "b")
    site.put("two", "a", "b")
    site("--hold-out", "50%")
    assert {"a", "b"} < set(site.learned().split())
    assert set(site.where()["test"]) == {"tested"}


def test_what_was_learned_is_not_held_out_later(site: Site) -> None:
    site.put("new", *map(str, range(20)))
    site("--hold-out", "0")
    site.put("new", *map(str, range(20)), "x", "y")
    site("--hold-out", "50%")
    learned, tested = set(site.learned().split()), set(site.where()["test"])
    assert not learned & tested
    assert len(tested - {"tested"}) == 1
    assert len(learned) == 1 + 21


@pytest.mark.parametrize("name", [".test", "held-out", "tested"])
def test_the_test_folder_may_have_any_name(site: Site, name: str) -> None:
    (site.folder / "test").rename(site.folder / name)
    site.put("old", "a", "b")
    site("--test", site.folder / name)
    (batch,) = site.batches("archive")
    assert "on 2" in (batch / "test.txt").read_text()


@pytest.mark.parametrize("content", ["fine", "poison"])
def test_a_run_that_cannot_be_pruned_or_rolled_back_is_told(site: Site, content: str) -> None:
    (site.run / "stuck").touch()
    site.put("new", content)
    site("--keep", 3, code=5)
    assert "error: stuck" in site.said.read_text()
    assert site.where()["in box.work"] == Counter([content])
    (site.run / "stuck").unlink()
    site("--keep", 3, code=0 if content == "fine" else 4)
    assert not site.where()["in box.work"]


def test_options_in_the_environment_do_not_count(site: Site) -> None:
    site.put("new", "a", "b")
    site(TLCLI_EVALUATE_FAIL_UNDER="1", TLCLI_CONFIG="/nothing")
    assert site.where()["in box.archive"].total() == 1


def test_only_what_is_settled_is_taken(site: Site) -> None:
    site.put("new", "a", "b")
    kept = ["new/note.txt", "new/.rsync.jpg", "new/c.jpg.part", ".hidden/d.jpg", "stray.jpg"]
    for name in kept:
        (site.inbox / name).parent.mkdir(exist_ok=True)
        (site.inbox / name).write_text("not meant\n")
    (site.inbox / "empty").mkdir()
    (site.inbox / "new" / "link.jpg").symlink_to(site.folder / "test" / "old" / "0.jpg")
    assert site("--settle", 3600) == ""
    assert not (site.folder / "calls").exists()
    site()
    left = {str(path.relative_to(site.inbox)) for path in site.inbox.rglob("*")}
    assert left == {*kept, "new", "empty", ".hidden", "new/link.jpg"}
    assert not list((site.folder / "in box.work").glob("batch-*"))


def test_an_old_date_does_not_make_a_file_settled(site: Site) -> None:
    site.put("new", "a")
    os.utime(site.inbox / "new" / "0.jpg", (0, 0))
    site("--settle", 60)
    assert site.where()["in box"] == Counter("a")


def test_names_may_be_anything(site: Site) -> None:
    labels = ["-n", "two words", "キツネ", "quote\"'$(touch x)`", "back\\slash", "*"]
    for label in labels:
        site.put(label, *(f"{labels.index(label)} {number}" for number in range(2)))
    (site.inbox / "-n" / "-rf  .JPG").write_text("odd\n")
    (site.inbox / "-n" / "deep\n").mkdir()
    (site.inbox / "-n" / "deep\n" / "ü\n.PNG").write_text("deep\n")
    Path(os.fsdecode(os.fsencode(site.inbox) + b"/-n/\xff.jpg")).write_text("no UTF-8\n")
    before = site.images()
    site()
    assert site.images() == before
    (batch,) = site.batches("archive")
    assert {path.name for path in (batch / "images").iterdir()} == set(labels)
    assert len(site.learned().splitlines()) == 1 + len(labels) + 2
    assert not site.where()["in box"]


def test_a_name_that_no_class_can_have_goes_to_quarantine(site: Site) -> None:
    site.put("new\nline", "a", "b")
    site(code=3)
    assert "'new\\nline'" in site.said.read_text()
    assert site.where()["in box.quarantine"].total() == 2
    assert len(list((site.run / "rounds").iterdir())) == 1


def test_the_same_name_may_arrive_every_day(site: Site) -> None:
    for day in range(3):
        site.put("new", f"{day} a", f"{day} b")
        site()
    assert len(site.batches("archive")) == 3
    assert site.images().total() == 7
    assert len(site.learned().splitlines()) == 4


def test_every_suffix_of_an_image_is_taken(site: Site) -> None:
    for suffix in IMAGE_SUFFIXES:
        (site.inbox / "new").mkdir(exist_ok=True)
        (site.inbox / "new" / f"image{suffix}").write_text(f"{suffix}\n")
    site("--hold-out", 0)
    assert len(site.learned().splitlines()) == 1 + len(IMAGE_SUFFIXES)


@pytest.mark.parametrize(("count", "share", "held_out"), [
    (1, "20%", 0), (2, "20%", 1), (9, "20%", 4), (12, "20%", 5), (30, "20%", 6), (9, "0%", 0),
    (31, "50%", 15), (31, "0.5", 15), (30, "0.2", 6), (100, "0.08", 8), (9, "0.0", 0),
])  # fmt: skip
def test_how_many_are_held_out(site: Site, count: int, share: str, held_out: int) -> None:
    site.put("new", *map(str, range(count)))
    site("--hold-out", share)
    assert len(site.learned().splitlines()) == 1 + count - held_out
    assert site.where()["test"].total() == 1 + held_out


@pytest.mark.parametrize("options", [
    ("--nonsense", "1"), ("--hold-out", "51"), ("--hold-out", "x"), ("--inbox",), ("run",),
    ("--run", "/nothing"), ("--run", ""), ("--archive", "/proc/x"), ("--test", "/proc/self"),
    ("--x[$(touch x)]", "1"), ("--wait", "abc"), ("--wait", "-1"), ("--settle", "x"),
    ("--settle", ""), ("--keep", "0"), ("--keep", "all"), ("--format", ""), ("--hold-out", "0.51"),
    ("--hold-out", "20"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(site: Site, options: tuple[str, ...]) -> None:
    site.put("new", "a")
    site(*options, code=1 if "/proc/x" in options else 2)
    assert site.where()["in box"] == Counter("a")


def test_two_starts_at_once(site: Site) -> None:
    """The second is sent away, or waits."""
    site.put("new", "a", "b")
    (site.folder / "in box.work").mkdir()
    with (site.folder / "in box.work" / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        site(code=75)
        waiting = subprocess.Popen(
            site.command("--wait", 20), env=site.environment(), stdout=subprocess.PIPE
        )
        assert site.where()["in box"].total() == 2
    assert str(site.out).encode() in waiting.communicate()[0]
    assert site.where()["in box.archive"].total() == 1


def test_a_tlcli_that_outlives_the_script_is_not_disturbed(site: Site) -> None:
    site.put("new", "a", "b")
    hanging, reached = site.folder / "hanging", site.folder / "reached"
    names = {name: shlex.quote(str(path)) for name, path in (("hang", hanging), ("at", reached))}
    slow = site.folder / "slow"
    slow.write_text(
        f"#!/bin/sh\ntouch {names['at']}\nwhile [ -e {names['hang']} ]; do sleep 0.02; done\n"
        f'exec {shlex.quote(str(site.tlcli))} "$@"\n'
    )
    slow.chmod(0o755)
    hanging.touch()
    job = subprocess.Popen(site.command(), env=site.environment() | {"TLCLI": str(slow)})
    while not reached.exists():
        time.sleep(0.01)
    job.kill()
    job.wait()
    site(code=75)
    hanging.unlink()
    assert str(site.out) in site("--wait", 20)
    assert len(list((site.run / "rounds").iterdir())) == 2


@pytest.fixture
def killer(site: Site) -> Callable[..., int]:
    """Runs the script and kills it, with its children, at the k-th program that it starts."""
    bin_folder = site.folder / "bin"
    bin_folder.mkdir()
    for name, path in {**{c: shutil.which(c) for c in COMMANDS}, "tlcli": site.tlcli}.items():
        wrapper = bin_folder / name
        wrapper.write_text(KILLER.replace("NAME", shlex.quote(str(path))))
        wrapper.chmod(0o755)
    count = site.folder / "count"

    def start(kill_at: int) -> int:
        count.write_text("")
        environment = site.environment() | {"KILL_AT": str(kill_at), "COUNT": str(count)}
        environment |= {"PATH": f"{bin_folder}:/usr/bin:/bin", "TLCLI": str(bin_folder / "tlcli")}
        return subprocess.run(
            site.command("--hold-out", "50%"),
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            check=False,
        ).returncode

    return start


@pytest.mark.parametrize(
    ("contents", "code", "learned", "step"),
    [
        (("a", "b"), 0, 2, 7),
        (("poison", "poison"), 4, 1, 11),
        pytest.param(("a", "b", "c", "d", "e"), 0, 4, 1, marks=pytest.mark.slow),
        pytest.param(("broken", "broken"), 3, 1, 1, marks=pytest.mark.slow),
    ],
)
def test_a_kill_at_any_moment_loses_nothing(
    site: Site,
    killer: Callable[..., int],
    contents: tuple[str, ...],
    code: int,
    learned: int,
    step: int,
) -> None:
    """Before each program that is started; the start after it does the rest."""
    template = site.folder / "template"
    template.mkdir()
    for name in ("run", "test", "in box", "model.keras"):
        shutil.move(site.folder / name, template)
    for kill_at in range(step, 500, step):
        for path in site.folder.glob("in box*"):
            shutil.rmtree(path)
        shutil.copytree(template, site.folder, dirs_exist_ok=True)
        site.put("new", *contents)
        before = site.images()
        received = killer(kill_at)
        assert site.images() == before, kill_at
        assert site.out.read_text() in ("first\n", site.learned()), kill_at
        assert "poison" not in site.out.read_text()
        if received == -9:
            done = not site.where()["in box"] and not list(
                (site.folder / "in box.work").glob("batch-*")
            )
            site(code=0 if done else code)
        assert site.images() == before, kill_at
        assert site.out.read_text() == site.learned(), kill_at
        assert len(site.learned().splitlines()) == learned, kill_at
        place = "archive" if code == 0 else "quarantine"
        assert site.where()[f"in box.{place}"].total() > 0
        assert not site.where()["in box.work"]
        for name in ("run", "test"):
            shutil.rmtree(site.folder / name)
        if received != -9:
            assert received == code
            assert kill_at > 25
            return
    raise AssertionError("never got to the end")


def memory_of(run: Path) -> str | None:
    return runs.open_run(run).round().manifest.memory_sha256


@pytest.fixture
def real(run: Path, pictures: Path, tmp_path: Path) -> Site:
    """A site with a run of three classes, whose tlcli is the real one with the tiny backbone."""
    program = tmp_path / "tlcli"
    words = [shlex.quote(text) for text in (f"PYTHONPATH={HERE}", sys.executable)]
    program.write_text(f'#!/bin/sh\nexec env {" ".join(words)} -m tests.support.tiny "$@"\n')
    program.chmod(0o755)
    tiny.draw(tmp_path / "test", ["apple", "leaf", "sky"], count=6, seed=1)
    (tmp_path / "in box").mkdir()
    return Site(tmp_path, program)


@pytest.mark.slow
def test_the_crontab_line_of_the_docs_publishes_a_good_batch(
    real: Site, pictures: Path, isolated: Path
) -> None:
    """As cron starts it: a shell, hardly any variable; here with a class name in Japanese."""
    shutil.copytree(pictures / "second" / "sun", real.inbox / "太陽 1")
    (line,) = re.findall(r"^30 2 \* \* \* (.*)$", DOCS, re.M)
    folder = real.folder / "srv"
    folder.mkdir()
    for name, path in {"run": real.run, "inbox": real.inbox, "test": real.folder / "test"}.items():
        (folder / name).symlink_to(path)
    line = line.replace("/opt/tlcli", shlex.quote(str(HERE)))
    line = line.replace("/srv/flowers", shlex.quote(str(folder))) + " --settle 0"
    variables = [f"TLCLI={real.tlcli}", f"TLCLI_CACHE_DIR={isolated / 'cache'}"]
    command = ["env", "-i", *variables, "/bin/sh", "-c", f"{line} <&-"]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "round 2" in done.stdout
    assert runs.open_run(real.run).round().classes == ("apple", "leaf", "sky", "太陽 1")
    assert zipfile.is_zipfile(folder / "model.keras")
    assert real.images().total() == 18 + 8
    assert len(list((real.folder / "test" / "太陽 1").glob("*/*.png"))) == 4
    assert real() == ""


def wrong_name(site: Site) -> None:
    """Images of a known class under a new name."""
    tiny.draw(site.folder / "new", ["apple"], count=12, seed=7)
    (site.folder / "new" / "apple").rename(site.inbox / "moon")


def wrong_order(site: Site) -> None:
    """Images of known classes under each other's names."""
    tiny.draw(site.folder / "new", ["apple", "leaf"], count=3, seed=7)
    (site.folder / "new" / "apple").rename(site.inbox / "leaf")
    (site.folder / "new" / "leaf").rename(site.inbox / "apple")


def broken(site: Site) -> None:
    """Files that are no images."""
    site.put("moon", "not an image", "not either")


def learned_before(site: Site) -> None:
    """The very images that the run has learned, under another name."""
    tiny.draw(site.folder / "new", ["apple"])
    (site.folder / "new" / "apple").rename(site.inbox / "moon")


def impossible_name(site: Site) -> None:
    """A class name of two lines."""
    site.put("two\nlines", "a", "b")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (wrong_name, 4),
        pytest.param(wrong_order, 4, marks=pytest.mark.slow),
        pytest.param(broken, 3, marks=pytest.mark.slow),
        pytest.param(learned_before, 3, marks=pytest.mark.slow),
        pytest.param(impossible_name, 3, marks=pytest.mark.slow),
    ],
)
def test_what_is_wrong_with_a_batch_is_noticed(
    real: Site, spoil: Callable[[Site], None], code: int, isolated: Path
) -> None:
    real.out.write_text("the model before")
    memory = memory_of(real.run)
    spoil(real)
    images = real.where()["in box"]
    real(code=code, TLCLI_CACHE_DIR=str(isolated / "cache"))
    assert real.where()["in box.quarantine"] == images
    assert real.out.read_text() == "the model before"
    assert memory_of(real.run) == memory
    assert "error: Expected" in real.said.read_text()
    (batch,) = real.batches("quarantine")
    assert code == 3 or "min-class-accuracy" in (batch / "test.md").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("place", range(1, 5))
@pytest.mark.parametrize("before", [True, False])
def test_a_kill_around_each_command_of_the_real_thing(
    real: Site, pictures: Path, tmp_path: Path, place: int, before: bool
) -> None:
    """The command that the kill came after has ended; the start after it publishes the batch."""
    shutil.copytree(pictures / "second" / "sun", real.inbox / "sun")
    images = real.images()
    killing = tmp_path / "killing"
    text = 'printf . >> "$COUNT"\n'
    kill = f'[ "$(wc -c < "$COUNT")" -lt {place} ] || kill -9 0\n'
    call = f'{shlex.quote(str(real.tlcli))} "$@" || exit\n'
    killing.write_text(f"#!/bin/sh\n{text}{kill if before else ''}{call}{'' if before else kill}")
    killing.chmod(0o755)
    real(code=-9, TLCLI=str(killing), COUNT=str(tmp_path / "count"))
    assert real.images() == images
    assert "round 2" in real()
    assert real.images() == images
    assert zipfile.is_zipfile(real.out)
    assert len(runs.open_run(real.run).numbers()) == 2


def test_the_systemd_units_of_the_docs_are_valid(tmp_path: Path) -> None:
    service, timer = re.findall(r"```ini\n(.*?)```", DOCS, re.S)
    (start,) = re.findall(r"^ExecStart=(.*)$", service, re.M)
    assert start in DOCS.replace("30 2 * * * ", "ExecStart=").split("ExecStart=")[1]
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd here")
    (tmp_path / "retrain.service").write_text(
        service.replace("/opt/tlcli", str(HERE)).replace("User=flowers", "User=root")
    )
    (tmp_path / "retrain.timer").write_text(timer)
    done = subprocess.run(
        [analyze, "verify", tmp_path / "retrain.service", tmp_path / "retrain.timer"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "retrain" not in done.stderr, done.stderr


def test_the_docs_have_every_option_with_its_default() -> None:
    script = SCRIPT.read_text("utf-8")
    (table,) = re.findall(r"declare -A option=\((.*?)\n\)", script, re.S)
    defaults = dict(re.findall(r'\[([a-z-]+)\]=(?:""|(\S+))', table))
    documented = dict(re.findall(r"^\| `--([a-z-]+) [^|]*\| ([^|]*)\|", DOCS, re.M))
    assert defaults.keys() == documented.keys()
    for name, default in defaults.items():
        assert not default or f"`{default}`" in documented[name], name
