"""`evaluate` on images that the run has learned: left out and counted, wherever they come from."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.conftest import CommandLine
from tests.support import tiny

Json = dict[str, Any]

NAMES = ("apple", "sky", "leaf")


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """Nine images of the three classes of round 1, which no run has learned."""
    return tiny.draw(tmp_path / "fresh", NAMES, count=3, seed=50)


def copied(sources: Iterable[Path], target: Path) -> Path:
    """Copies under new names, of folders of class folders, in one such folder."""
    for source in sources:
        for path in sorted(source.glob("*/*")):
            (target / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / path.parent.name / f"{source.name}-{path.name}")
    return target


def figures(report: Json) -> Json:
    """What must not depend on learned images beside the others."""
    names = ("images", "accuracy", "log_loss", "confusion", "intervals", "rounds", "per_class")
    return {name: report[name] for name in names}


@pytest.mark.parametrize("gate", [(), ("--fail-under", "0.99"), ("--max-regression", "1")])
def test_nothing_is_measured_on_learned_images_alone(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, gate: tuple[str, ...]
) -> None:
    error = tlcli.error(3, "evaluate", run, pictures / "first", *gate)
    assert "24 images were all learned by" in error
    assert "--include-learned" in error
    renamed = copied([pictures / "first"], tmp_path / "renamed")
    assert "all learned" in tlcli.error(3, "evaluate", run, renamed, *gate)


def test_a_mixture_is_measured_as_its_new_images_are(
    tlcli: CommandLine, run: Path, pictures: Path, fresh: Path, tmp_path: Path
) -> None:
    alone = tlcli.json("evaluate", run, fresh)
    assert alone["learned"] == {"left_out": 0, "included": 0}
    assert tlcli.err == ""
    mixture = copied([fresh, pictures / "first"], tmp_path / "mixture")
    report = tlcli.json("evaluate", run, mixture)
    assert "24 of 33 images were learned before and left out" in tlcli.err
    assert report["learned"] == {"left_out": 24, "included": 0}
    assert figures(report) == figures(alone)
    assert report["card"]["data_sha256"] == alone["card"]["data_sha256"]
    assert report["card"]["learned_in_data"] == report["learned"]


def test_they_are_measured_where_that_is_wanted(
    tlcli: CommandLine, run: Path, pictures: Path, fresh: Path, tmp_path: Path
) -> None:
    mixture = copied([fresh, pictures / "first"], tmp_path / "mixture")
    report = tlcli.json("evaluate", run, mixture, "--include-learned")
    assert (report["images"], report["learned"]) == (33, {"left_out": 0, "included": 24})
    text = tlcli("evaluate", run, mixture, "--include-learned")
    assert "24 of them were learned before: the figures look better than they are." in text


def test_every_report_says_how_many(
    tlcli: CommandLine, run: Path, pictures: Path, fresh: Path, tmp_path: Path
) -> None:
    mixture = copied([fresh, pictures / "first"], tmp_path / "mixture")
    page, markdown, junit = (tmp_path / name for name in ("r.html", "r.md", "r.xml"))
    files = ("--report", page, "--report", markdown, "--junit", junit)
    text = tlcli("evaluate", run, mixture, *files)
    for written in (text, page.read_text(), markdown.read_text(), junit.read_text()):
        assert "24 were learned before and left out." in written
    for written in (page.read_text(), markdown.read_text()):
        assert "learned_in_data.left_out" in written
    properties = {
        entry.get("name"): entry.get("value") for entry in ElementTree.parse(junit).iter("property")
    }
    assert (properties["learned_left_out"], properties["learned_included"]) == ("24", "0")


def test_a_class_whose_images_were_all_learned_fails_its_gate(
    tlcli: CommandLine, run: Path, pictures: Path, fresh: Path, tmp_path: Path
) -> None:
    shutil.rmtree(fresh / "leaf")
    mixture = copied([fresh, pictures / "first"], tmp_path / "mixture")
    gate = ("--min-class-accuracy", "0.01")
    tlcli.json("evaluate", run, fresh, *gate)
    (only,) = tlcli.json("evaluate", run, mixture, *gate, code=4)["gates"]
    assert (only["class"], only["value"], only["passed"]) == ("leaf", None, False)


def test_all_rounds_are_measured_on_the_same_images(
    tlcli: CommandLine, run: Path, pictures: Path, fresh: Path, tmp_path: Path
) -> None:
    """What round 2 learned is left out for round 1 too, whichever is measured."""
    tlcli("extend-classes", run, pictures / "second")
    tiny.draw(fresh, ["sun"], count=3, seed=50)
    alone = tlcli.json("evaluate", run, fresh, "--all-rounds")
    mixture = copied([fresh, pictures / "first", pictures / "second"], tmp_path / "mixture")
    report = tlcli.json("evaluate", run, mixture, "--all-rounds")
    assert report["learned"]["left_out"] == 32
    assert figures(report) == figures(alone)
    options = ("--round", 1, "--ignore-unknown")
    more = copied([pictures / "first", fresh], tmp_path / "more")
    first = tlcli.json("evaluate", run, more, *options)
    assert figures(first) == figures(tlcli.json("evaluate", run, fresh, *options))
    again = tiny.draw(tmp_path / "again", ["apple"], count=3, seed=51)
    tlcli("extend-classes", run, again)
    assert "all learned" in tlcli.error(3, "evaluate", run, again, "--round", 1)


def test_removed_images_are_new_again_but_not_to_the_round_that_learned_them(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    apples = pictures / "first" / "apple"
    some = sorted(apples.iterdir())[:3]
    tlcli("remove-classes", run, *(word for path in some for word in ("--images", path)))
    report = tlcli.json("evaluate", run, pictures / "first")
    assert (report["images"], report["learned"]["left_out"]) == (3, 21)
    assert "round 1 had learned 3 of the 3 images, which were removed since" in tlcli.err
    assert "all learned" in tlcli.error(3, "evaluate", run, pictures / "first", "--round", 1)


def test_two_runs_are_compared_on_what_neither_has_learned(
    tlcli: CommandLine, run: Path, pictures: Path, fresh: Path, tmp_path: Path
) -> None:
    theirs = tiny.draw(tmp_path / "theirs", NAMES, count=4, seed=52)
    tlcli("pretrain", theirs, "--out", other := tmp_path / "other")
    mixture = copied([fresh, theirs, pictures / "first"], tmp_path / "mixture")
    report = tlcli.json("evaluate", run, mixture, "--against", other)
    assert report["learned"]["left_out"] == 24 + 12
    assert report["images"] == report["against"]["images"] == 9
    error = tlcli.error(3, "evaluate", run, theirs, "--against", other)
    assert f"learned by {run} or {other}" in error


@pytest.mark.parametrize("memory", ["none", "features", "exemplars"])
def test_every_memory_knows_what_it_learned(
    tlcli: CommandLine, pictures: Path, tmp_path: Path, memory: str
) -> None:
    run = tmp_path / "run"
    tlcli("pretrain", pictures / "first", "--out", run, "--memory", memory)
    assert "all learned" in tlcli.error(3, "evaluate", run, pictures / "first")


def test_moments_count_as_learned(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    tlcli("moments", run, pictures / "second", "--out", tmp_path / "m.h5")
    tlcli("extend-classes", run, "--moments", tmp_path / "m.h5")
    assert "all learned" in tlcli.error(3, "evaluate", run, pictures / "second")


def test_bad_files_are_a_share_of_all_that_was_given(
    tlcli: CommandLine, run: Path, pictures: Path, fresh: Path, tmp_path: Path
) -> None:
    mixture = copied([fresh, pictures / "first"], tmp_path / "mixture")
    (mixture / "apple" / "broken.png").write_bytes(b"no image")
    report = tlcli.json("evaluate", run, mixture, "--max-bad", "3%")
    assert (report["images"], len(report["skipped"])) == (9, 1)
