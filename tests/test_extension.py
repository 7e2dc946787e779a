"""What each strategy promises: merge equals joint training, freeze-old moves no old column."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlcli import extension, heads, moments
from tlcli.errors import UsageError
from tlcli.extension import STRATEGIES, choose
from tlcli.features import Features, Vectors
from tlcli.images import LabelledImage

BITS = 12
WIDTH = 10
OLD = ("owl", "cat", "bee")
NEW = ("ant", "dog")
REGISTRY = (*OLD, *NEW)


def blobs(classes, count, seed=0):
    """Features of `count` images a class: Gaussians whose centres depend on the name alone."""
    rng = np.random.default_rng(seed)
    vectors, images = [], []
    for name in classes:
        centre = np.random.default_rng(list(name.encode())).normal(0, 2, WIDTH)
        for number in range(count):
            vectors.append(centre + rng.normal(0, 1, WIDTH))
            images.append(LabelledImage(Path(f"{name}{number}"), name, f"{len(images):064x}"))
    return Features(tuple(images), Vectors.of(np.array(vectors, np.float32)), (), 0)


def moments_of(features):
    return moments.of(features.vectors, features.labels, "backbone-a", BITS)


FIRST, SECOND, TEST = blobs(OLD, 40), blobs(NEW, 40, seed=1), blobs(REGISTRY, 60, seed=2)
TOTAL = moments.add(moments_of(FIRST), moments_of(SECOND))


def parent(name):
    """The head of round 1, in registry order."""
    return extension.first(name)(moments_of(FIRST), FIRST).ordered(OLD)


def extended(strategy, name="lda"):
    fit = STRATEGIES[strategy].fit(name, parent(name), REGISTRY)
    return fit(TOTAL, SECOND).ordered(REGISTRY)


def accuracy(head, classes):
    chosen = TEST.where(np.isin(np.array(TEST.labels, object), classes))
    return float((head.predict(chosen.vectors) == np.array(chosen.labels, object)).mean())


def assert_same_bits(a, b):
    assert a.classes == b.classes
    assert a.weights.tobytes() == b.weights.tobytes()
    assert a.bias.tobytes() == b.bias.tobytes()


@pytest.mark.parametrize("name", heads.HEADS)
def test_freeze_old_keeps_the_bits_of_old_columns_and_old_logits(name, tmp_path):
    before, after = parent(name), extended("freeze-old", name)
    heads.save(after, tmp_path / "head.h5")
    for head in (after, heads.load(tmp_path / "head.h5")):
        assert head.classes == REGISTRY
        assert head.weights[:, :3].tobytes() == before.weights.tobytes()
        assert head.bias[:3].tobytes() == before.bias.tobytes()
        logits = head.logits(TEST.vectors)[:, :3]
        assert logits.tobytes() == before.logits(TEST.vectors).tobytes()


@pytest.mark.parametrize("name", heads.HEADS)
def test_freeze_old_learns_the_new_classes_and_keeps_the_old_ones(name):
    head = extended("freeze-old", name)
    assert accuracy(parent(name), OLD) > 0.9
    assert accuracy(head, NEW) > 0.9
    assert accuracy(head, OLD) > 0.85


@pytest.mark.parametrize("name", heads.HEADS)
def test_naive_learns_the_new_classes_and_forgets_old_ones(name):
    head = extended("naive", name)
    assert accuracy(head, NEW) > 0.9
    assert accuracy(head, OLD) < accuracy(extended("freeze-old", name), OLD) - 0.1


@pytest.mark.parametrize("name", heads.FROM_MOMENTS)
@settings(max_examples=20, deadline=None)
@given(st.permutations(REGISTRY), st.lists(st.integers(0, 5), max_size=3))
def test_merge_equals_joint_training_in_any_order_of_rounds(name, order, cuts):
    everything = blobs(REGISTRY, 12)
    joint = extension.first(name)(moments_of(everything), everything)
    edges = [0, *sorted(cuts), 5]
    total, head = moments.empty("backbone-a", BITS, WIDTH), None
    for start, end in itertools.pairwise(edges):
        chosen = np.isin(np.array(everything.labels, object), list(order[start:end]))
        features = everything.where(chosen)
        if not features.images:
            continue
        total = moments.add(total, moments_of(features))
        fit = (
            STRATEGIES["merge"].fit(name, head, tuple(order[:end]))
            if head
            else extension.first(name)
        )
        head = fit(total, features).ordered(order[:end])
    assert total.digest == moments_of(everything).digest
    assert_same_bits(head, joint.ordered(order))


def test_merge_takes_more_images_of_a_known_class():
    more = blobs(OLD[:1], 30, seed=5)
    total = moments.add(moments_of(FIRST), moments_of(more))
    head = STRATEGIES["merge"].fit("lda", parent("lda"), OLD)(total, more)
    assert_same_bits(head, heads.lda(total))


def test_only_merge_claims_to_equal_joint_training():
    assert {name for name, strategy in STRATEGIES.items() if strategy.exact} == {"merge"}


def test_the_first_head_is_solved_from_all_images():
    assert_same_bits(extension.first("lda")(moments_of(FIRST), FIRST), heads.lda(moments_of(FIRST)))
    assert_same_bits(
        extension.first("softmax")(moments_of(FIRST), FIRST),
        heads.softmax(FIRST.vectors[:], FIRST.labels),
    )


def test_a_grown_head_keeps_its_old_columns_and_starts_new_ones_at_zero():
    before = parent("lda")
    grown = extension.grow(before, REGISTRY)
    assert grown.classes == REGISTRY
    assert grown.weights[:, :3].tobytes() == before.weights.tobytes()
    assert grown.bias[:3].tobytes() == before.bias.tobytes()
    assert not grown.weights[:, 3:].any()
    assert grown.bias[3:].tolist() == [0, 0]


@pytest.mark.parametrize("name", heads.HEADS)
def test_without_a_wish_the_best_strategy_for_the_head_is_chosen(name):
    expected = "merge" if name in heads.FROM_MOMENTS else "freeze-old"
    assert choose(None, name, grows=True) == expected


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_that_can_do_it_is_taken_as_asked(strategy):
    assert choose(strategy, "lda", grows=True) == strategy


@pytest.mark.parametrize("strategy", ["merge", "naive"])
def test_more_images_of_known_classes_need_columns_that_move(strategy):
    assert choose(strategy, "lda", grows=False) == strategy


def test_an_unknown_strategy_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"merge, freeze-old, naive.*'distil'") as refused:
        choose("distil", "lda", grows=True)
    assert refused.value.exit_code == 2


def test_merge_of_a_head_that_is_not_solved_from_moments_is_refused_with_the_alternative():
    with pytest.raises(UsageError, match=r"'softmax'.*--head lda.*freeze-old"):
        choose("merge", "softmax", grows=True)


@pytest.mark.parametrize(("strategy", "head"), [("freeze-old", "lda"), (None, "softmax")])
def test_freeze_old_without_new_classes_is_refused(strategy, head):
    with pytest.raises(UsageError, match=r"new classes for freeze-old.*--strategy"):
        choose(strategy, head, grows=False)
