"""What goes wrong outside of a command: its output, the system, another process, a signal."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import filelock
import pytest

from tests.cli.test_processes import HERE, call, interrupted
from tests.cli.test_processes import tlcli as words
from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import heads, images, runs
from tlcli.cli import app
from tlcli.commands import merge, pretrain

FULL = Path("/dev/full")


def printed_to(path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command with its standard output in a file."""
    with path.open("w") as out:
        return subprocess.run(
            words(*arguments), cwd=HERE, stdout=out, stderr=subprocess.PIPE, text=True, check=False
        )


def test_a_round_whose_result_cannot_be_printed_is_named(run: Path, tmp_path: Path) -> None:
    data = tiny.draw(tmp_path / "data", ["sun"], seed=90)
    done = printed_to(FULL, "extend-classes", run, data, "--json")
    assert done.returncode == 6
    assert len(done.stderr.splitlines()) == 1
    assert f"Round 2 of {run} is committed" in done.stderr
    assert os.strerror(errno.ENOSPC) in done.stderr
    assert runs.open_run(run).numbers() == [1, 2]


@pytest.mark.parametrize("closed", [">&-", "> /dev/full"])
def test_a_result_that_cannot_be_printed_is_one_line(run: Path, closed: str) -> None:
    command = " ".join(words("rounds", "list", run))
    done = subprocess.run(
        ["bash", "-c", f"{command} {closed}"], cwd=HERE, capture_output=True, text=True, check=False
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (6, 1)


@pytest.mark.parametrize("closed", ["2>&-", "2> /dev/full"])
def test_the_code_is_right_where_no_error_can_be_printed(tmp_path: Path, closed: str) -> None:
    command = " ".join(words("rounds", "list", tmp_path))
    done = subprocess.run(["bash", "-c", f"{command} {closed}"], cwd=HERE, check=False)
    assert done.returncode == 5


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
@pytest.mark.parametrize("where", ["rounds show", "predict"])
def test_a_system_that_has_run_out_of_something_is_no_damage(
    tlcli: CommandLine,
    run: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    where: str,
) -> None:
    def refuse(path: Path, *arguments: Any, **options: Any) -> NoReturn:
        raise OSError(number, os.strerror(number), str(path))

    paths = [pictures / "test"] if where == "predict" else []
    monkeypatch.setattr(Path, "read_bytes", refuse)
    monkeypatch.setattr(Path, "read_text", refuse)
    error = tlcli.error(6, *where.split(), run, *paths)
    assert os.strerror(number) in error
    assert "damaged" not in error


def test_an_image_is_not_left_out_where_no_more_files_can_be_opened(
    tlcli: CommandLine, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tlcli.images import reading

    def refuse(path: Path) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    data = tiny.draw(tmp_path / "data", ["sun"], seed=91)
    monkeypatch.setattr(reading, "_require_regular", refuse)
    assert "Too many open files" in tlcli.error(6, "extend-classes", run, data)
    assert runs.open_run(run).numbers() == [1]


def test_a_file_system_without_locks_is_a_storage_error(
    tlcli: CommandLine, run: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    error = tlcli.error(6, "extend-classes", run, pictures / "second")
    assert str(run / "lock") in error


def test_memory_that_is_used_up_is_a_storage_error(
    tlcli: CommandLine, run: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(heads, "load", refuse)
    assert "memory" in tlcli.error(6, "predict", run, pictures / "test")


@pytest.mark.parametrize(("module", "name"), [(images, "scan"), (heads, "save")])
def test_a_run_that_is_removed_meanwhile_is_a_run_error(
    tlcli: CommandLine,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
) -> None:
    original = getattr(module, name)

    def removing(*arguments: Any, **options: Any) -> Any:
        shutil.rmtree(run)
        return original(*arguments, **options)

    data = tiny.draw(tmp_path / "data", ["sun"], seed=92)
    monkeypatch.setattr(module, name, removing)
    error = tlcli.error(5, "extend-classes", run, data)
    assert str(run) in error
    assert os.strerror(errno.ENOENT) in error


@pytest.mark.parametrize("command", ["pretrain", "merge", "extend-classes", "finetune"])
def test_a_busy_run_is_said_before_anything_is_read(
    tlcli: CommandLine,
    run: Path,
    first_run: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    def refuse(*arguments: Any, **options: Any) -> NoReturn:
        raise AssertionError("read too early")

    monkeypatch.setattr(images, "scan", refuse)
    monkeypatch.setattr(pretrain, "scan", refuse)
    monkeypatch.setattr(merge, "_united", refuse)
    arguments: dict[str, tuple[object, ...]] = {
        "pretrain": (pictures / "first", "--out", run),
        "merge": (first_run, first_run, "--out", run),
    }
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        error = tlcli.error(75, command, *arguments.get(command, (run, pictures / "first")))
    assert "--wait" in error


@pytest.mark.parametrize("group", [(), ("rounds",), ("cache",), ("data",), ("index",)])
def test_a_group_without_a_command_prints_its_help(
    tlcli: CommandLine, group: tuple[str, ...]
) -> None:
    assert tlcli(*group, code=2) == ""
    told = tlcli.err
    assert told == tlcli(*group, "--help")
    assert told.startswith("Usage: tlcli")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_that_something_turned_into_another_error_is_still_one(
    tlcli: CommandLine, run: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As an extension module does with what is raised while it is imported."""

    def imported(*arguments: Any, **options: Any) -> NoReturn:
        monkeypatch.setattr(app, "_stopped", [number])
        raise ImportError("initialization failed")

    monkeypatch.setattr(runs, "open_run", imported)
    assert "stopped" in tlcli.error(128 + number, "rounds", "list", run)


def test_a_terminal_that_is_closed_ends_a_command(run: Path, tmp_path: Path) -> None:
    data = tiny.draw(tmp_path / "data", ["sun"], seed=93)
    done = interrupted("images:scan", signal.SIGHUP, "extend-classes", run, data)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (129, "", 1)
    assert runs.open_run(run).numbers() == [1]


def test_signals_that_were_ignored_stay_ignored(run: Path, tmp_path: Path) -> None:
    """As under nohup, and of a job that a shell script puts into the background."""
    data = tiny.draw(tmp_path / "data", ["sun"], seed=94)
    code = (
        "import os, signal\n"
        "for number in (signal.SIGHUP, signal.SIGINT): signal.signal(number, signal.SIG_IGN)\n"
        "from tests.support import tiny\nfrom tlcli import runs\nfrom tlcli.cli import main\n"
        "tiny.install()\ncommit = runs.Writer.commit\n"
        "def interrupted(*arguments):\n"
        "    for number in (signal.SIGHUP, signal.SIGINT): os.kill(os.getpid(), number)\n"
        "    return commit(*arguments)\n"
        "runs.Writer.commit = interrupted\nmain()\n"
    )
    command = [sys.executable, "-c", code, "extend-classes", str(run), str(data)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert call("rounds", "verify", run).returncode == 0
    assert runs.open_run(run).numbers() == [1, 2]
