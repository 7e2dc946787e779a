"""`triage` and `predict --unknown-at` through the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tests.support.evaluations import NASTY
from tests.support.pages import Page
from tlcli import reports
from tlcli.reports.html import clean

RATE = ("--false-alarms", "10%")


@pytest.fixture
def inbox(pictures: Path, tmp_path: Path) -> Path:
    """New images of the three known classes and of two others, without classes."""
    folder = tmp_path / "inbox"
    folder.mkdir()
    for path in sorted((pictures / "test").rglob("*.png")):
        shutil.copy(path, folder / f"{path.parent.name}-{path.name}")
    return folder


def novel(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Every novel image, in a candidate or alone."""
    return [*found["singles"], *(image for c in found["candidates"] for image in c["images"])]


def test_new_classes_become_candidates(
    tlcli: CommandLine, run: Path, inbox: Path, pictures: Path, tmp_path: Path
) -> None:
    found = tlcli.json("triage", run, inbox, *RATE, "--copy-into", tmp_path / "new")
    new = {path.name for part in ("second", "third") for path in (pictures / part).iterdir()}
    names = [Path(entry["path"]).name.split("-")[0] for entry in novel(found)]
    assert sum(name in new for name in names) == 8
    assert sum(name not in new for name in names) <= 4
    assert (found["images"], found["known"], found["learned"]) == (20, 20 - len(names), 0)
    assert found["calibration_images"] == len(list((pictures / "first").rglob("*.png")))
    for entry in found["candidates"]:
        copies = {path.name for path in (tmp_path / "new" / entry["name"]).iterdir()}
        assert copies == {Path(image["path"]).name for image in entry["images"]}
        assert all(image["score"] > found["limit"] for image in entry["images"])
    learned = tlcli.json("extend-classes", run, tmp_path / "new")
    assert learned["new_classes"] == [entry["name"] for entry in found["candidates"]]
    assert tlcli.json("triage", run, inbox, *RATE)["learned"] == sum(
        len(entry["images"]) for entry in found["candidates"]
    )


def test_learned_images_are_never_novel(tlcli: CommandLine, run: Path, pictures: Path) -> None:
    found = tlcli.json("triage", run, pictures / "first", "--false-alarms", "50%")
    assert found["known"] == found["learned"] == found["images"]
    assert found["candidates"] == found["singles"] == []


def test_small_groups_are_listed_apart(tlcli: CommandLine, run: Path, inbox: Path) -> None:
    all_of = tlcli.json("triage", run, inbox, *RATE)
    apart = tlcli.json("triage", run, inbox, *RATE, "--min-images", 21)
    assert apart["candidates"] == []
    paths = {image["path"] for entry in all_of["candidates"] for image in entry["images"]}
    assert {entry["path"] for entry in apart["singles"]} >= paths
    scores = [entry["score"] for entry in apart["singles"]]
    assert scores == sorted(scores, reverse=True)


