"""What every report of an evaluation says, and that the command writes it."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tests.support.evaluations import evaluation
from tests.support.pages import Page
from tlcli.reports.evaluation import figures


def test_pairs_with_most_images_come_first() -> None:
    cells = [("a", "a", 8), ("a", "b", 1), ("b", "a", 3), ("b", "b", 1), ("b", "c", 1)]
    content = {
        "per_class": [{"class": "a", "images": 9}, {"class": "b", "images": 5}],
        "confusion": [{"class": c, "predicted": p, "images": n} for c, p, n in cells],
    }
    pairs = [(e["class"], e["predicted"], e["images"]) for e in figures.confused_pairs(content, 2)]
    assert pairs == [("b", "a", 3), ("a", "b", 1)]
    assert figures.confused_pairs(content, 1)[0]["share"] == pytest.approx(3 / 5)


def test_the_worst_class_is_the_one_that_is_recognized_worst() -> None:
    entries = [("a", 0.9, 0.2), ("b", None, None), ("c", 0.5, 0.6), ("d", 0.5, 0.4)]
    content = {"per_class": [{"class": c, "accuracy": a, "f1": f} for c, a, f in entries]}
    assert [entry["class"] for entry in figures.worst_classes(content, 9)] == ["d", "c", "a"]
    assert len(figures.worst_classes(content, 2)) == 2


def test_rounds_are_counted_and_not_spelt() -> None:
    numbers = figures.introductions(evaluation(40, rounds=12))
    assert numbers == list(range(1, 13)), "10 does not stand between 1 and 2"


def test_a_failed_gate_still_writes_every_report(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    tlcli("extend-classes", run, pictures / "second")
    page, text, junit = (tmp_path / name for name in ("report.html", "report.md", "junit.xml"))
    files = ("--report", page, "--report", text, "--junit", junit)
    options = ("--ignore-unknown", "--max-regression", 1, "--min-class-accuracy", 1)
    test = tiny.draw(tmp_path / "test", list(tiny.COLOURS)[:4], count=3, seed=5)
    wrong, right = list(tiny.COLOURS)[:2]
    next((test / wrong).iterdir()).rename(test / right / "mistaken.png")
    tlcli("evaluate", run, test, *files, *options, code=4)
    words = Page(page.read_text("utf-8")).words
    assert f"Failed: min-class-accuracy: lowest accuracy of a class ({right}) 75 %" in words
    assert "Passed: max-regression" in words and "Model card" in words
    assert "mistaken.png" in words and "not shown" not in words
    assert "min-class-accuracy" in text.read_text("utf-8")
    names = [case.get("name") for case in ElementTree.parse(junit).iter("testcase")]
    assert names == ["max-regression", "min-class-accuracy"]


def test_a_report_that_cannot_be_written_stops_before_any_work(
    tlcli: CommandLine, tmp_path: Path
) -> None:
    for code, option, name, wanted in (
        (2, "--report", "report.pdf", ".html or .md"),
        (6, "--report", "nowhere/report.md", "nowhere"),
        (6, "--junit", "nowhere/junit.xml", "--junit"),
    ):
        message = tlcli.error(code, "evaluate", "no-run", "no-data", option, tmp_path / name)
        assert wanted in message and "no-run" not in message
