"""An evaluation for the terminal, a pull request and a CI server."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from markdown_it import MarkdownIt

from tests.support import evaluations
from tests.support.evaluations import NASTY, evaluation
from tests.support.pages import Page
from tlcli import reports
from tlcli.reports.evaluation.junit import junit
from tlcli.reports.evaluation.markdown import code, evaluation_markdown
from tlcli.reports.html import clean

Json = dict[str, Any]

NAMES = (NASTY, "a|b", "a\\|b", "a\\", "`", "``a`", "*x*", "a  b", "", "<!--", "&lt;", "|", "$`x`$")


def rendered(text: str) -> Page:
    """The page that a Markdown renderer with tables makes of it."""
    return Page(MarkdownIt("commonmark").enable("table").render(text))


def outside_code(text: str) -> str:
    """The HTML without what stands in code style, where GitHub looks for no mentions."""
    html = MarkdownIt("commonmark").enable("table").render(text)
    return re.sub("<code>.*?</code>", "", html, flags=re.S)


def test_markdown_says_what_the_page_says() -> None:
    gates = [evaluations.gate(True), evaluations.gate(False, "min-class-accuracy", "leaf")]
    content = evaluations.every_round(evaluation(51, gates=gates, against=evaluations.AGAINST))
    text = evaluation_markdown(content)
    page = rendered(text)
    assert page.tags.count("table") == 7 and "details" in page.tags
    assert text.index("❌ failed: min-class-accuracy") < text.index("✅ passed: fail-under")
    assert "| log loss | 0.1542 | 0.1388 to 0.1696 |" in text
    worst = text.split("### Classes recognized worst\n\n")[1].split("\n\n")[0].splitlines()
    assert len(worst) == 2 + 10
    shares = [float(line.split("|")[4].strip(" %")) for line in worst[2:]]
    assert shares == sorted(shares)
    assert "difference +2.0 points (+0.5 to +3.5)" in page.words
    assert "| `data_sha256` | `fedcba9876543210` |" in text


@pytest.mark.parametrize("name", NAMES)
def test_markdown_shows_a_name_as_it_is(name: str) -> None:
    shown = " ".join(clean(name).split())
    page = rendered(f"| a | b |\n| --- | --- |\n| {code(name)} | end |\n")
    assert page.words.split() == ["a", "b", *shown.split(), "end"]
    assert set(page.tags) == {"table", "thead", "tr", "th", "tbody", "td", "code"}


def test_markdown_obeys_no_name() -> None:
    content = evaluations.renamed(evaluation(3), "class_001", NASTY)
    content |= {
        "run": NASTY,
        "gates": [evaluations.gate(False, "min-class-accuracy", NASTY)],
        "against": evaluations.AGAINST | {"run": NASTY},
    }
    content["card"] |= {"data": NASTY, "config": {NASTY: [NASTY]}}
    text = evaluation_markdown(content)
    page = rendered(text)
    expected = rendered(evaluation_markdown(evaluation(3, against=evaluations.AGAINST)))
    assert set(page.tags) == set(expected.tags) | {"ul", "li"}
    assert " ".join(clean(NASTY).split()) in page.words
    assert "@you" not in outside_code(text), "a mention"


def test_markdown_of_one_class_without_mistakes() -> None:
    text = evaluation_markdown(evaluation(1, rounds=1, old_accuracy=None))
    assert "No image is mistaken." in text and "| old classes | unknown |" in text
    assert "✅" not in text and "❌" not in text


def test_markdown_is_written(tmp_path: Path) -> None:
    reports.write_evaluation(evaluation(), tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text("utf-8") == evaluation_markdown(evaluation())


def suite(content: Json) -> ElementTree.Element:
    """The one suite, of which the counts agree with its cases."""
    root = ElementTree.fromstring(junit(content))
    assert root.tag == "testsuites"
    (found,) = root
    assert found.tag == "testsuite"
    assert [child.tag for child in found][:1] == ["properties"] and found[-1].tag == "system-out"
    cases = found.findall("testcase")
    assert found.get("tests") == str(len(cases))
    assert found.get("failures") == str(len(found.findall("testcase/failure")))
    assert found.get("errors") == found.get("skipped") == "0"
    assert all(case.get("name") and case.get("classname") for case in cases)
    return found


def test_junit_has_a_case_for_every_gate(tmp_path: Path) -> None:
    gates = [evaluations.gate(True), evaluations.gate(False, "min-class-accuracy", "leaf")]
    gates.append(evaluations.gate(False, "max-regression") | {"value": None})
    content = evaluation(gates=gates, old_accuracy=None)
    found = suite(content)
    assert [case.get("name") for case in found.findall("testcase")] == [
        *("fail-under", "min-class-accuracy", "max-regression")
    ]
    messages = [failure.get("message", "") for failure in found.iter("failure")]
    assert "(leaf) 95.8 %, at least 90 %" in messages[0] and "unknown, at most 90 %" in messages[1]
    figures = {entry.get("name"): entry.get("value") for entry in found.iter("property")}
    assert float(figures["log_loss"] or 0) == 0.1542
    assert float(figures["log_loss_low"] or 0) == content["intervals"]["log_loss"][0]
    assert "old_accuracy" not in figures
    reports.write_junit(content, tmp_path / "junit.xml")
    assert (tmp_path / "junit.xml").read_bytes() == junit(content)


def test_junit_without_gates() -> None:
    found = suite(evaluation())
    (case,) = found.findall("testcase")
    assert case.get("name") == "evaluation" and len(case) == 0
    assert "mean class accuracy" in (found.findtext("system-out") or "")


def test_junit_always_parses() -> None:
    content = evaluation(run=NASTY, gates=[evaluations.gate(False, "min-class-accuracy", NASTY)])
    content["card"] |= {"data": NASTY}
    found = suite(content)
    assert clean(NASTY) in (found.get("name") or "")
    (failure,) = found.iter("failure")
    assert f"({clean(NASTY)})" in (failure.get("message") or "")


def test_text_for_the_terminal() -> None:
    gates = [evaluations.gate(True), evaluations.gate(False, "min-class-accuracy", "leaf")]
    content = evaluations.every_round(evaluation(3, gates=gates, against=evaluations.AGAINST))
    content["skipped"] = [{"path": "a", "reason": "b"}]
    text = reports.evaluation_text(content)
    assert text.startswith("Failed: min-class-accuracy: lowest accuracy of a class (leaf) 95.8 %")
    assert "fail-under" not in text
    assert "  log loss                      0.1542  (0.1388 to 0.1696)" in text
    assert "  forgetting                    0.0 %\n" in text, "no interval, and not −0.0"
    assert "0.1234" in text.split("log loss")[2]
    assert "difference +2.0 points (+0.5 to +3.5), McNemar's test p = 0.016." in text
    assert text.endswith("\n\nleft out: a: b")
    content["confusion"] = [
        {"class": name, "predicted": predicted, "images": images}
        for name, predicted, images in [
            *(("class_000", "class_000", 21), ("class_000", "class_001", 1)),
            *(("class_001", "class_002", 9), ("class_002", "class_001", 2)),
            ("class_000", "class_002", 2),
        ]
    ]
    assert [entry["images"] for entry in content["per_class"]] == [14, 14, 14]
    assert (
        "\n\nMost confused: class_001 taken for class_002 (64.3 %), class_000 taken for class_002 "
        "(14.3 %), class_002 taken for class_001 (14.3 %).\n\n"
    ) in reports.evaluation_text(content)
    content["confusion"] = content["confusion"][:1]
    assert "Most confused" not in reports.evaluation_text(content)
    plain = reports.evaluation_text(evaluation(3))
    assert "log loss" not in plain.split("since round")[1] and "Against" not in plain


VALIDATIONS = [
    (0.9, 0.8, 0.9, "accuracy 90.0 %, old classes 80.0 % ("),
    (None, None, 0.9, "new classes 90.0 %, old classes unknown, as not each has an image to test"),
    (None, 0.8, None, "old classes 80.0 %, new classes unknown, as not each has an image to test"),
    (None, None, None, "  unknown, as not each has an image to test"),
]


@pytest.mark.parametrize(("accuracy", "old", "new", "said"), VALIDATIONS)
def test_a_round_says_which_classes_are_untested(
    accuracy: float | None, old: float | None, new: float | None, said: str
) -> None:
    validation = {"accuracy": accuracy, "old_accuracy": old, "new_accuracy": new}
    assert said in reports.round_text(a_round(validation))


TRAINING = {
    "epochs": 2,
    "best_epoch": 1,
    "lr": 0.003,
    "validation_accuracy_before": 0.0,
    "validation_accuracy": 0.3,
    "drift": None,
}


def test_a_training_without_labels_speaks_of_views() -> None:
    content = a_round() | {"training": TRAINING}
    assert "the best is 1, held-out accuracy 0.0 % → 30.0 %" in reports.round_text(content)
    text = reports.round_text(content | {"classes": []})
    assert "30.0 % of held-out images are nearest to another view" in text
    assert "accuracy 0.0 %" not in text


def a_round(validation: Json | None = None) -> Json:
    """What a round with two classes says."""
    figures = {"accuracy": 0.9, "old_accuracy": 0.9, "new_accuracy": 0.9} | (validation or {})
    images: Json = dict.fromkeys(("used", "from_cache", "removed"), 0)
    images |= {"already_learned": 0, "duplicates": 0, "skipped": [], "passed_over": []}
    absent = ("training", "usual", "renamed_classes", "adoption", "layers_choice", "head_choice")
    return dict.fromkeys(absent) | {
        "run": "run",
        "round": 2,
        "changed": True,
        "command": "extend-classes",
        "strategy": None,
        "head": "lda",
        "backbone": "B",
        "classes": ["a", "b"],
        "new_classes": ["b"],
        "images": images | {"known_classes": []},
        "validation": figures | {"images": 7, "method": "holdout"},
        "calibration": {"temperature": 1.0, "ece_before": None, "images": 0},
        "memory": "moments",
        "memory_sha256": None,
        "exact": True,
        "seconds": {"total": 1.0},
    }
