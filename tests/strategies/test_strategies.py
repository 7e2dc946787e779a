"""What each strategy promises: merge equals joint training, freeze-old moves no old column."""

import functools
import hashlib
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from tlcli import heads, memory, moments, strategies
from tlcli.config import StrategyOptions
from tlcli.errors import UsageError
from tlcli.features import Examples, Vectors
from tlcli.heads import Evidence, Fit, Recipe
from tlcli.heads.imprinting import grow
from tlcli.strategies import STRATEGIES, Available, OldImages, StrategyInput, choose, fits

BITS = 12
WIDTH = 10
OLD = ("owl", "cat", "bee")
NEW = ("ant", "dog")
REGISTRY = (*OLD, *NEW)
GRADIENT = ("freeze-old", "lwf", "replay", "naive")
FROM_MOMENTS = [name for name, row in heads.HEADS.items() if row.solve]
FROM_FEATURES = [name for name, row in heads.HEADS.items() if row.fit]


def blobs(classes: tuple[str, ...], count: int, seed: int = 0) -> Examples:
    """Features of `count` images a class: Gaussians whose centres depend on the name alone."""
    rng = np.random.default_rng(seed)
    vectors, labels, hashes = [], [], []
    for name in classes:
        centre = np.random.default_rng(list(name.encode())).normal(0, 2, WIDTH)
        for number in range(count):
            vectors.append(centre + rng.normal(0, 1, WIDTH))
            labels.append(name)
            hashes.append(hashlib.sha256(f"{name} {number} {seed}".encode()).hexdigest())
    return Examples(tuple(hashes), tuple(labels), Vectors.of(np.array(vectors, np.float32)))


def moments_of(examples: Examples) -> moments.Moments:
    return moments.of(examples.vectors, examples.labels, "backbone-a", BITS)


FIRST, SECOND, TEST = blobs(OLD, 40), blobs(NEW, 40, seed=1), blobs(REGISTRY, 60, seed=2)
TOTAL = moments.add(moments_of(FIRST), moments_of(SECOND))
NOTHING = FIRST.take([])


def first(name: str, examples: Examples) -> heads.LinearHead:
    evidence = Evidence(moments_of(examples), examples, NOTHING)
    return strategies.first(Recipe(name))(evidence)


@functools.cache
def parent(name: str) -> heads.LinearHead:
    """The head of round 1 with its temperature, in registry order."""
    head, held_out = first(name, FIRST).ordered(OLD), blobs(OLD, 40, seed=3)
    columns = np.array([OLD.index(label) for label in held_out.labels])
    return replace(head, temperature=heads.temperature(head.logits(held_out.vectors), columns))


def following(
    strategy: str, name: str = "lda", classes: tuple[str, ...] = REGISTRY, **options: Any
) -> Fit:
    return strategies.following(
        STRATEGIES[strategy], StrategyInput(Recipe(name), classes, StrategyOptions(**options), 10)
    )


def extended(
    strategy: str,
    name: str = "lda",
    new: Examples = SECOND,
    old: Examples = FIRST,
    total: moments.Moments | None = TOTAL,
    **options: Any,
) -> heads.LinearHead:
    evidence = Evidence(total, new, old, parent(name))
    return following(strategy, name, **options)(evidence)


def accuracy(head: heads.LinearHead, classes: tuple[str, ...]) -> float:
    chosen = TEST.where(np.isin(np.array(TEST.labels, object), classes))
    return float((head.predict(chosen.vectors) == np.array(chosen.labels, object)).mean())


def assert_same_bits(a: heads.LinearHead, b: heads.LinearHead) -> None:
    assert a.classes == b.classes
    assert a.weights.tobytes() == b.weights.tobytes()
    assert a.bias.tobytes() == b.bias.tobytes()


@pytest.mark.parametrize("name", heads.HEADS)
def test_freeze_old_keeps_the_bits_of_old_columns_and_old_logits(name: str, tmp_path: Path) -> None:
    before, after = parent(name), extended("freeze-old", name)
    heads.save(after, tmp_path / "head.h5")
    for head in (after, heads.load(tmp_path / "head.h5")):
        assert head.classes == REGISTRY
        assert head.weights[:, :3].tobytes() == before.weights.tobytes()
        assert head.bias[:3].tobytes() == before.bias.tobytes()
        assert head.temperature == before.temperature
        logits = head.logits(TEST.vectors)[:, :3]
        assert logits.tobytes() == before.logits(TEST.vectors).tobytes()


