"""Fixtures of the tests with files of a stranger: import them by name."""

from pathlib import Path

import pytest

from tests.support.stranger import Stranger
from tlcli.cli import app

__all__ = ["foreign_run", "stranger"]


@pytest.fixture
def stranger(
    tiny_backbone: None,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    foreign_run: Path,
    pictures: Path,
) -> Stranger:
    return Stranger(capfd, tmp_path, foreign_run, pictures)


@pytest.fixture(scope="module")
def foreign_run(
    tiny_backbone: None, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run with everything in it that a round can keep."""
    run = tmp_path_factory.mktemp("foreign") / "run"
    keeping = ("--memory", "exemplars", "--exemplars-per-class", "3")
    assert app.run(["pretrain", str(pictures / "first"), "--out", str(run), *keeping]) == 0
    assert app.run(["extend-classes", str(run), str(pictures / "second")]) == 0
    return run
