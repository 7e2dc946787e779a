"""Which layers and views make a feature vector: values by hand, and what is stored of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import tiny
from tests.support.mutations import write_backbone
from tlcli import backbones
from tlcli.backbones import LAYERS, USUAL, Reading
from tlcli.errors import RunError, UsageError

# Keras 3.15 copies TensorFlow's variables in a way that NumPy 2 remarks on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAME, SIZE = "EfficientNetLite0", tiny.IMAGE_SIZE
READINGS = [Reading(layers, views) for layers in LAYERS for views in backbones.VIEWS]
OTHERS = [reading for reading in READINGS if reading != USUAL]


def network(seed: int = 0) -> Any:
    """Three blocks of 8, 12 and 16 channels, with sides of 15, 7 and 3."""
    return tiny.build(NAME, SIZE, None, seed)


def values(model: Any, images: Any) -> Any:
    return np.asarray(model(images, training=False), np.float64)


@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_the_values_are_those_of_the_maps(reading: Reading) -> None:
    """The map of half the side, 15 of 32, is not read; the last is what the network pools."""
    keras, model = backbones.keras_module(), network()
    images = backbones.probe_images(SIZE, 5)
    maps = keras.Model(model.input, model.get_layer("block2a_relu").output)

    def of_view(view: Any) -> Any:
        found = np.asarray(maps(view), np.float64)
        row, parts = LAYERS[reading.layers], [values(model, view)]
        parts += [found.mean(axis=(1, 2))] if row.means else []
        parts += [np.sqrt((found**2).mean(axis=(1, 2)))] if row.roots else []
        return np.concatenate(parts, axis=1)

    views = (images, images[:, :, ::-1])[: reading.views]
    expected = np.mean([of_view(view) for view in views], axis=0)
    received = values(backbones.read(model, NAME, reading), images)
    np.testing.assert_allclose(received, expected, atol=2e-5)


def test_an_image_and_its_mirror_image_are_one() -> None:
    images, model = backbones.probe_images(SIZE, 4), network()
    assert np.abs(values(model, images) - values(model, images[:, :, ::-1])).max() > 1e-3
    both = backbones.read(model, NAME, Reading(views=2))
    np.testing.assert_allclose(values(both, images), values(both, images[:, :, ::-1]), atol=1e-5)


def test_images_have_no_neighbours() -> None:
    """Both views of many images go through the network side by side."""
    model = backbones.read(network(), NAME, Reading("blocks+rms", 2))
    images = backbones.probe_images(SIZE, 6)
    alone = np.concatenate([values(model, image[None]) for image in images])
    np.testing.assert_allclose(values(model, images), alone, atol=1e-5)


def test_large_blocks_are_scaled_down() -> None:
    """By powers of two, to eight times the network's own output."""
    model = network()
    layer = model.get_layer("block2a_bn")
    layer.set_weights([1000 * layer.get_weights()[0], *layer.get_weights()[1:]])
    following = model.get_layer("block3a_conv")
    following.set_weights([following.get_weights()[0] / 1000, following.get_weights()[1]])
    read = backbones.read(model, NAME, Reading("blocks"))
    images = backbones.probe_images(SIZE)
    own, blocks = np.split(values(read, images), [16], axis=1)
    assert 4 * own.max() < blocks.max() <= 8 * own.max()
    maps = backbones.keras_module().Model(model.input, model.get_layer("block2a_relu").output)
    ratio = np.asarray(maps(images)).mean(axis=(1, 2)).max() / blocks.max()
    assert ratio > 8 and ratio == pytest.approx(2 ** np.round(np.log2(ratio)))


def test_random_weights_do_not_tell_how_large_blocks_will_be() -> None:
    model = network()
    layer = model.get_layer("block3a_bn")
    layer.set_weights([layer.get_weights()[0] / 1e6, *layer.get_weights()[1:]])
    for trained, scaled in ((True, 1), (False, 0)):
        read = backbones.read(model, NAME, Reading("blocks"), trained)
        assert sum(layer.name.startswith("scaled") for layer in read.layers) == scaled


def test_gradients_are_finite_where_a_channel_is_silent() -> None:
    import tensorflow

    model = network()
    layer = model.get_layer("block2a_bn")
    gamma, beta, *rest = layer.get_weights()
    layer.set_weights([0 * gamma, 0 * beta - 1, *rest])
    read = backbones.read(model, NAME, Reading("blocks+rms", 2))
    with tensorflow.GradientTape() as tape:
        total = tensorflow.reduce_sum(read(backbones.probe_images(SIZE, 2).astype(np.float32)))
    for gradient in tape.gradient(total, read.trainable_variables):
        assert np.isfinite(np.asarray(gradient)).all()


def test_as_usual_is_the_network_itself() -> None:
    model = network()
    assert backbones.read(model, NAME, USUAL) is model


@pytest.mark.parametrize("reading", [Reading("first"), Reading(views=3), Reading(views=0)])
def test_what_there_is_not_is_refused(reading: Reading) -> None:
    with pytest.raises(UsageError, match="Expected"):
        backbones.read(network(), NAME, reading)


def stored_as(reading: Reading, folder: Path, seed: int = 0) -> backbones.StoredBackbone:
    model = backbones.read(network(seed), NAME, reading)
    return backbones.store(model, NAME, "none", folder, reading=reading)


def test_each_is_stored_under_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    found = {}
    for number, reading in enumerate(READINGS):
        stored = stored_as(reading, tmp_path / str(number))
        assert backbones.load_stored(stored.folder).reading == reading
        images = backbones.probe_images(SIZE, 2)
        model = backbones.load_model(stored)
        expected = values(backbones.read(network(), NAME, reading), images)
        np.testing.assert_array_equal(values(model, images), expected)
        assert stored.openvino_deviation is not None
        found[stored.fingerprint] = reading
    assert len(found) == len(READINGS)


def test_the_same_again_has_the_same_bytes(tmp_path: Path) -> None:
    """Names of operations do not count what the process built before."""
    first, second = (stored_as(OTHERS[-1], tmp_path / name) for name in "ab")
    assert first.files == second.files
    assert first.fingerprint == second.fingerprint


def test_what_is_read_as_usual_is_stored_as_before(tmp_path: Path) -> None:
    content = json.loads((stored_as(USUAL, tmp_path).folder / "backbone.json").read_bytes())
    assert content["format"] == 3 and "reading" not in content


@pytest.mark.parametrize(
    "changes",
    [{"layers": "first"}, {"views": 3}, {"views": "2"}, {"more": 1}, {"layers": None}],
    ids=str,
)
def test_a_damaged_description_is_a_run_error(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = stored_as(OTHERS[-1], tmp_path).folder
    content = json.loads((folder / "backbone.json").read_bytes())
    content["reading"] |= changes
    write_backbone(folder, content)
    with pytest.raises(RunError, match="damaged"):
        backbones.load_stored(folder)
