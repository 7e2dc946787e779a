"""C of softmax and of the strategies that go on fitting it: asked for, or chosen."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tests.support.blobs import assert_same_bits, blobs, examples_of, moments_of
from tlcli import heads, strategies
from tlcli.config import HeadOptions, PretrainConfig, StrategyOptions
from tlcli.features import Examples
from tlcli.heads import Evidence, LinearHead, Recipe, costs, descent
from tlcli.rounds.result import options_of
from tlcli.strategies import STRATEGIES, StrategyInput


def noisy(count: int = 240, wrong: float = 0.4, width: int = 60, seed: int = 0) -> Examples:
    """Images of clouds that are far from each other, many of them under another's name."""
    features, labels = blobs(count, width, "abcd", spread=0.3, seed=seed)
    random = np.random.default_rng(seed)
    others = random.choice(list("abcd"), count)
    swapped = random.random(count) < wrong
    return examples_of(features, np.where(swapped, others, labels).tolist())


def chosen(examples: Examples, caplog: pytest.LogCaptureFixture) -> float:
    """The C that cross-validation prefers, as it is logged."""
    with caplog.at_level(logging.INFO, "tlcli.heads.costs"):
        costs.softmax(examples)
    return float(caplog.messages[-1].split("=")[1].split(",")[0])


def test_wrong_labels_want_a_smaller_c(caplog: pytest.LogCaptureFixture) -> None:
    found = {wrong: chosen(noisy(wrong=wrong), caplog) for wrong in (0.0, 0.4)}
    assert found[0.4] < found[0.0]
    assert found[0.4] < 1


def test_the_chosen_c_is_right_more_often_on_other_images() -> None:
    learned, clean = noisy(), noisy(wrong=0.0, seed=0)
    accuracy = {
        c: (costs.softmax(learned, c).predict(clean.vectors) == np.array(clean.labels)).mean()
        for c in ("auto", "1")
    }
    assert accuracy["auto"] > accuracy["1"] + 0.02


def test_a_number_is_taken_as_scikit_learn_takes_it() -> None:
    examples = noisy()
    head = costs.softmax(examples, "0.01")
    scaled = StandardScaler().fit(examples.vectors[:].astype(np.float64))
    inputs = scaled.transform(examples.vectors[:].astype(np.float64))
    oracle = LogisticRegression(C=0.01, tol=1e-10, max_iter=5000).fit(inputs, examples.labels)
    np.testing.assert_allclose(
        head.probabilities(examples.vectors[:]), oracle.predict_proba(inputs), atol=1e-3
    )


def test_the_order_of_images_does_not_matter() -> None:
    examples = noisy()
    turned = examples.take(np.arange(len(examples))[::-1])
    recipe = Recipe("softmax")
    assert_same_bits(recipe.fit(examples), recipe.fit(turned))


def test_groups_are_not_divided(caplog: pytest.LogCaptureFixture) -> None:
    """Copies of wrongly named images in another fold would make a large C look good."""
    examples = noisy(120)
    twice = examples.joined(replace(examples, hashes=tuple(key[::-1] for key in examples.hashes)))
    grouped = replace(twice, groups=examples.hashes * 2)
    assert chosen(grouped, caplog) < chosen(twice, caplog)


@pytest.mark.parametrize("each", [1, 2])
def test_too_few_images_are_said_once(each: int, caplog: pytest.LogCaptureFixture) -> None:
    examples = noisy().by_hash()
    rows = [np.flatnonzero(np.array(examples.labels) == name)[:each] for name in "abcd"]
    few = examples.take(np.concatenate(rows))
    with descent.watched(descent.Watch()):
        heads_found = [costs.softmax(few), costs.softmax(few)]
    (warning,) = [entry for entry in caplog.records if entry.levelno == logging.WARNING]
    assert "C is 1: fewer than 3 images of a class" in warning.getMessage()
    assert_same_bits(heads_found[0], costs.softmax(few, "1"))


