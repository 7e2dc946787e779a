"""`evaluate` through the command line: every figure agrees with what `predict` answers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.conftest import CommandLine
from tests.support import independent, tiny

Json = dict[str, Any]

HERE = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test images of which two in every class show the colour of another: mistakes."""
    folder = tmp_path_factory.mktemp("photos")
    names = list(tiny.COLOURS)
    tiny.draw(folder, names, count=5, seed=21)
    for name, other in zip(names, [*names[1:], names[0]], strict=True):
        tiny.draw(folder / "aside", [other], count=2, seed=22)
        for number, path in enumerate(sorted((folder / "aside" / other).iterdir())):
            path.rename(folder / name / f"wrong-{number}{path.suffix}")
    shutil.rmtree(folder / "aside")
    return folder


@pytest.fixture(scope="module")
def rounds(first_run: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three rounds, which no test changes."""
    from tlcli.cli import app

    run = tmp_path_factory.mktemp("rounds") / "run"
    shutil.copytree(first_run, run)
    for part in ("second", "third"):
        assert app.run(["extend-classes", str(run), str(pictures / part)]) == 0
    return run


def answers(tlcli: CommandLine, run: Path, paths: list[str], number: int) -> list[Json]:
    lines = tlcli("predict", run, *paths, "--json", "--top", 99, "--round", number).splitlines()
    return [json.loads(line) for line in lines]


def labels_of(data: Path) -> dict[str, str]:
    return {str(path): path.parent.name for path in sorted(data.glob("*/*"))}


@pytest.mark.numerics
def test_all_figures_agree_with_the_answers_of_predict(
    tlcli: CommandLine, rounds: Path, photos: Path
) -> None:
    report = tlcli.json("evaluate", rounds, photos, "--all-rounds")
    assert report["accuracy"] < 0.9
    independent.assert_agrees(report, tlcli, labels_of(photos))
    assert [entry["classes"] for entry in report["rounds"]] == [3, 4, 5]


def test_an_earlier_round_is_measured_as_if_it_were_the_last(
    tlcli: CommandLine, rounds: Path, photos: Path, pictures: Path
) -> None:
    received = tlcli.json("evaluate", rounds, photos, "--round", 2, "--ignore-unknown")
    assert (received["round"], len(received["per_class"])) == (2, 4)
    assert [entry["round"] for entry in received["rounds"]] == [1, 2]
    assert received["card"]["memory_sha256"] is not None
    error = tlcli.error(3, "evaluate", rounds, photos, "--round", 2)
    assert "plum" in error
    assert "9" in tlcli.error(2, "evaluate", rounds, photos, "--round", 9)


def test_a_round_that_was_rolled_back_is_not_on_the_way(
    tlcli: CommandLine, run: Path, photos: Path, pictures: Path
) -> None:
    tlcli("extend-classes", run, pictures / "second", "--strategy", "naive")
    tlcli("rounds", "rollback", run)
    tlcli("extend-classes", run, pictures / "second")
    report = tlcli.json("evaluate", run, photos, "--ignore-unknown", "--max-regression", "30%")
    assert [entry["round"] for entry in report["rounds"]] == [1, 3, 4]
    assert report["rounds"][0]["accuracy"] == report["rounds"][1]["accuracy"]
    assert report["gates"][0]["value"] < 0.3


def test_mistakes_are_the_surest_first(tlcli: CommandLine, rounds: Path, photos: Path) -> None:
    report = tlcli.json("evaluate", rounds, photos)
    true = labels_of(photos)
    wrong = [
        answer
        for answer in answers(tlcli, rounds, list(true), 3)
        if answer["label"] != true[answer["path"]]
    ]
    wrong.sort(key=lambda answer: -answer["probability"])
    assert {entry["path"] for entry in report["mistakes"]} == {entry["path"] for entry in wrong}
    received = [entry["probability"] for entry in report["mistakes"]]
    assert received == pytest.approx([entry["probability"] for entry in wrong])
    for entry in report["mistakes"]:
        assert true[entry["path"]] == entry["class"] != entry["predicted"]


def test_reliability_holds_every_image_and_gives_the_calibration_error(
    tlcli: CommandLine, rounds: Path, photos: Path
) -> None:
    report = tlcli.json("evaluate", rounds, photos)
    bins = report["reliability"]
    assert sum(entry["images"] for entry in bins) == report["images"]
    gaps = [abs(e["accuracy"] - e["confidence"]) * e["images"] / report["images"] for e in bins]
    assert sum(gaps) == pytest.approx(report["ece"])
    assert all(e["from"] <= e["confidence"] <= e["to"] for e in bins)


def test_two_runs_are_compared_image_by_image(
    tlcli: CommandLine, rounds: Path, run: Path, photos: Path, pictures: Path
) -> None:
    tlcli("extend-classes", run, pictures / "second", "--strategy", "naive")
    found = tlcli.json("evaluate", rounds, photos, "--against", run)["against"]
    true = labels_of(photos)
    paths = [path for path, label in true.items() if label != "plum"]
    ours, theirs = (
        np.array([a["label"] == true[a["path"]] for a in answers(tlcli, of, paths, number)])
        for of, number in ((rounds, 3), (run, 2))
    )
    assert (found["images"], found["classes"], found["round"]) == (len(paths), 4, 2)
    assert found["accuracy"] == pytest.approx(ours.mean())
    assert found["other_accuracy"] == pytest.approx(theirs.mean())
    assert found["only_this"] == (ours & ~theirs).sum() > 0
    assert found["only_other"] == (theirs & ~ours).sum()
    assert found["both_right"] + found["both_wrong"] == (ours == theirs).sum()
    fair = stats.binomtest(found["only_this"], found["only_this"] + found["only_other"])
    assert found["p_value"] == pytest.approx(fair.pvalue)
    low, high = found["interval"]
    assert low <= found["difference"] <= high


def test_a_run_against_itself_differs_by_nothing(
    tlcli: CommandLine, rounds: Path, photos: Path
) -> None:
    found = tlcli.json("evaluate", rounds, photos, "--against", rounds)["against"]
    assert (found["difference"], found["interval"], found["p_value"]) == (0, [0, 0], 1)


def test_the_worst_class_is_a_gate_and_is_named(
    tlcli: CommandLine, rounds: Path, photos: Path
) -> None:
    report = tlcli.json("evaluate", rounds, photos, "--min-class-accuracy", "99%", code=4)
    (gate,) = report["gates"]
    worst = min(report["per_class"], key=lambda entry: entry["accuracy"])
    assert (gate["class"], gate["value"]) == (worst["class"], worst["accuracy"])
    assert repr(worst["class"]) in tlcli.err
    tlcli.json("evaluate", rounds, photos, "--min-class-accuracy", "0.1")


def test_the_card_names_the_data_by_its_content(
    tlcli: CommandLine, rounds: Path, photos: Path, tmp_path: Path
) -> None:
    card = tlcli.json("evaluate", rounds, photos)["card"]
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    assert tlcli.json("evaluate", rounds, moved)["card"]["data_sha256"] == card["data_sha256"]
    next(moved.glob("*/*")).unlink()
    assert tlcli.json("evaluate", rounds, moved)["card"]["data_sha256"] != card["data_sha256"]
    assert (card["classes"], card["backbone"], card["head"]) == (5, "EfficientNetLite0", "lda")
    assert card["learned_images"] == 40


def test_other_runs_that_cannot_be_compared(
    tlcli: CommandLine, rounds: Path, photos: Path, tmp_path: Path
) -> None:
    assert "nowhere" in tlcli.error(
        2, "evaluate", rounds, photos, "--against", tmp_path / "nowhere"
    )
    strange = tiny.draw(tmp_path / "strange", ["sky", "sun"])
    for name in ("sky", "sun"):
        (strange / name).rename(strange / f"other {name}")
    tlcli("pretrain", strange, "--out", other := tmp_path / "other")
    assert "both runs" in tlcli.error(3, "evaluate", rounds, photos, "--against", other)


def test_a_gate_that_cannot_be_measured_does_not_pass(
    tlcli: CommandLine, run: Path, photos: Path, pictures: Path
) -> None:
    tlcli("extend-classes", run, pictures / "second")
    command = ("evaluate", run, photos, "--ignore-unknown", "--max-regression", "50%")
    assert tlcli.json(*command)["gates"][0]["passed"]
    tlcli("rounds", "prune", run, "--keep", 1)
    (gate,) = tlcli.json(*command, code=4)["gates"]
    assert (gate["value"], gate["passed"]) == (None, False)
    first = ("evaluate", run, photos, "--round", 1)
    assert "1" in tlcli.error(2, *first)


def test_reports_are_written_though_nobody_reads_the_answer(
    rounds: Path, photos: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.md"
    command = f"{sys.executable} -m tests.support.tiny evaluate {rounds} {photos} --report {report}"
    done = subprocess.run(
        ["bash", "-c", f"{command} > /dev/full"], cwd=HERE, capture_output=True, text=True
    )
    assert done.returncode == 6
    assert report.read_text()


def test_a_device_is_no_file_for_a_report(
    tlcli: CommandLine, rounds: Path, photos: Path, tmp_path: Path
) -> None:
    os.mkfifo(pipe := tmp_path / "junit.xml")
    assert "pipe" in tlcli.error(2, "evaluate", rounds, photos, "--junit", pipe)
    (link := tmp_path / "link.md").symlink_to(tmp_path / "report.md")
    tlcli("evaluate", rounds, photos, "--report", link)
    assert link.is_symlink()
    assert (tmp_path / "report.md").read_text()


def test_many_rounds_fit_into_a_terminal(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    names = [f"kind {number}" for number in range(8)]
    for number, name in enumerate(names):
        tiny.draw(tmp_path / name, ["sun"], count=3, seed=100 + number)
        (tmp_path / name / "sun").rename(tmp_path / name / name)
        tlcli("extend-classes", run, tmp_path / name, "--no-keras-model")
    text = tlcli("evaluate", run, pictures / "test", "--ignore-unknown")
    assert "3 columns of earlier rounds are left out" in text
    assert "classes of round 9" in text
    assert "classes of round 1 " in text
