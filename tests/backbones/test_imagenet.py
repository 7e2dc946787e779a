"""The 1000 classes of ImageNet: their names, and the networks that know them."""

import gc
import re
from pathlib import Path

import numpy as np
import pytest

from tests.backbones.test_conformance import FAMILIES
from tests.backbones.test_weights import save_legacy
from tests.support.arrays import Doubles
from tlcli import backbones
from tlcli.errors import UsageError
from tlcli.images.sources import class_name

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LITE = [name for name, row in backbones.BACKBONES.items() if row.package]


def softmax(logits: Doubles) -> Doubles:
    powers: Doubles = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def test_there_are_1000_names_that_can_be_told_apart() -> None:
    identifiers, names = zip(*backbones.imagenet_classes(), strict=True)
    assert len(names) == 1000
    assert len({name.casefold() for name in names}) == 1000
    assert all(class_name(name, "the table") == name for name in names)
    assert list(identifiers) == sorted({*identifiers})
    assert all(re.fullmatch(r"n\d{8}", identifier) for identifier in identifiers)


def test_names_stand_where_everybody_has_them() -> None:
    """Columns that are known from many programs."""
    known = {0: "tench", 151: "Chihuahua", 207: "golden retriever", 388: "giant panda"}
    known |= {985: "daisy", 999: "toilet tissue"}
    names = [name for _, name in backbones.imagenet_classes()]
    assert {column: names[column] for column in known} == known


@pytest.mark.parametrize("name", LITE)
def test_columns_of_a_package(name: str) -> None:
    row = backbones.architecture(name)
    if backbones.weights_here(name) is None:
        pytest.skip(f"{row.package} is not installed")
    weights, bias = backbones.packaged_columns(row)
    assert (weights.shape, bias.shape) == ((row.width, 1000), (1000,))
    assert weights.dtype == bias.dtype == np.float32
    assert weights.flags.c_contiguous


SLOW = [
    pytest.param(name, marks=[] if name == "MobileNetV3Small" else pytest.mark.slow)
    for name in FAMILIES
]


@pytest.mark.parametrize("name", SLOW)
def test_an_application_is_cut_below_its_own_top(name: str) -> None:
    """With random weights: the halves answer as the whole behind its own preprocessing."""
    row = backbones.architecture(name)
    keras = backbones.keras_module()
    model = getattr(keras.applications, row.builder)(include_top=True, weights=None)
    found = backbones.cut_application(row, model)
    images = backbones.probe_images(row.image_size, 2)
    prepare = backbones.PREPARE[row.preprocessing]
    expected = backbones.answers_of(model, found.activation, prepare, images)
    features = backbones.features_of(found.network, images)
    answers = softmax(features.astype(np.float64) @ found.weights + found.bias)
    np.testing.assert_allclose(answers, expected, atol=1e-6)
    assert found.network.name == name
    assert answers.shape == (2, 1000)
    keras.backend.clear_session()
    gc.collect()


def test_weights_of_a_file_are_those_of_the_whole_network(tmp_path: Path) -> None:
    name = "MobileNetV3Small"
    row = backbones.architecture(name)
    constructor = getattr(backbones.keras_module().applications, row.builder)
    whole = constructor(include_top=True, weights=None)
    save_legacy(whole, tmp_path / "whole.h5")
    read = backbones.application(row, backbones.WeightsFile(str(tmp_path / "whole.h5")))
    for received, expected in zip(read.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(received.numpy(), expected.numpy())
    save_legacy(constructor(include_top=False, weights=None), tmp_path / "no_top.h5")
    with pytest.raises(UsageError, match="include_top=True"):
        backbones.application(row, backbones.WeightsFile(str(tmp_path / "no_top.h5")))
