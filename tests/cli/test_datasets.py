"""A divided dataset is refused with the command to type instead."""

import shlex
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support import tiny


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder with a dataset `my ds` in three parts."""
    for seed, part in enumerate(("train", "valid", "test")):
        tiny.draw(tmp_path / "my ds" / part, ["apple", "leaf"], count=3, seed=seed)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "advised"),
    [
        ("pretrain DS --out new", "pretrain TRAIN --out new --test VALID"),
        ("pretrain --json DS --out new", "pretrain --json TRAIN --out new --test VALID"),
        ("pretrain DS --out=new --test DS", "pretrain TRAIN --out=new --test VALID"),
        ("pretrain DS --out new --test=DS", "pretrain TRAIN --out new --test=VALID"),
        ("pretrain TRAIN --out new --test DS", "pretrain TRAIN --out new --test VALID"),
        ("extend-classes run DS -q", "extend-classes run TRAIN -q --test VALID"),
        ("extend-classes run TRAIN --strategy joint --old-data DS",
         "extend-classes run TRAIN --strategy joint --old-data TRAIN --test VALID"),
        ("evaluate run DS --round 1", "evaluate run TEST --round 1"),
        ("compare DS --folds 2", "compare TRAIN --folds 2"),
        ("moments run DS --out m.h5", "moments run TRAIN --out m.h5"),
        ("finetune run DS --epochs 1", "finetune run TRAIN --epochs 1 --test VALID"),
        ("data check DS", "data check TRAIN"),
        ("data divide DS", "data divide TRAIN --test TEST"),
        ("export run --format litert --int8 --out m.tflite --calibrate DS",
         "export run --format litert --int8 --out m.tflite --calibrate VALID"),
    ],
)  # fmt: skip
def test_the_command_to_type(
    tlcli: CommandLine, place: Path, run: Path, typed: str, advised: str
) -> None:
    parts = {
        "DS": "my ds",
        **{name.upper(): f"my ds/{name}" for name in ("train", "valid", "test")},
    }

    def words(text: str) -> list[str]:
        for name, path in parts.items():
            text = text.replace(name, shlex.quote(path))
        return shlex.split(text)

    error = tlcli.error(3, *words(typed))
    command = error.partition("Type `")[2].partition("`")[0]
    assert shlex.split(command) == ["tlcli", *words(advised)]


def test_what_is_advised_works(tlcli: CommandLine, place: Path) -> None:
    for typed in (("pretrain", "my ds", "--out", "new"), ("evaluate", "new", "my ds")):
        error = tlcli.error(3, *typed)
        command = error.partition("Type `")[2].partition("`")[0]
        answer = tlcli.json(*shlex.split(command)[1:])
    assert (answer["images"], answer["card"]["classes"]) == (6, 2)


def test_a_dataset_in_the_environment_is_typed(
    tlcli: CommandLine, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLCLI_PRETRAIN_TEST", "my ds")
    error = tlcli.error(3, "pretrain", "my ds/train", "--out", "new")
    assert "Type `tlcli pretrain 'my ds/train' --out new --test 'my ds/valid'`" in error


def test_without_such_a_part_no_command_is_made_up(tlcli: CommandLine, place: Path) -> None:
    (place / "my ds" / "train").rename(place / "elsewhere")
    error = tlcli.error(3, "pretrain", "my ds", "--out", "new")
    assert "Type" not in error
    assert "Give my ds/test to test on." in error
    assert "elsewhere (" not in error


def test_of_a_table_its_parts_are_typed(tlcli: CommandLine, place: Path) -> None:
    paths = sorted((place / "my ds").glob("*/*/*.png"))
    rows = [f"{path},{path.parent.name},{path.parents[1].name}\n" for path in paths]
    (place / "list.csv").write_text("".join(["path,label,split\n", *rows]))
    for typed in (("pretrain", "list.csv", "--out", "new"), ("evaluate", "new", "list.csv")):
        error = tlcli.error(3, *typed)
        assert error.endswith("To take all rows, give the table without that column.")
        command = shlex.split(error.partition("Type `")[2].partition("`")[0])
        answer = tlcli.json(*command[1:])
    assert (answer["images"], answer["card"]["classes"]) == (6, 2)


def test_images_for_8_bits_may_be_a_part_of_a_table(
    tlcli: CommandLine, place: Path, run: Path
) -> None:
    paths = sorted((place / "my ds").glob("*/*/*.png"))
    rows = [f"{path},{path.parent.name},{path.parents[1].name}\n" for path in paths]
    (place / "list.csv").write_text("".join(["path,label,split\n", *rows]))
    typed = ("export", run, "--format", "litert", "--int8", "--out", "m.tflite", "--calibrate")
    command = shlex.split(
        tlcli.error(3, *typed, "list.csv").partition("Type `")[2].partition("`")[0]
    )
    assert tlcli.json(*command[1:])["int8"]["images"] == 6
