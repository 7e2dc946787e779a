"""Every row of the table keeps the same promises.

One row is fast; the whole table runs with `-m slow`.
"""

import gc
import importlib
import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from tests.support.arrays import Floats, Pixels
from tlcli import backbones
from tlcli.backbones import LAYERS, VIEWS, Reading, openvino_ir
from tlcli.backbones.reading import stages
from tlcli.errors import EngineUnavailable, UsageError

# Keras 3.15 copies TensorFlow's variables in a way that NumPy 2 remarks on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FAST = {"MobileNetV3Small"}

ROWS = [
    pytest.param(name, marks=[] if name in FAST else pytest.mark.slow)
    for name in backbones.BACKBONES
]

# One of each module of keras.applications; the others differ in the number of layers.
FAMILIES = (
    "ConvNeXtTiny",
    "DenseNet121",
    "EfficientNetB0",
    "EfficientNetV2B0",
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Small",
    "NASNetMobile",
    "ResNet50",
    "ResNet50V2",
    "VGG16",
    "Xception",
)

CLASSES = ["a", "b", "c"]


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Iterator[backbones.Architecture]:
    """A row; its memory is given back afterwards."""
    yield backbones.architecture(request.param)
    backbones.keras_module().backend.clear_session()
    gc.collect()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder that goes with the test; large rows fill hundreds of megabytes."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture
def no_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the export, which takes longer than the rest; see the test of the families."""

    def refuse(model: Any, folder: Path) -> NoReturn:
        raise EngineUnavailable("not asked for")

    monkeypatch.setattr("tlcli.backbones.openvino_ir.export", refuse)


@pytest.mark.parametrize("row", ROWS, indirect=True)
def test_a_row_keeps_every_promise(
    row: backbones.Architecture, folder: Path, no_openvino: None
) -> None:
    """Storing and loading are tried once a family, by itself and with a head."""
    model = backbones.build(row.name, row.smallest, backbones.Random())
    images = backbones.probe_images(row.smallest, 2)
    features = np.asarray(model(images, training=False))
    check_table(row, model)
    check_preprocessing(row, model, images)
    check_blocks(row, model)
    check_reading(row, model, images)
    if row.name in FAMILIES:
        stored = backbones.store(model, row.name, "none", folder / "backbone")
        check_same(backbones.load_model(stored), stored, images, features)
        check_classifier(stored, images, features, folder / "classifier.keras")


def check_table(row: backbones.Architecture, model: Any) -> None:
    assert model.input_shape == (None, row.smallest, row.smallest, 3)
    assert model.output_shape == (None, row.width)
    assert model.count_params() == row.parameters
    with pytest.raises(UsageError, match=f"at least {row.smallest} pixels"):
        backbones.build(row.name, row.smallest - 1, backbones.Random())


def check_preprocessing(row: backbones.Architecture, model: Any, images: Pixels) -> None:
    """Compare the inner preprocessing with that of the row's own module, given a copy."""
    keras = backbones.keras_module()
    names = [layer.name for layer in model.layers]
    if row.builder:
        expected = own_module(row).preprocess_input(images.astype(np.float32))
    else:
        expected = (images.astype(np.float32) - 127) / 128
    if row.preprocessing == "raw":
        kinds = (keras.layers.Rescaling, keras.layers.Normalization)
        np.testing.assert_array_equal(expected, images)
        assert any(isinstance(layer, kinds) for layer in model.layers)
        assert "preprocessing" not in names
    else:
        inner = keras.Model(model.input, model.get_layer("preprocessing").output)
        np.testing.assert_allclose(inner(images), expected, atol=1e-4)


def own_module(row: backbones.Architecture) -> Any:
    constructor = getattr(backbones.keras_module().applications, row.builder)
    return importlib.import_module(inspect.unwrap(constructor).__module__)


def check_blocks(row: backbones.Architecture, model: Any) -> None:
    found = backbones.blocks(model, row.name)
    grouped = [name for block in found for name in block.layers]
    weighted = [layer.name for layer in model.layers if layer.weights]
    assert sorted(grouped) == sorted(weighted)
    assert len(found) >= 5
    assert max(len(block.layers) for block in found) <= 60
    assert len({block.name for block in found}) == len(found)