@pytest.mark.parametrize("name", heads.HEADS)
def test_freeze_old_learns_the_new_classes_and_keeps_the_old_ones(name: str) -> None:
    head = extended("freeze-old", name)
    assert accuracy(parent(name), OLD) > 0.9
    assert accuracy(head, NEW) > 0.9
    assert accuracy(head, OLD) > 0.85


@pytest.mark.parametrize("name", heads.HEADS)
def test_naive_learns_the_new_classes_and_forgets_old_ones(name: str) -> None:
    head = extended("naive", name)
    assert accuracy(head, NEW) > 0.9
    assert accuracy(head, OLD) < accuracy(extended("freeze-old", name), OLD) - 0.1


@pytest.mark.parametrize("strategy", ["lwf", "replay"])
def test_distillation_and_replay_forget_less_than_naive(strategy: str) -> None:
    head = extended(strategy, "softmax")
    assert accuracy(head, NEW) > 0.85
    assert accuracy(head, OLD) > accuracy(extended("naive", "softmax"), OLD) + 0.1


def test_more_distillation_moves_the_old_logits_less() -> None:
    def moved(weight: float) -> float:
        head = extended("lwf", "softmax", distillation_weight=weight).calibrated()
        old = special.softmax(head.logits(SECOND.vectors)[:, :3], axis=1)
        before = parent("softmax").calibrated().logits(SECOND.vectors)
        return float(np.abs(old - special.softmax(before, axis=1)).mean())

    assert moved(0.0) > moved(1.0) > moved(30.0)


@pytest.mark.parametrize("strategy", GRADIENT)
def test_gradient_strategies_work_without_moments(strategy: str) -> None:
    head = extended(strategy, "softmax", total=None)
    assert head.classes == REGISTRY
    assert np.isfinite(head.weights).all()
    assert accuracy(head, NEW) > 0.85


def test_replay_learns_from_no_more_exemplars_than_asked_for() -> None:
    """With more than the budget at hand, those that herding chooses are rehearsed."""
    few = memory.herded(FIRST, 10)
    assert len(few) == 30
    again = extended("replay", "softmax", old=few)
    assert_same_bits(extended("replay", "softmax"), again)


def test_weight_alignment_gives_new_columns_the_norm_of_old_ones() -> None:
    plain = extended("replay", "softmax", bias_correction="none")
    aligned = extended("replay", "softmax", bias_correction="wa")
    assert aligned.weights[:, :3].tobytes() == plain.weights[:, :3].tobytes()
    norms = np.linalg.norm(aligned.weights, axis=0)
    assert norms[3:].mean() == pytest.approx(norms[:3].mean(), rel=1e-5)


def test_the_bias_layer_scales_and_shifts_new_columns_alone() -> None:
    """All of them by one scale and one shift, against the head of the same training images."""
    examples = memory.herded(FIRST, 10).joined(SECOND).by_hash()
    held = fits._held_for_bias(examples)
    assert held.sum() == 3 * 2 + 2 * 8
    kept = examples.where(~held)
    evidence = Evidence(TOTAL, kept.where(np.isin(kept.labels, NEW)), kept, parent("softmax"))
    old = evidence.old.where(np.isin(evidence.old.labels, OLD))
    fitted = extended("replay", "softmax", bias_correction="bic")
    plain = extended("replay", "softmax", new=evidence.new, old=old, bias_correction="none")
    np.testing.assert_allclose(fitted.weights[:, :3], plain.weights[:, :3], atol=1e-3)
    change = np.polyfit(plain.weights[:, 3:].ravel(), fitted.weights[:, 3:].ravel(), 1)
    np.testing.assert_allclose(
        np.polyval(change, plain.weights[:, 3:]), fitted.weights[:, 3:], rtol=1e-2, atol=1e-2
    )
    assert change[0] != pytest.approx(1, abs=1e-2)
    assert accuracy(fitted, REGISTRY) > 0.85


def test_a_bias_layer_needs_ten_exemplars() -> None:
    with pytest.raises(UsageError, match=r"at least 10.*--bias-correction wa"):
        extended("replay", "softmax", old=blobs(OLD, 9), bias_correction="bic")


