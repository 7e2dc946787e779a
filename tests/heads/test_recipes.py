"""What every row of the table of heads promises, and how one is asked for."""

import itertools
from functools import reduce

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.arrays import Floats
from tests.support.blobs import assert_same_bits, blobs, examples_of, moments_of
from tlcli import moments
from tlcli.config import HeadOptions
from tlcli.errors import DataError, UsageError
from tlcli.heads import HEADS, LinearHead, Recipe, require_known

every_head = pytest.mark.parametrize("name", HEADS)


def solved(name: str, features: Floats, labels: list[str]) -> LinearHead:
    """The head, from whatever it is solved from."""
    recipe = Recipe(name)
    if recipe.from_moments:
        return recipe.solve(moments_of(features, labels))
    return recipe.fit(examples_of(features, labels))


@every_head
def test_a_head_is_solved_from_moments_or_from_features(name: str) -> None:
    row = HEADS[name]
    assert (row.solve is None) != (row.fit is None)
    assert Recipe(name).from_moments == (row.solve is not None)
    require_known(name)


@every_head
@pytest.mark.parametrize("classes", ["ab", "cab", "hgfedcba"])
def test_a_head_tells_clouds_apart_with_its_classes_in_sorted_order(
    name: str, classes: str
) -> None:
    features, labels = blobs(160, 12, classes, spread=0.3)
    head = solved(name, features, labels)
    assert head.classes == tuple(sorted(set(classes)))
    assert head.weights.shape == (12, len(head.classes))
    assert head.weights.dtype == head.bias.dtype == np.float32
    assert head.temperature == 1
    assert (head.predict(features) == np.array(labels)).mean() > 0.9


CLOUD, NAMES = blobs(60, 4)
ODD = {
    "features that never vary": (np.hstack([CLOUD, 0 * CLOUD, 0 * CLOUD + 3]), NAMES),
    "more features than images": blobs(9, 64, spread=0.2),
    "one feature": blobs(30, 1),
    "one class": (CLOUD, ["a"] * 60),
    "two images a class": (CLOUD[:6], NAMES[:6]),
    "equal images": (np.full((6, 3), 2.5), list("aabbcc")),
    "zeros": (np.zeros((6, 3)), list("aabbcc")),
    "copies": (np.repeat(CLOUD[:3], 3, axis=0), np.repeat(NAMES[:3], 3).tolist()),
}


@every_head
@pytest.mark.parametrize(("features", "labels"), ODD.values(), ids=ODD)
def test_odd_features_give_a_finite_head(
    name: str, features: NDArray[np.floating], labels: list[str]
) -> None:
    features = features.astype(np.float32)
    head = solved(name, features, labels)
    assert np.isfinite(head.weights).all()
    assert np.isfinite(head.bias).all()
    np.testing.assert_allclose(head.probabilities(features).sum(axis=1), 1)