def check_reading(row: backbones.Architecture, model: Any, images: Pixels) -> None:
    """Further layers stand behind the network's own output, and change nothing below them."""
    maps = stages(model, row.block_names)
    sides = [features.shape[1] for features in maps]
    assert len(maps) >= 3 and sides == sorted(sides, reverse=True)
    assert len(set(sides)) >= 3 and sides[0] * 3 <= row.smallest
    widest = Reading(list(LAYERS)[-1], VIEWS[-1])
    read = backbones.read(model, row.name, widest)
    own = [np.asarray(model(view, training=False)) for view in (images, images[:, :, ::-1])]
    found = np.asarray(read(images, training=False))
    assert found.shape[1] == read.output_shape[1] > row.width + sum(m.shape[-1] for m in maps)
    np.testing.assert_allclose(
        found[:, : row.width], np.mean(own, axis=0), atol=1e-4 * max(own[0].std(), 1e-6)
    )
    assert np.isfinite(found).all()
    assert (found[:, row.width :].std(axis=0) > 0).mean() > 0.5
    assert [w.path for w in read.weights] == [w.path for w in model.weights]
    assert backbones.blocks(read, row.name) == backbones.blocks(model, row.name)


def check_same(
    model: Any, stored: backbones.StoredBackbone, images: Pixels, features: Floats
) -> None:
    assert backbones.fingerprint(model, stored.name) == stored.fingerprint
    np.testing.assert_array_equal(np.asarray(model(images, training=False)), features)


def check_classifier(
    stored: backbones.StoredBackbone, images: Pixels, features: Floats, path: Path
) -> None:
    """Compare a composed classifier, and the backbone in it, with what went into them."""
    random = np.random.default_rng(0)
    spread = max(float(features.std()), 1e-30)
    weights = random.normal(size=(stored.width, 3), scale=0.1 / spread).astype(np.float32)
    bias = random.normal(size=3).astype(np.float32)
    backbones.write_classifier(stored, weights, bias, CLASSES, path)

    keras = backbones.keras_module()
    classifier = keras.saving.load_model(path, safe_mode=True)
    head = classifier.get_layer("head")
    check_same(keras.Model(classifier.input, head.input), stored, images, features)
    np.testing.assert_array_equal(head.get_weights()[0], weights)
    expected = np.asarray(keras.ops.softmax(features @ weights + bias))
    np.testing.assert_allclose(head(features), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("row", FAMILIES, indirect=True)
def test_every_family_is_stored_and_run_with_more_layers(
    row: backbones.Architecture, folder: Path
) -> None:
    """Safe mode loads it, and OpenVINO agrees with Keras: none is left to Keras."""
    reading = Reading(list(LAYERS)[-1], VIEWS[-1])
    model = backbones.build(row.name, row.smallest, backbones.Random())
    model = backbones.read(model, row.name, reading)
    images = backbones.probe_images(row.smallest, 2)
    features = np.asarray(model(images, training=False))
    stored = backbones.store(model, row.name, "none", folder / "backbone", reading=reading)
    assert stored.openvino_deviation is not None
    assert 0 <= stored.openvino_deviation <= openvino_ir.TOLERANCE
    loaded = backbones.load_model(stored)
    np.testing.assert_array_equal(np.asarray(loaded(images, training=False)), features)
    assert backbones.load_stored(stored.folder).reading == reading


@pytest.mark.slow
@pytest.mark.parametrize("row", sorted({*FAMILIES} - {"InceptionResNetV2"}), indirect=True)
def test_files_saved_by_keras_own_networks_fit(row: backbones.Architecture, folder: Path) -> None:
    """Both HDF5 formats, without preprocessing layers, as the published files are."""
    from tests.backbones.test_weights import save_legacy

    keras = backbones.keras_module()
    shape = (row.smallest, row.smallest, 3)
    bare = getattr(keras.applications, row.builder)(
        include_top=False, pooling="avg", weights=None, input_shape=shape
    )
    prepared = own_module(row).preprocess_input(
        backbones.probe_images(row.smallest, 2).astype(np.float32)
    )
    expected = np.asarray(bare(prepared, training=False))
    save_legacy(bare, folder / "bare.h5")
    bare.save_weights(str(folder / "bare.weights.h5"))
    for name in ("bare.h5", "bare.weights.h5"):
        model = backbones.build(row.name, row.smallest, backbones.WeightsFile(str(folder / name)))
        features = np.asarray(model(backbones.probe_images(row.smallest, 2), training=False))
        np.testing.assert_allclose(features, expected, atol=1e-3 * expected.std())


@pytest.mark.slow
@pytest.mark.parametrize("row", FAMILIES, indirect=True)
def test_the_table_names_the_file_that_keras_downloads(
    row: backbones.Architecture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras.src.utils import file_utils

    def record(name: str, *_: object, **__: object) -> NoReturn:
        raise LookupError(name)

    monkeypatch.setattr(file_utils, "get_file", record)
    with pytest.raises(LookupError) as caught:
        backbones.build(row.name, row.image_size, backbones.Imagenet())
    assert caught.value.args == (row.weights_file,)