def test_the_page_shows_the_images(
    tlcli: CommandLine, run: Path, inbox: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    found = tlcli.json("triage", run, inbox, *RATE, "--report", page)
    shown = len(novel(found))
    text = page.read_text("utf-8")
    read = Page(text)
    assert read.tags.count("img") == read.tags.count("figure") == shown
    for name in ("html", "head", "title", "body", "h1"):
        assert read.tags.count(name) == 1
    sources = [value or "" for name, value in read.attributes if name == "src"]
    assert all(value.startswith("data:image/jpeg;base64,") for value in sources)
    assert not [value for name, value in read.attributes if name == "href"]
    assert "http" not in text.replace("http-equiv", "")
    for entry in novel(found):
        assert Path(entry["path"]).name in read.words
    tlcli.error(2, "triage", run, inbox, "--report", tmp_path / "page.txt")


def test_names_on_the_page_are_shown_and_never_obeyed(tmp_path: Path) -> None:
    entry = {"path": f"/photos/{NASTY}", "score": 12.0, "nearest": NASTY, "sha256": "0" * 64}
    content = {
        "run": NASTY,
        "round": 1,
        "images": 2,
        "known": 0,
        "false_alarms": 0.05,
        "calibration_images": 24,
        "calibrated_on": "cached features",
        "candidates": [{"name": "candidate-01", "images": [entry]}],
        "singles": [entry],
    }
    reports.write_triage(content, tmp_path / "page.html")
    read = Page((tmp_path / "page.html").read_text("utf-8"))
    assert read.words.count(clean(NASTY)) >= 2
    assert read.words.count(clean(Path(NASTY).name)) >= 4
    assert not {"script", "b", "img"} & set(read.tags)
    assert read.words.count("not shown: ") == 2


def test_text_names_the_next_step(
    tlcli: CommandLine, run: Path, inbox: Path, tmp_path: Path
) -> None:
    text = tlcli("triage", run, inbox, *RATE, "--copy-into", tmp_path / "new")
    assert f"tlcli extend-classes {run} {tmp_path / 'new'}" in text
    assert "candidate-01" in text


def test_the_limit_may_be_set_on_images_that_are_given(
    tlcli: CommandLine, run: Path, inbox: Path, pictures: Path, tmp_path: Path
) -> None:
    known = tmp_path / "known"
    tiny.draw(known, list(tiny.COLOURS)[:3], count=8, seed=3)
    found = tlcli.json("triage", run, inbox, *RATE, "--known", known)
    assert (found["calibrated_on"], found["calibration_images"]) == ("--known", 24)
    assert len(novel(found)) >= 8
    learned = tlcli.json("triage", run, inbox, *RATE, "--known", pictures / "first")
    default = tlcli.json("triage", run, inbox, *RATE)
    assert learned["limit"] == pytest.approx(default["limit"])
    assert "'" in tlcli.error(3, "triage", run, inbox, *RATE, "--known", pictures / "all")


def test_unknown_at_a_rate(tlcli: CommandLine, run: Path, inbox: Path) -> None:
    lines = tlcli("predict", run, inbox, "--unknown-at", "10%", "--json").splitlines()
    answers = {Path(entry["path"]).name: entry["label"] for entry in map(json.loads, lines)}
    found = tlcli.json("triage", run, inbox, *RATE)
    unknown = {name for name, label in answers.items() if label == "unknown"}
    assert unknown == {Path(entry["path"]).name for entry in novel(found)}
    plain = tlcli("predict", run, inbox, "--json").splitlines()
    for entry in map(json.loads, plain):
        name = Path(entry["path"]).name
        assert name in unknown or answers[name] == entry["label"]


@pytest.mark.parametrize("rate", ["0", "1"])
def test_rates_that_mean_nothing(tlcli: CommandLine, run: Path, inbox: Path, rate: str) -> None:
    tlcli.error(2, "triage", run, inbox, "--false-alarms", rate)
    tlcli.error(2, "predict", run, inbox, "--unknown-at", rate)


def test_where_no_features_are_at_hand_nothing_else_is_said(
    tlcli: CommandLine, run: Path, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run keeps no features, and the cache is that of another machine."""
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "cache"))
    error = tlcli.error(3, "triage", run, inbox, *RATE)
    assert "Received: 0 (cached features). Give some with --known DATA." in error


def test_what_is_missing_is_said(
    tlcli: CommandLine, run: Path, inbox: Path, pictures: Path, tmp_path: Path
) -> None:
    assert "--known" in tlcli.error(3, "triage", run, inbox, "--false-alarms", "0.1%")
    bare = tmp_path / "bare"
    tlcli("pretrain", pictures / "first", "--out", bare, "--memory", "none")
    assert "moments" in tlcli.error(2, "triage", bare, inbox)
    (tmp_path / "empty").mkdir()
    tlcli.error(3, "triage", run, tmp_path / "empty", *RATE)
    tlcli.error(2, "triage", run, inbox, "--copy-into", inbox / "new")