@pytest.mark.parametrize("name", FROM_MOMENTS)
@settings(max_examples=20, deadline=None)
@given(st.permutations(REGISTRY), st.lists(st.integers(0, 5), max_size=3))
def test_merge_equals_joint_training_in_any_order_of_rounds(
    name: str, order: list[str], cuts: list[int]
) -> None:
    everything = blobs(REGISTRY, 12)
    joint = first(name, everything)
    edges = [0, *sorted(cuts), 5]
    total, head = moments.empty("backbone-a", BITS, WIDTH), None
    for start, end in itertools.pairwise(edges):
        examples = everything.where(np.isin(np.array(everything.labels, object), order[start:end]))
        if not len(examples):
            continue
        total = moments.add(total, moments_of(examples))
        evidence = Evidence(total, examples, NOTHING, head)
        classes = tuple(order[:end])
        fit = following("merge", name, classes) if head else strategies.first(Recipe(name))
        head = fit(evidence).ordered(classes)
    assert total.digest == moments_of(everything).digest
    assert head
    assert_same_bits(head, joint.ordered(order))


@pytest.mark.parametrize("name", FROM_FEATURES)
def test_joint_training_on_kept_features_leaves_no_trace_of_the_rounds(name: str) -> None:
    everything = FIRST.joined(SECOND)
    assert_same_bits(extended("joint", name), first(name, everything).ordered(REGISTRY))


def test_merge_takes_more_images_of_a_known_class() -> None:
    more = blobs(OLD[:1], 30, seed=5)
    total = moments.add(moments_of(FIRST), moments_of(more))
    head = following("merge", classes=OLD)(Evidence(total, more, NOTHING, parent("lda")))
    assert_same_bits(head, Recipe("lda").solve(total).ordered(OLD))


def test_only_merge_and_joint_claim_to_equal_joint_training() -> None:
    exact = {name for name, strategy in STRATEGIES.items() if strategy.exact}
    assert exact == {"merge", "joint"}


def test_a_grown_head_keeps_its_old_columns_and_imprints_new_ones() -> None:
    before = parent("lda")
    grown = grow(before, REGISTRY, SECOND)
    assert grown.classes == REGISTRY
    assert grown.weights[:, :3].tobytes() == before.weights.tobytes()
    assert grown.bias[:3].tobytes() == before.bias.tobytes()
    mean = SECOND.vectors[np.array(SECOND.labels) == "ant"].mean(axis=0)
    column = grown.weights[:, 3]
    assert np.dot(mean, column) == pytest.approx(
        np.linalg.norm(mean) * np.linalg.norm(column), rel=1e-5
    )
    norm = np.linalg.norm(before.weights, axis=0).mean()
    assert np.linalg.norm(column) == pytest.approx(norm, rel=1e-5)


def means(name: str = "lda", old_images: str = "none", **given: bool) -> Available:
    facts = {"grows": True, "learns": True, "moments": True} | given
    return Available(Recipe(name), old_images=OldImages(old_images), **facts)


@pytest.mark.parametrize("name", heads.HEADS)
def test_without_a_wish_the_best_strategy_for_the_head_is_chosen(name: str) -> None:
    solved = name in FROM_MOMENTS
    assert choose(None, means(name)) == ("merge" if solved else "freeze-old")
    kept = choose(None, means(name, old_images="all"))
    assert kept == ("merge" if solved else "joint")
    assert choose(None, means(name, moments=False)) == "freeze-old"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_that_can_do_it_is_taken_as_asked(strategy: str) -> None:
    assert choose(strategy, means(old_images="all")) == strategy


@pytest.mark.parametrize("strategy", ["merge", "naive", "lwf"])
def test_more_images_of_known_classes_need_columns_that_move(strategy: str) -> None:
    assert choose(strategy, means(grows=False)) == strategy


@pytest.mark.parametrize(
    ("strategy", "offered", "message"),
    [
        ("distil", {}, r"merge, joint, freeze-old, lwf, replay, naive.*'distil'"),
        ("merge", {"name": "softmax"}, r"'softmax'.*--head lda.*freeze-old"),
        ("merge", {"moments": False}, r"--memory none.*freeze-old"),
        ("joint", {"name": "svm"}, r"all old images.*--old-data.*--memory features"),
        ("joint", {"name": "svm", "old_images": "some"}, r"keeps some"),
        ("lwf", {"learns": False}, r"new images for lwf.*--strategy merge"),
        ("replay", {}, r"--memory exemplars.*--old-data"),
        ("freeze-old", {"grows": False}, r"new classes for freeze-old.*--strategy"),
        (None, {"name": "softmax", "grows": False}, r"new classes for freeze-old"),
    ],
)
def test_what_a_run_cannot_offer_is_refused_with_what_can(
    strategy: str | None, offered: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as refused:
        choose(strategy, means(**offered))
    assert refused.value.exit_code == 2
