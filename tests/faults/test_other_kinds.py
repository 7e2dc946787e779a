"""Links, pipes, folders and failing disks where a file of a run is expected."""

import errno
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.stranger import Stranger

Kind = Callable[[Path, Path], None]

SECONDS = 60
"""After which a command is said to hang."""


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """A command that waits for a pipe fails."""

    def fail(*arguments: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def linked(path: Path, elsewhere: Path) -> None:
    """The same content, but elsewhere."""
    if path.exists():
        path.rename(elsewhere)
    else:
        elsewhere.mkdir()
    path.symlink_to(elsewhere)


def dangling(path: Path, elsewhere: Path) -> None:
    removed(path)
    path.symlink_to(elsewhere)


def pipe(path: Path, elsewhere: Path) -> None:
    removed(path)
    os.mkfifo(path)


def folder(path: Path, elsewhere: Path) -> None:
    removed(path)
    path.mkdir()


def removed(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


KINDS = (linked, dangling, pipe, folder)


def parts_of(run: Path) -> list[str]:
    """Every file and folder of a run, but for those of its first round."""
    found = (str(path.relative_to(run)) for path in run.rglob("*"))
    return sorted(name for name in found if not name.startswith("rounds/0001/"))


def spoil(stranger: Stranger, part: str, kind: Kind, tmp_path: Path) -> Path:
    elsewhere = tmp_path / "elsewhere"
    removed(elsewhere)
    path = stranger.copy() / part
    kind(path, elsewhere)
    return path


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_verify_names_whatever_is_no_file_of_the_run(
    stranger: Stranger, tmp_path: Path, kind: Kind
) -> None:
    for part in parts_of(stranger.run):
        if part == "lock" or (kind is folder and not Path(part).suffix):
            continue
        path = spoil(stranger, part, kind, tmp_path)
        code, _, error = stranger.call(("rounds", "verify", "RUN"))
        assert code == 5, (part, error)
        assert str(path) in error
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_command_follows_a_link_or_waits_for_a_pipe(
    stranger: Stranger, tmp_path: Path, kind: Kind
) -> None:
    for part in parts_of(stranger.run):
        for words in (("rounds", "list", "RUN"), ("extend-classes", "RUN", "LEARNED")):
            spoil(stranger, part, kind, tmp_path)
            code, _, error = stranger.call(words)
            assert code in (0, 5), (part, error)
            assert len(error.splitlines()) == (code != 0), (part, error)


@pytest.mark.parametrize("part", ["lock", "rounds", "backbones", "training"])
@pytest.mark.parametrize("kind", [linked, dangling, pipe], ids=lambda kind: kind.__name__)
def test_nothing_is_written_through_a_link(
    stranger: Stranger, tmp_path: Path, part: str, kind: Kind
) -> None:
    spoil(stranger, part, kind, tmp_path)
    elsewhere = tmp_path / "elsewhere"
    before = sorted(map(str, elsewhere.rglob("*"))) if elsewhere.is_dir() else elsewhere.exists()
    code, _, error = stranger.call(("extend-classes", "RUN", "NEW"))
    assert code == 5, error
    assert len(error.splitlines()) == 1
    after = sorted(map(str, elsewhere.rglob("*"))) if elsewhere.is_dir() else elsewhere.exists()
    assert after == before


def test_a_run_may_be_named_by_a_link(stranger: Stranger, tmp_path: Path) -> None:
    stranger.copy().rename(tmp_path / "real")
    (tmp_path / "copy").symlink_to(tmp_path / "real")
    assert stranger.call(("rounds", "verify", "RUN"))[0] == 0


@pytest.mark.parametrize("make", [dangling, pipe], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("words", [("predict", "RUN", "IMAGE"), ("rounds", "verify", "RUN")])
def test_what_is_no_folder_is_no_run(
    stranger: Stranger, tmp_path: Path, make: Kind, words: tuple[str, ...]
) -> None:
    make(tmp_path / "copy", tmp_path / "nowhere")
    code, _, error = stranger.call(words)
    assert code in (2, 5)
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES], ids=errno.errorcode.get)
def test_verify_names_every_file_that_cannot_be_read_and_goes_on(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    run = stranger.copy()
    parts = [run / part for part in parts_of(run) if (run / part).is_file() and part != "lock"]
    described = [path for path in parts if path.name not in ("round.json", "backbone.json")]
    refuse(monkeypatch, {str(path) for path in described}, code)
    received, _, error = stranger.call(("rounds", "verify", "RUN"))
    assert received == 5
    assert len(error.splitlines()) == 1
    assert [path for path in described if str(path) not in error] == []
    assert os.strerror(code) in error


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES], ids=errno.errorcode.get)
def test_a_file_that_cannot_be_read_is_one_line(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    run = stranger.copy()
    for part in parts_of(run):
        if not (run / part).is_file() or part == "lock":
            continue
        with monkeypatch.context() as patch:
            refuse(patch, {str(run / part)}, code)
            for words in (
                ("rounds", "list", "RUN"),
                ("rounds", "show", "RUN"),
                ("predict", "RUN", "IMAGE"),
                ("extend-classes", "RUN", "LEARNED"),
            ):
                received, _, error = stranger.call(words)
                assert received in (0, 5), (part, error)
                assert len(error.splitlines()) == (received != 0)


def refuse(patch: pytest.MonkeyPatch, paths: set[str], code: int) -> None:
    """Let the system refuse to open some files."""
    real = os.open

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path) in paths:
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *arguments, **options)

    patch.setattr(os, "open", opened)
