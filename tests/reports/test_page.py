"""evaluate --report FILE.html: one file that opens offline."""

import base64
import importlib.util
import io
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support import evaluations
from tests.support.evaluations import NASTY, evaluation
from tests.support.pages import Page
from tlcli import reports
from tlcli.errors import StorageError, UsageError
from tlcli.reports.evaluation import confusion, plots
from tlcli.reports.evaluation.page import evaluation_page
from tlcli.reports.html import clean

Json = dict[str, Any]


def photo(path: Path, width: int = 400, height: int = 100) -> Path:
    """Red on the left, blue on the right, and stored upside down with EXIF that says so."""
    picture = Image.new("RGB", (width, height), "red")
    picture.paste("blue", (0, 0, width // 2, height))
    exif = Image.Exif()
    exif[0x0112] = 3
    picture.save(path, exif=exif)
    return path


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table after a heading."""
    section = text.split(f"<h2>{heading}</h2>", 1)[1]
    body = section.split("<tbody>", 1)[1].split("</tbody>", 1)[0]
    return [
        [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)]
        for row in body.strip().splitlines()
    ]


def test_the_page_loads_nothing_and_holds_everything(tmp_path: Path) -> None:
    content = evaluation(51, mistakes=[evaluations.mistake(photo(tmp_path / "a.jpg"))])
    reports.write_evaluation(content, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    page = Page(text)
    assert "://" not in text
    assert {"table", "svg", "img", "figure", "script"} <= set(page.tags)
    for name, value in page.attributes:
        if name in ("href", "xlink:href", "src"):
            assert value and value.startswith(("#", "data:image/jpeg;base64,"))
    assert "default-src 'none'" in text and "script-src 'sha256-" in text
    for wanted in (
        "95 % interval",
        "fedcba9876543210",
        "config.images.max_bad",
        "0123456789abcdef",
    ):
        assert wanted in page.words
    assert len(rows(text, "Classes")) == len(rows(text, "Confusion matrix")) == 51
    assert len(rows(text, "Most confused pairs")) == 30


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    content = evaluation(4, mistakes=[evaluations.mistake(photo(tmp_path / "a.jpg"))])
    written = []
    for name in ("one.html", "two.html"):
        reports.write_evaluation(content, tmp_path / name)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_names_are_shown_and_never_obeyed(tmp_path: Path) -> None:
    content = evaluations.renamed(evaluation(3), "class_001", NASTY)
    content |= {
        "run": NASTY,
        "mistakes": [evaluations.mistake(tmp_path / "gone\ud800.jpg", NASTY)],
        "gates": [evaluations.gate(False, "min-class-accuracy", NASTY)],
        "against": evaluations.AGAINST | {"run": NASTY},
        "skipped": [{"path": NASTY, "reason": NASTY}],
    }
    content["card"] |= {"data": NASTY, "config": {NASTY: [NASTY]}}
    page = Page(evaluation_page(content))
    assert page.words.count(clean(NASTY)) >= 8
    assert page.tags.count("script") == 1 and page.tags.count("b") == 2
    assert clean(NASTY) == NASTY.replace("\0", "�").replace("\x1b", "�").replace("\ud800", "�")


@pytest.mark.parametrize(("classes", "largest"), [(51, 3_000_000), (100, 3_000_000)])
def test_it_is_small(tmp_path: Path, classes: int, largest: int) -> None:
    noise = Image.effect_noise((400, 300), 120).convert("RGB")
    noise.save(tmp_path / "noise.png")
    content = evaluation(classes, mistakes=[evaluations.mistake(tmp_path / "noise.png")] * 24)
    assert 24 * 5_000 < len(evaluation_page(content).encode()) < largest


def test_a_thumbnail_is_upright_and_small(tmp_path: Path) -> None:
    content = evaluation(2, mistakes=[evaluations.mistake(photo(tmp_path / "a.jpg"))])
    found = re.search(r"data:image/jpeg;base64,([^\"]+)", evaluation_page(content))
    assert found
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))))
    assert picture.shape == (40, 160, 3)
    left, right = picture[20, 10], picture[20, 150]
    assert left[0] > 200 > right[0] and right[2] > 200 > left[2]


@pytest.mark.parametrize("content", [None, b"no image", b""])
def test_an_image_that_is_gone_leaves_a_note(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "image.jpg"
    if content is not None:
        path.write_bytes(content)
    text = evaluation_page(evaluation(2, mistakes=[evaluations.mistake(path)]))
    assert "not shown: " in text and "<img" not in text


def test_failed_gates_stand_at_the_top() -> None:
    gates = [evaluations.gate(True), evaluations.gate(False, "min-class-accuracy", "leaf")]
    words = Page(evaluation_page(evaluation(gates=gates))).words
    failed = "Failed: min-class-accuracy: lowest accuracy of a class (leaf) 95.8 %, at least 90 %"
    passed = "Passed: fail-under: accuracy 95.8 %, at least 90 %"
    assert 0 < words.index(failed) < words.index(passed) < words.index("mean class accuracy")


def test_what_is_unknown_is_said() -> None:
    content = evaluations.untested(evaluation(3), "class_001")
    content |= {"old_accuracy": None, "forgetting": None}
    content["intervals"] |= {"old_accuracy": None}
    content["rounds"][0]["accuracy"] = None
    text = evaluation_page(content)
    assert rows(text, "Classes")[1] == ["class_001", "2", "0", "–", "–", "–"]
    assert rows(text, "Accuracy after each round")[0][1] == "–"
    assert "<td>old classes</td><td>unknown</td><td>–</td>" in text
    assert rows(text, "Confusion matrix")[1] == ["class_001", "", "", ""]


def test_one_class_one_round_no_mistake() -> None:
    content = evaluation(1, rounds=1)
    text = evaluation_page(content)
    assert "No image is mistaken." in text and "Worst mistakes" not in text
    assert text.count("<svg") == 1, "a course needs two rounds"
    assert rows(text, "Confusion matrix") == [["class_000", "14"]]


def test_every_round_and_another_run() -> None:
    content = evaluations.every_round(evaluation(3, against=evaluations.AGAINST))
    text = evaluation_page(content)
    last = rows(text, "All figures of every round")[2]
    assert last == ["after round 3", "2", "30", "90.5 %", "90.0 %", "100.0 %", "2.1 %", "0.1234"]
    assert "All figures" not in evaluation_page(evaluation(3))
    assert rows(text, "Against another run")[0] == ["right here", "650", "22"]
    assert "difference +2.0 points (+0.5 to +3.5), McNemar" in text


def test_many_rounds_are_few_lines() -> None:
    content = evaluation(40, rounds=30)
    names = [name for name, _ in plots.lines(content)]
    assert names == ["all classes so far", "the new classes of the round", "classes of round 1"]
    few = plots.lines(evaluation(3))
    assert [name for name, _ in few][1:] == [f"classes of round {n}" for n in (1, 2, 3)]
    assert math.isnan(few[2][1][0]) and not math.isnan(few[2][1][1])
    drawn = rows(evaluation_page(content), "Accuracy after each round")
    assert [row[0] for row in drawn] == [f"after round {number}" for number in range(1, 31)]


def test_of_very_many_classes_the_confused_ones_are_shown() -> None:
    content = evaluation(400)
    names = [f"class_{number:03}" for number in range(400)]
    wrong = [("class_300", "class_007", 3), ("class_007", "class_200", 1)]
    content["confusion"] = [
        *({"class": name, "predicted": name, "images": 9} for name in names),
        *({"class": a, "predicted": b, "images": n} for a, b, n in wrong),
    ]
    assert confusion.shown_classes(content) == ["class_007", "class_200", "class_300"]
    text = confusion.matrix(content)
    assert "Of 400 classes only 3 are shown" in text
    assert 'title="true: class_300, predicted: class_007, 3 of 12 images">3</td>' in text
    assert len(confusion.shown_classes(evaluation(400))) == confusion.MOST_CLASSES


def test_the_destination_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("report.html", "report.HTML", "report.md"):
        reports.require_evaluation_report(tmp_path / name)
    with pytest.raises(UsageError, match=r"ends in \.html or \.md.*report\.pdf"):
        reports.require_evaluation_report(tmp_path / "report.pdf")
    with pytest.raises(UsageError, match=r"ends in \.html or \.md"):
        reports.write_evaluation(evaluation(), tmp_path / "report")
    with pytest.raises(StorageError, match="nowhere"):
        reports.require_evaluation_report(tmp_path / "nowhere" / "report.md")
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        reports.require_evaluation_report(tmp_path / "folder.md")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name)
    )
    reports.require_evaluation_report(tmp_path / "report.md")
    with pytest.raises(UsageError, match="pip install"):
        reports.require_evaluation_report(tmp_path / "report.html")
