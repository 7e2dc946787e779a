"""Heads that are only tested, solved in coordinates of the images: those of the features."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.arrays import Floats
from tests.support.blobs import blobs, examples_of, moments_of
from tlcli.features import Examples
from tlcli.heads import HEADS, Evidence, LinearHead, Recipe
from tlcli.heads.span import Span
from tlcli.moments import Moments

SOLVED = sorted(name for name, row in HEADS.items() if row.solve is not None)
WIDTH = 90

HELD = np.arange(60) % 5 == 2


def evidence_of(features: Floats, labels: list[str]) -> Evidence:
    examples = examples_of(features, labels)
    return Evidence(moments_of(features, labels), examples, examples.take([]))


def clouds(kind: str = "usual", width: int = WIDTH) -> tuple[Floats, list[str]]:
    """60 images of four classes."""
    features, labels = blobs(60, width, "aabcd", spread=0.6)
    features /= 8
    if kind == "twice":
        features[30:35] = features[:5]
    if kind == "far from the origin":
        features += 7
    return features, labels


def compared(head: LinearHead, features: Floats) -> NDArray[np.float64]:
    """Logits against each other, as a softmax sees them."""
    logits = head.logits(features).astype(np.float64)
    return np.asarray(logits - logits.mean(axis=1, keepdims=True))


def without(evidence: Evidence) -> Evidence:
    return evidence.without(HELD, np.zeros(0, bool))


def usual(evidence: Evidence, recipe: Recipe) -> LinearHead:
    """The head without what is held out, from the moments of features."""
    rest = without(evidence).moments
    assert rest is not None
    return recipe.solve(rest)


def span_of(evidence: Evidence) -> Span:
    """Of what is not held out."""
    span = without(evidence.to_test).span
    assert span is not None
    return span


@pytest.mark.parametrize("kind", ["usual", "twice", "far from the origin"])
@pytest.mark.parametrize("name", SOLVED)
def test_a_head_answers_as_the_one_that_is_solved_from_the_features(name: str, kind: str) -> None:
    features, labels = clouds(kind)
    evidence, recipe = evidence_of(features, labels), Recipe(name)
    found, other = span_of(evidence).solved(recipe.solve), usual(evidence, recipe)
    assert found.classes == other.classes
    expected = compared(other, features)
    atol = 1e-3 * expected.std()
    np.testing.assert_allclose(compared(found, features), expected, atol=atol)


@pytest.mark.parametrize("shrinkage", ["oas", "0.3"])
def test_a_shrinkage_is_that_of_the_features(shrinkage: str) -> None:
    features, labels = clouds()
    evidence, recipe = evidence_of(features, labels), Recipe("lda", shrinkage)
    expected = compared(usual(evidence, recipe), features)
    found = compared(span_of(evidence).solved(recipe.solve), features)
    np.testing.assert_allclose(found, expected, atol=1e-3 * expected.std())


def test_there_is_none_where_it_would_be_as_wide() -> None:
    assert Span.of(evidence_of(*clouds(width=66)).new, moments_of(*clouds(width=66))) is None
    assert Span.of(evidence_of(*clouds(width=67)).new, moments_of(*clouds(width=67))) is not None


def test_there_is_none_where_moments_are_of_other_images() -> None:
    features, labels = clouds()
    few = examples_of(features[:40], labels[:40])
    assert Span.of(few, moments_of(features, labels)) is None
    assert Span.of(few, moments_of(features[20:], labels[20:])) is None
    assert evidence_of(features, labels).to_test.span is not None
    features[40:] = 0
    assert Span.of(few, moments_of(features, labels)) is None
    assert Evidence(None, few, few.take([])).to_test.span is None


def test_there_is_none_where_features_are_zero() -> None:
    features, labels = clouds()
    assert evidence_of(0 * features, labels).to_test.span is None


def test_what_is_held_out_is_not_in_the_head() -> None:
    """Whatever the images are that are held out, the others give the same head."""
    features, labels = clouds()
    changed = features.copy()
    changed[HELD] = changed[HELD][::-1] * np.float32(0.5)
    heads = [
        span_of(evidence_of(vectors, labels)).solved(Recipe("lda").solve)
        for vectors in (features, changed)
    ]
    logits = [compared(head, features) for head in heads]
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-3 * logits[0].std())


def test_a_parent_is_solved_again_from_the_features() -> None:
    features, labels = clouds()
    examples = examples_of(features, labels)
    old, new = examples.where(np.array(labels) != "d"), examples.where(np.array(labels) == "d")

    def refit(total: Moments | None, kept: Examples) -> LinearHead:
        assert total is not None
        return Recipe("lda").solve(total)

    parent = Recipe("lda").solve(moments_of(old.vectors[:], old.labels))
    evidence = Evidence(moments_of(features, labels), new, old, parent, refit)
    held = np.arange(len(old)) % 5 == 1
    none = np.zeros(len(new), bool)
    rest = [known.without(none, held).parent for known in (evidence, evidence.to_test)]
    assert rest[0] is not None and rest[1] is not None
    assert rest[0].weights.tobytes() == rest[1].weights.tobytes()
    assert rest[0].weights.tobytes() != parent.weights.tobytes()


def test_moments_of_coordinates_say_what_they_are_of() -> None:
    features, labels = clouds()
    span = span_of(evidence_of(features, labels))
    assert (span.moments.width, span.moments.dimensions) == (60, WIDTH)
    assert replace(span.moments, of_width=None).dimensions == 60
