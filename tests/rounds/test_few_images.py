"""Rounds with one image a class, or two: which head fits is said."""

from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import heads

ADVICE = f"--head {heads.FOR_FEW}"


def drawn(folder: Path, count: int) -> Path:
    """So many images of each class."""
    return tiny.draw(folder / f"{count} each", list(tiny.COLOURS), count)


def test_a_default_that_does_not_fit_is_said_and_stays(tlcli: CommandLine, tmp_path: Path) -> None:
    run = tmp_path / "run"
    answer = tlcli.json("pretrain", drawn(tmp_path, 1), "--out", run)
    assert (answer["head"], answer["exact"]) == ("lda", True)
    assert ADVICE in tlcli.err
    tlcli("extend-classes", run, drawn(tmp_path, 2))
    assert ADVICE in tlcli.err
    tlcli("extend-classes", run, drawn(tmp_path, 3))
    assert ADVICE not in tlcli.err


@pytest.mark.parametrize("head", ["ncm-cosine", "ridge"])
def test_a_head_that_fits_is_left_alone(tlcli: CommandLine, tmp_path: Path, head: str) -> None:
    tlcli("pretrain", drawn(tmp_path, 1), "--out", tmp_path / "run", "--head", head)
    assert ADVICE not in tlcli.err


def test_auto_names_the_head_for_few_where_nothing_can_be_compared(
    tlcli: CommandLine, tmp_path: Path
) -> None:
    one, run = drawn(tmp_path, 1), tmp_path / "run"
    told = ("--out", run, "--head", "auto")
    assert heads.FOR_FEW in tlcli.error(3, "pretrain", one, *told)
    tiny.draw(one, ["sky"], 2)
    answer = tlcli.json("pretrain", one, *told)
    assert (ADVICE in tlcli.err) == (heads.HEADS[answer["head"]].enough_images > 1)
