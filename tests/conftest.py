"""What every test runs under: no network, no cache or log folder of the user."""

import json
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support import tiny
from tests.support.stranger import Stranger
from tlcli.cli import app
from tlcli.signals import STOPPING


@pytest.fixture(scope="session", autouse=True)
def heard() -> None:
    """Tests and processes that they start hear signals, also under nohup and in the background."""
    for number in STOPPING:
        if signal.getsignal(number) == signal.SIG_IGN:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)


@pytest.fixture(scope="session", autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Caches and logs go to a temporary folder, and a connection is an error."""
    folder = tmp_path_factory.mktemp("isolated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLCLI_CACHE_DIR", str(folder / "cache"))
        patch.setenv("TLCLI_LOG_DIR", str(folder / "log"))
        patch.setenv("COLUMNS", "160")  # tables are as wide in every terminal, and without one
        patch.setattr(socket.socket, "connect", _refuse)
        patch.setattr(socket, "getaddrinfo", _refuse)
        yield folder


def _refuse(*arguments: object, **options: object) -> NoReturn:
    raise OSError("tests have no network")


@contextmanager
def _tiny() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch.setattr)
        yield


@pytest.fixture(scope="module")
def tiny_backbone(isolated: Path) -> Iterator[None]:
    """A tiny seeded backbone in place of the default one, until the end of the module."""
    with _tiny():
        yield


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of class folders: three rounds, all of them together, a test set."""
    folder = tmp_path_factory.mktemp("pictures")
    names = list(tiny.COLOURS)
    for part, classes in {"first": names[:3], "second": names[3:4], "third": names[4:]}.items():
        tiny.draw(folder / part, classes)
        tiny.draw(folder / "all", classes)
    tiny.draw(folder / "test", names, count=4, seed=1)
    return folder


@pytest.fixture(scope="session")
def first_run(isolated: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run after round 1, to be copied before it is changed."""
    run = tmp_path_factory.mktemp("runs") / "first"
    with _tiny():
        assert app.run(["pretrain", str(pictures / "first"), "--out", str(run)]) == 0
    return run


@pytest.fixture
def run(first_run: Path, tmp_path: Path) -> Path:
    """A run after round 1 that the test may change."""
    return Path(shutil.copytree(first_run, tmp_path / "run"))


@dataclass
class CommandLine:
    """Calls the command line in this process."""

    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: object, code: int = 0) -> str:
        """Standard output, after the exit code was compared."""
        self.capture.readouterr()
        received = app.run([str(argument) for argument in arguments])
        out, self.err = self.capture.readouterr()
        assert received == code, self.err
        return out

    def json(self, *arguments: object, code: int = 0) -> dict[str, Any]:
        """The one object on standard output."""
        return dict(json.loads(self(*arguments, "--json", code=code)))

    def error(self, code: int, *arguments: object) -> str:
        """The one line on standard error, where nothing may stand on standard output."""
        assert self(*arguments, code=code) == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture
def tlcli(tiny_backbone: None, capfd: pytest.CaptureFixture[str]) -> CommandLine:
    """The command line with the tiny backbone."""
    return CommandLine(capfd)


@pytest.fixture(scope="module")
def foreign_run(
    tiny_backbone: None, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run with everything in it that a round can keep."""
    run = tmp_path_factory.mktemp("foreign") / "run"
    table = run.with_name("first.csv")
    images = sorted((pictures / "first").glob("*/*.png"))
    rows = (f"{path},{path.parent.name},{path.stem}" for path in images)
    table.write_text("\n".join(["path,label,group", *rows]))
    keeping = ("--memory", "exemplars", "--exemplars-per-class", "3")
    drawing = ("--fit", "crop", "--white-level", "4095")
    assert app.run(["pretrain", str(table), "--out", str(run), *keeping, *drawing]) == 0
    assert app.run(["extend-classes", str(run), str(pictures / "second")]) == 0
    return run


@pytest.fixture
def stranger(
    tiny_backbone: None,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    foreign_run: Path,
    pictures: Path,
) -> Stranger:
    """Calls commands on copies of a run that a stranger has changed."""
    return Stranger(capfd, tmp_path, foreign_run, pictures)
