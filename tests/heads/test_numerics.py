"""Heads, temperatures, exemplars and projections have the bits that other machines gave them.

scripts/check runs this file under several BLAS kernels, which stand in for other processors. The
inputs are integers of NumPy's frozen generator: the same bits everywhere.
"""

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.blobs import examples_of
from tlcli import evaluation, heads, moments, strategies
from tlcli.features import Projection, Vectors
from tlcli.heads import HEADS, Evidence, LinearHead, Recipe
from tlcli.memory import herding
from tlcli.moments import Moments

pytestmark = pytest.mark.numerics

BITS, WIDTH, CLASSES, EACH = 12, 300, 7, 40

DIGESTS = {
    "lda": "e44a26ba9d3277fd",
    "ridge": "173706fd666a91aa",
    "rp-ridge": "173706fd666a91aa",
    "ncm": "50e58c2ea4eba869",
    "ncm-cosine": "57b31926d828607c",
}
"""Of each head that is solved from moments, with its temperature."""


def features(seed: int = 0) -> NDArray[np.float32]:
    """(n, D) features like those behind a ReLU, class after class."""
    random = np.random.RandomState(seed)
    centres = np.repeat(random.randint(0, 900, (CLASSES, WIDTH)), EACH, axis=0)
    noise = random.randint(-1500, 1500, (CLASSES * EACH, WIDTH))
    return np.asarray(np.maximum(centres + noise, 0) / 2**10, np.float32)


LABELS = [f"class {row // EACH}" for row in range(CLASSES * EACH)]


def found(chosen: slice = slice(None)) -> Moments:
    """The moments of some of the images."""
    return moments.of(features()[chosen], LABELS[chosen], "a backbone", BITS)


def calibrated(head: LinearHead) -> float:
    """The temperature of a head on images that it has not seen."""
    columns = np.array([head.classes.index(label) for label in LABELS])
    return heads.rounded(heads.temperature(head.logits(features(1)), columns))


def digest(*arrays: NDArray[np.generic]) -> str:
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(np.ascontiguousarray(array).tobytes())
    return hasher.hexdigest()[:16]


def test_every_head_that_is_solved_from_moments_is_among_them() -> None:
    assert set(DIGESTS) == {name for name, row in HEADS.items() if row.solve is not None}


@pytest.mark.parametrize("name", DIGESTS)
def test_heads_have_the_bits_of_other_machines(name: str) -> None:
    head = Recipe(name).solve(found())
    temperature = np.array([calibrated(head)])
    assert digest(head.weights, head.bias, temperature) == DIGESTS[name]


@pytest.mark.parametrize("name", DIGESTS)
def test_heads_of_rounds_are_those_of_all_images_at_once(name: str) -> None:
    parts = [found(slice(start, start + 60)) for start in (120, 0, 240, 60, 180)]
    total = parts[0]
    for part in parts[1:]:
        total = moments.add(total, part)
    whole, rounds = Recipe(name).solve(found()), Recipe(name).solve(total)
    assert digest(whole.weights, whole.bias) == digest(rounds.weights, rounds.bias)


def test_what_heads_say_of_held_out_images_has_the_bits_of_other_machines() -> None:
    """Fewer images than features, which are tested in coordinates of their span."""
    examples = examples_of(features()[::2], LABELS[::2])
    total = moments.of(features()[::2], LABELS[::2], "a backbone", BITS)
    evidence = Evidence(total, examples, examples.take([]))
    assert evidence.to_test.span is not None
    said = [
        evaluation.cross_validate_anew(
            strategies.first(Recipe(name)), evidence, total.classes, old_too=False
        )
        for name in DIGESTS
    ]
    assert min(evaluation.accuracies(answers)[0] for answers in said) > 0.5
    assert digest(*(answers.logits for answers in said)) == "ce42cfff7ff53022"


def test_logits_have_the_bits_of_other_machines() -> None:
    head = Recipe("lda").solve(found())
    assert digest(head.logits(features(1))) == "cd114bf02ad83216"


def test_exemplars_are_those_of_other_machines() -> None:
    examples = examples_of(features(), LABELS)
    chosen = herding.herded(examples, 5, herding.centres_of(examples))
    assert digest(np.array(chosen.hashes)) == "815ec474710ffcdb"


def test_projected_features_have_the_bits_of_other_machines() -> None:
    projected = Projection(128, BITS).of(Vectors.of(features())[:])
    assert digest(projected) == "04965c62c299c136"
