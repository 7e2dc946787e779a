"""compare --report: one file that opens offline."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tests.support.pages import Page
from tlcli.reports import comparison_text
from tlcli.reports.comparison.page import comparison_page


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tiny.draw(tmp_path / "photos", ["apple", "leaf", "plum"], count=4)
    (folder / "plum").rename(folder / "<b>&plum")
    return folder


def test_the_report(tlcli: CommandLine, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    options = ("--rounds", "2+1", "--folds", 2, "--report", path)
    content = tlcli.json("compare", photos, *options)
    text = path.read_text("utf-8")
    page = Page(text)
    assert {"html", "table", "svg", "figure"} <= set(page.tags)
    assert "script" not in page.tags and "b" not in page.tags
    assert "<b>&plum" in page.words
    for entry in content["methods"]:
        assert f"{entry['strategy']} {entry['head']}" in page.words
    assert "://" not in text
    for name, value in page.attributes:
        if name in ("href", "xlink:href", "src"):
            assert value and value.startswith("#")
    assert re.search("width=device-width", text)
    assert text == comparison_page(content), "equal content gives equal bytes"
    ids = [value for name, value in page.attributes if name == "id"]
    drawn = [value for name, value in page.attributes if name == "xlink:href" and value]
    assert {value[1:] for value in drawn} <= set(ids)


def test_without_matplotlib_nothing_is_begun(
    tlcli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    message = tlcli.error(2, "compare", "no-such-data", "--report", tmp_path / "report.html")
    assert "pip install 'tlcli[report]'" in message


def test_a_report_that_cannot_be_written(tlcli: CommandLine, photos: Path, tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "report.html"
    assert "nowhere" in tlcli.error(6, "compare", photos, "--report", path)
    assert "is a folder" in tlcli.error(2, "compare", "no-such-data", "--report", tmp_path)


Entry = dict[str, Any]


def content(methods: list[Entry], best: Entry, free: Entry | None) -> Entry:
    return {
        "data": "photos",
        "images": 10,
        "rounds": [["a"]] * 14,
        "folds": 2,
        "exemplars_per_class": 7,
        "methods": methods,
        "left_out": [],
        "best": best,
        "best_without_old_images": free,
    }


def method(strategy: str, head: str, needs: str, mean: float) -> Entry:
    figures = {
        name: {"mean": mean, "sd": 0.01}
        for name in (
            "average_incremental_accuracy",
            "accuracy",
            "mean_class_accuracy",
            "forgetting",
        )
    }
    return {
        "backbone": "B",
        "layers": "last",
        "views": 1,
        "options": "",
        "width": 8,
        "milliseconds_per_image": None,
        "strategy": strategy,
        "head": head,
        "exact": strategy in ("merge", "joint"),
        "needs_old_images": needs,
        **figures,
        "excess_forgetting": {"mean": -0.0004, "sd": 0.0},
        "seconds": 1.0,
        "bytes_kept": 10**6,
    }


def chosen(entry: Entry, mean: float, sd: float) -> Entry:
    return entry | {"behind_best": {"mean": mean, "sd": sd}}


def test_the_advice_is_honest() -> None:
    merge = method("merge", "lda", "none", 0.9)
    replay = method("replay", "softmax", "some", 0.95)
    joint = method("joint", "svm", "all", 0.95)
    frozen = method("freeze-old", "softmax", "none", 0.95)

    text = comparison_text(content([joint, merge], chosen(joint, 0, 0), chosen(merge, 0.05, 0.01)))
    assert "The best is joint with the head svm on B: 95.0 ± 1.0 %" in text
    assert "It needs every old image in every round." in text
    assert "Without old images take merge with the head lda on B" in text
    assert "5.0 ± 1.0 points less." in text
    assert text.endswith("tlcli extend-classes RUN MORE")
    assert "+…" in text and "-0.0" not in text

    text = comparison_text(content([joint, merge], chosen(joint, 0, 0), chosen(merge, 0.01, 0.02)))
    assert "within the spread of the folds" in text

    text = comparison_text(content([frozen, merge], chosen(frozen, 0, 0), chosen(frozen, 0, 0)))
    assert "Take freeze-old with the head softmax on B: 95.0 ± 1.0 %" in text
    assert "--strategy freeze-old" in text

    text = comparison_text(content([replay], chosen(replay, 0, 0), None))
    assert "It needs 7 old images of every class." in text
    assert "--memory exemplars --exemplars-per-class 7" in text
