"""Networks in two halves."""

from typing import Any

import numpy as np
import pytest

from tlcli import backbones, engines, training
from tlcli.backbones import Reading

SIZE = 32


def residual() -> Any:
    """Two blocks with shortcuts, the second without a change of size; one layer is called twice."""
    keras = backbones.keras_module()
    layers = keras.layers
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Rescaling(1 / 255, name="preprocessing")(image)
    x = stem = layers.Conv2D(8, 3, strides=4, name="stem_conv")(x)
    twice = layers.Conv2D(8, 3, padding="same", name="block1_conv")
    x = layers.Add(name="block1_add")([stem, twice(twice(x))])
    x = layers.BatchNormalization(name="block1_bn")(x)
    y = layers.Conv2D(16, 1, name="block2_expand")(x)
    y = layers.Conv2D(8, 1, name="block2_project")(layers.ReLU(name="block2_relu")(y))
    x = layers.Add(name="block2_add")([x, y])
    return keras.Model(image, layers.GlobalAveragePooling2D(name="pooling")(x), name="residual")


def pixels(count: int = 3, size: int = SIZE) -> Any:
    return np.random.default_rng(0).uniform(0, 255, (count, size, size, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("learning", "crossing"),
    [("block1_conv", 1), ("block1_bn", 1), ("block2_expand", 1), ("block2_project", 2)],
)
def test_both_halves_are_the_network(learning: str, crossing: int) -> None:
    model = residual()
    before = model.get_config()
    found = backbones.halves(model, {learning})
    assert found is not None
    assert len(found.shapes) == crossing
    rows = found.lower(pixels(), training=False)
    assert rows.shape == (3, found.width)
    made = found.features(rows, training=False)
    np.testing.assert_allclose(made, model(pixels(), training=False), rtol=1e-5, atol=1e-6)
    assert model.get_config() == before
    assert not {learning} & {layer.name for layer in found.lower.layers}


def test_the_halves_are_of_the_layers_of_the_network() -> None:
    model = residual()
    found = backbones.halves(model, {"block2_project"})
    assert found is not None
    rows = found.lower(pixels(), training=False)
    kernel = model.get_layer("block2_project").kernel
    kernel.assign(kernel * 3)
    made = found.features(rows, training=False)
    np.testing.assert_allclose(made, model(pixels(), training=False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", ["keras", "openvino"])
@pytest.mark.parametrize(("learning", "crossing"), [("block1_conv", 1), ("block2_project", 2)])
def test_a_row_has_the_image_and_its_mirror_image(
    engine: str, learning: str, crossing: int
) -> None:
    """They go through the network side by side, as images of one batch."""
    model = backbones.read(residual(), "residual", Reading(views=2))
    found = backbones.halves(model, {learning})
    assert found is not None
    assert (len(found.shapes), found.views) == (crossing, 2)
    rows = np.stack(list(engines.of_model(found.lower, engine).features(pixels())))
    assert rows.shape == (3, found.width)
    np.testing.assert_allclose(
        found.features(rows, training=False),
        model(pixels(), training=False),
        rtol=1e-4,
        atol=1e-5,
    )


def test_nothing_is_below_the_first_layer() -> None:
    assert backbones.halves(residual(), {"stem_conv"}) is None
    assert backbones.halves(residual(), {"block2_expand", "stem_conv"}) is None


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_an_engine_runs_the_lower_half(engine: str) -> None:
    found = backbones.halves(residual(), {"block2_project"})
    assert found is not None
    rows = np.stack(list(engines.of_model(found.lower, engine).features(pixels())))
    np.testing.assert_allclose(rows, found.lower(pixels(), training=False), rtol=1e-4, atol=1e-4)


def test_what_openvino_cannot_express_is_run_by_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    found = backbones.halves(residual(), {"block2_project"})
    assert found is not None
    monkeypatch.setattr(
        "tlcli.backbones.openvino_ir._keep_features_alone", lambda network: 1 / len([])
    )
    rows = np.stack(list(engines.of_model(found.lower, "openvino").features(pixels())))
    np.testing.assert_allclose(rows, found.lower(pixels(), training=False), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("reading", [Reading(), Reading("blocks+rms", 2)], ids=["last", "blocks"])
@pytest.mark.parametrize("name", ["EfficientNetLite0", "MobileNetV2", "VGG16", "ResNet50"])
@pytest.mark.parametrize("unfreeze", ["1", "3"])
def test_real_networks(name: str, unfreeze: str, reading: Reading) -> None:
    model = backbones.read(backbones.build(name, 64, backbones.Random()), name, reading)
    blocks = training.blocks_to_train(model, name, unfreeze)
    found = backbones.halves(model, {layer for block in blocks for layer in block})
    assert found is not None
    rows = np.stack(list(engines.of_model(found.lower, "openvino").features(pixels(2, 64))))
    whole = model(pixels(2, 64), training=False)
    made = found.features(rows, training=False)
    np.testing.assert_allclose(made, whole, rtol=1e-3, atol=1e-4 * float(np.abs(whole).max()))
