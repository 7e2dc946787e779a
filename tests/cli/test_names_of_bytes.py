"""Files and folders whose names are no UTF-8: every command takes them, and gives them back."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tlcli.training import Epoch
from tlcli.training.tensorboard import watch_with


@pytest.fixture
def place(pictures: Path, tmp_path: Path) -> Path:
    """A folder of such a name, with images of such names."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    for part in ("first", "second", "test"):
        for path in sorted((pictures / part).rglob("*.png")):
            target = folder / part / path.parent.name / (path.stem + os.fsdecode(b"\xff.png"))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return folder


def test_rounds_and_what_is_asked_of_them(tlcli: CommandLine, place: Path) -> None:
    run, first = place / "run", place / "first"
    made = tlcli.json("pretrain", first, "--out", run)
    assert made["run"] == str(run)
    tlcli("extend-classes", run, place / "second")
    shutil.rmtree(place / "test" / "plum")
    for suffix in (".html", ".md"):
        tlcli("evaluate", run, place / "test", "--report", place / f"report{suffix}")
    tlcli("triage", run, place / "test", "--report", place / "triage.html")
    tlcli("moments", run, first, "--out", place / "first.h5")
    tlcli("rounds", "verify", run)
    for round_ in tlcli.json("rounds", "list", run)["rounds"]:
        assert tlcli.json("rounds", "show", run, "--round", round_["round"])
    predicted = tlcli("predict", run, first, "--json").splitlines()
    assert {json.loads(line)["path"] for line in predicted} == set(map(str, first.rglob("*.png")))


def test_an_index(tlcli: CommandLine, run: Path, place: Path) -> None:
    tlcli("index", "add", run, place / "first")
    image = next((place / "first" / "sky").iterdir())
    (answer,) = tlcli("index", "search", run, image, "-k", 1, "--json").splitlines()
    assert [near["path"] for near in json.loads(answer)["neighbours"]] == [str(image)]
    tlcli("index", "duplicates", run)


def test_an_adopted_model(tlcli: CommandLine, run: Path, place: Path) -> None:
    model = place / "model.keras"
    tlcli("export", run, "--out", model)
    tlcli("adopt", model, "--out", place / "adopted")
    tlcli("predict", place / "adopted", place / "test")


def test_events_for_tensorboard(place: Path) -> None:
    watch_with(place / "events")(Epoch(1, 0.5, 0.5, 0.5, 0.5, 1.0, 0.1, 1.0))
    assert list((place / "events").iterdir())
