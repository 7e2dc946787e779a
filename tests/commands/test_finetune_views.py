"""finetune through the command line: what the frozen layers give is kept meanwhile."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.commands.test_finetune import NAMES, _interrupt, begun
from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import runs

SHORT = ("--unfreeze", "1", "--epochs", "3", "--augment", "light")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny.draw(tmp_path / "data", NAMES, count=16, contrast=0.3)


def test_views_are_kept_and_gone_afterwards(tlcli: CommandLine, data: Path) -> None:
    run = begun(tlcli, data)
    tlcli("finetune", run, data, *SHORT, "--cached-views", 3)
    config = runs.open_run(run).round().manifest.config
    assert config["cached_views"] == 3
    assert not (run / "training").exists()
    assert not [path for path in run.rglob(".*") if path.is_file()]


def test_what_the_disk_does_not_hold_is_said(
    tlcli: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run = begun(tlcli, data)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        error = tlcli.error(6, "finetune", run, data, *SHORT)
        assert str(run / "training") in error
        assert "--cached-gb" in error
        tlcli("finetune", run, data, *SHORT, "--epochs", 1, "--cached-gb", 0)
        assert "runs the whole network" in tlcli.err
    assert runs.open_run(run).numbers() == [1, 2]


def test_a_number_of_views_belongs_to_what_is_resumed(
    tlcli: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(tlcli, data)
    _interrupt(tlcli, monkeypatch, run, data)
    error = tlcli.error(2, "finetune", run, data, *SHORT, "--cached-views", 9, "--resume")
    assert "cached-views was 2 and is 9" in error


@pytest.mark.parametrize("wrong", [("--cached-views", -1), ("--cached-gb", "nan")])
def test_numbers_that_cannot_be_meant(
    tlcli: CommandLine, run: Path, wrong: tuple[str, Any]
) -> None:
    assert wrong[0] in tlcli.error(2, "finetune", run, run, *wrong)