def rounds_of(labels: list[str], sizes: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Rows of rounds with so many new classes each, then one with more images for all of them."""
    rng, index = np.random.default_rng(0), np.unique(labels, return_inverse=True)[1]
    late = np.arange(len(labels)) >= len(labels) * 2 // 3
    masks = [
        (first <= index) & (index < end) & ~late
        for first, end in itertools.pairwise(np.cumsum([0, *sizes]))
    ]
    return [rng.permutation(np.flatnonzero(mask)) for mask in [*masks, late]]


@every_head
@pytest.mark.parametrize("sizes", [(1, 3, 10), (10, 3, 1), (14,)], ids=str)
def test_a_head_has_the_same_bits_however_rounds_were_cut(
    name: str, sizes: tuple[int, ...]
) -> None:
    features, labels = blobs(14 * 6, 8, "abcdefghijklmn")
    rounds = rounds_of(labels, sizes)
    assert sorted(np.concatenate(rounds)) == list(range(len(labels)))
    recipe, names = Recipe(name), np.array(labels)
    if recipe.from_moments:
        parts = [moments_of(features[rows], names[rows]) for rows in rounds]
        head = recipe.solve(reduce(moments.add, parts))
    else:
        known = [examples_of(features[rows], names[rows].tolist()) for rows in rounds]
        head = recipe.fit(reduce(lambda a, b: a.joined(b), known))
    assert_same_bits(head, solved(name, features, labels))


def test_a_support_vector_machine_needs_two_images_of_every_class() -> None:
    assert [name for name, row in HEADS.items() if row.least_images > 1] == ["svm"]
    assert Recipe("svm").fit(examples_of(CLOUD[:4], "aabb")).classes == ("a", "b")
    with pytest.raises(DataError, match=r"at least 2 images.*svm.*'b'.*--head lda"):
        Recipe("svm").require_images("aab")


def test_rp_ridge_alone_is_for_projected_features() -> None:
    assert [name for name, row in HEADS.items() if row.projected] == ["rp-ridge"]
    assert_same_bits(solved("rp-ridge", CLOUD, NAMES), solved("ridge", CLOUD, NAMES))


def test_an_unknown_head_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"lda, ridge, .*svm\. Received: head='forest'"):
        require_known("forest")
    with pytest.raises(UsageError, match="forest"):
        Recipe.of(HeadOptions(head="forest"))


def test_what_is_left_open_is_the_default_or_that_of_the_parent() -> None:
    assert Recipe.of(HeadOptions()) == Recipe("lda", "auto", "uniform", "none")
    parent = Recipe("lda", "oas", "frequency")
    assert Recipe.of(HeadOptions(), parent) == parent
    assert Recipe.of(HeadOptions(shrinkage="0.5"), parent) == Recipe("lda", "0.5", "frequency")
    assert Recipe.of(HeadOptions(head="lda"), parent) == parent
    assert Recipe.of(HeadOptions(head="ridge"), parent) == Recipe("ridge")


def test_options_are_those_of_the_head_alone() -> None:
    assert Recipe("lda", "oas").options() == {"priors": "uniform", "shrinkage": "oas"}
    assert Recipe("svm").options() == {"c": "auto", "class_weights": "none"}
    for name in ("ridge", "rp-ridge", "ncm", "ncm-cosine"):
        assert Recipe(name).options() == {}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (HeadOptions(head="ridge", shrinkage="0.5"), r"shrinkage=0\.5, which is for lda"),
        (HeadOptions(head="ncm", priors="frequency"), "priors=frequency, which is for lda"),
        (
            HeadOptions(class_weights="balanced"),
            "class-weights=balanced, which is for softmax, svm",
        ),
        (HeadOptions(priors="equal"), "uniform, frequency. Received: priors='equal'"),
        (HeadOptions(head="svm", class_weights="yes"), "class-weights='yes'"),
        (HeadOptions(shrinkage="2"), "shrinkage='2'"),
        (HeadOptions(c="0.1"), r"c=0\.1, which is for softmax, svm"),
        *(
            (HeadOptions(head="softmax", c=value), rf"C: auto, or a positive.*c='{value}'.*--c out")
            for value in ("0", "-1", "nan", "inf", "much", "")
        ),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(asked: HeadOptions, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe.of(asked)


def test_the_options_reach_the_solver() -> None:
    features, labels = blobs(90, 6, "aaaaabbcde", spread=2.0)
    found = moments_of(features, labels)
    usual = Recipe("lda").solve(found)
    assert not np.allclose(Recipe("lda", shrinkage="0.9").solve(found).weights, usual.weights)
    often = Recipe("lda", priors="frequency").solve(found)
    assert often.weights.tobytes() == usual.weights.tobytes()
    assert often.bias[0] > usual.bias[0]
    for name in ("softmax", "svm"):
        examples = examples_of(features, labels)
        fits = [Recipe(name, class_weights=how).fit(examples) for how in ("none", "balanced")]
        assert not np.allclose(fits[0].weights, fits[1].weights)