def test_classes_with_one_image_do_not_hinder(caplog: pytest.LogCaptureFixture) -> None:
    """Held out, each would be answered wrongly, and most surely with a large C."""
    examples = noisy(wrong=0.1)
    features = np.random.default_rng(1).normal(0, 3, (80, 60)).astype(np.float32)
    alone = examples_of(features, [f"single {number:02d}" for number in range(80)])
    assert chosen(examples.joined(alone), caplog) >= chosen(examples, caplog)
    assert {message.split(" on ")[1] for message in caplog.messages} == {"240 images"}


def test_of_many_images_some_are_compared(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(costs, "_MOST_PRODUCTS", 20 * 60 * 16)
    assert chosen(noisy(), caplog) < 1
    assert caplog.messages[-1].endswith("on 80 images")


def test_of_too_many_classes_nothing_is_compared(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(descent, "LARGE", 1)
    costs.softmax(noisy())
    assert "C is 1: 4 classes are too many" in caplog.text


def test_a_support_vector_machine_takes_it_too() -> None:
    examples = noisy()
    norms = [np.linalg.norm(Recipe("svm", c=c).fit(examples).weights) for c in ("0.001", "1")]
    assert norms[0] < norms[1] / 10


def extended(name: str, c: str, seed: int = 0) -> LinearHead:
    """A head of a round that follows under a strategy, with wrong labels in it."""
    first, second = noisy(seed=seed), noisy(seed=seed + 1)
    second = replace(second, labels=tuple(label.upper() for label in second.labels))
    start = strategies.first(Recipe("softmax"))(Evidence(None, first, first.take([])))
    told = StrategyInput(Recipe("softmax", c=c), tuple("abcdABCD"), StrategyOptions())
    total = moments_of(
        np.vstack([first.vectors[:], second.vectors[:]]), (*first.labels, *second.labels)
    )
    fit = strategies.following(STRATEGIES[name], told)
    return fit(Evidence(total, second, first, start))


@pytest.mark.parametrize("name", ["replay", "naive"])
def test_strategies_choose_from_the_same_numbers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = extended(name, "auto")
    assert any(
        free.weights.tobytes() == extended(name, f"{cost:g}").weights.tobytes()
        for cost in costs.COSTS
    )
    assert free.weights.tobytes() != extended(name, "1").weights.tobytes()
    monkeypatch.setattr(costs, "COSTS", (0.02,))
    assert extended(name, "auto").weights.tobytes() == extended(name, "0.02").weights.tobytes()


def test_distillation_does_not_choose_c_on_the_new_images_alone() -> None:
    free = extended("lwf", "auto")
    usual = 10 / len(free.weights)
    assert free.weights.tobytes() == extended("lwf", f"{usual:g}").weights.tobytes()
    assert free.weights.tobytes() != extended("lwf", "0.02").weights.tobytes()


def test_rounds_that_do_not_record_c_had_1() -> None:
    """And go on with it, unless another is asked for."""
    recorded = Recipe.recorded("softmax", {"class_weights": "none"})
    assert recorded.c == "1"
    assert Recipe.recorded("svm", {"class_weights": "none"}).c == "auto"
    assert Recipe.recorded("softmax", {"class_weights": "none", "c": "0.1"}).c == "0.1"
    assert Recipe.of(HeadOptions(), recorded) == recorded
    assert Recipe.of(HeadOptions(c="auto"), recorded).c == "auto"
    assert heads.HEADS["softmax"].before == {"c": "1"}


def test_rounds_of_before_are_told_by_the_same_options() -> None:
    """So that the command that made one of them does nothing when it is given again."""
    asked = PretrainConfig("data", Path("run"))
    assert "c" not in options_of(asked)["solver"]
    other = replace(asked, solver=HeadOptions(head="softmax", c="0.1"))
    assert options_of(other)["solver"]["c"] == "0.1"
