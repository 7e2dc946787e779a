"""Layers computed the fast way are the layers that Keras computes."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tlcli import backbones, training
from tlcli.training.adam import adamw
from tlcli.training.quick_layers import quick

Build = Callable[[Any, Any], Any]
"""(keras.layers, an image) → what layers make of it."""


def _mobile(layers: Any, x: Any, size: int, **how: Any) -> Any:
    """The layers of an inverted residual, with a shortcut beside them."""
    x = layers.Conv2D(6, 3, padding="same", name="stem")(x)
    y = layers.Conv2D(12, 1, use_bias=False, name="expand")(x)
    y = layers.ReLU(6.0)(layers.BatchNormalization(name="expand_bn")(y))
    y = layers.DepthwiseConv2D(size, use_bias=False, name="depthwise", **how)(y)
    y = layers.ReLU(6.0)(layers.BatchNormalization(name="depthwise_bn")(y))
    y = layers.BatchNormalization(name="project_bn")(layers.Conv2D(6, 1, name="project")(y))
    return layers.Add()([x, y]) if x.shape == y.shape else y


def _without_factors(layers: Any, x: Any) -> Any:
    x = layers.Conv2D(6, 3, strides=2, name="conv")(x)
    x = layers.BatchNormalization(scale=False, name="shifted")(x)
    x = layers.Conv2D(4, 1, name="pointwise")(x)
    return layers.BatchNormalization(center=False, name="scaled")(x)


def _seen_by_two(layers: Any, x: Any) -> Any:
    x = layers.Conv2D(6, 1, name="conv")(x)
    return layers.Add()([x, layers.BatchNormalization(name="bn")(x)])


def _called_twice(layers: Any, x: Any) -> Any:
    conv, normalized = layers.Conv2D(3, 1, name="conv"), layers.BatchNormalization(name="bn")
    return normalized(conv(conv(x)))


def _active(layers: Any, x: Any) -> Any:
    x = layers.Conv2D(6, 1, activation="relu", name="conv")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.DepthwiseConv2D(3, activation="swish", name="depthwise")(x)
    return layers.BatchNormalization(name="depthwise_bn")(x)


def _unusual(layers: Any, x: Any) -> Any:
    x = layers.Conv2D(6, 1, strides=2, name="strided")(x)
    x = layers.BatchNormalization(name="strided_bn")(x)
    x = layers.Conv2D(4, 1, groups=2, name="groups")(x)
    x = layers.BatchNormalization(name="groups_bn")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="doubled")(x)
    x = layers.BatchNormalization(name="doubled_bn")(x)
    return layers.SeparableConv2D(4, 3, padding="same", name="separable")(x)


NETWORKS: dict[str, Build] = {
    "3x3": lambda layers, x: _mobile(layers, x, 3, padding="same"),
    "5x5": lambda layers, x: _mobile(layers, x, 5, padding="same"),
    "strided": lambda layers, x: _mobile(layers, x, 3, padding="same", strides=2),
    "strided valid": lambda layers, x: _mobile(layers, x, 3, strides=2),
    "dilated": lambda layers, x: _mobile(layers, x, 3, dilation_rate=2, padding="same"),
    "without factors": _without_factors,
    "seen by two": _seen_by_two,
    "called twice": _called_twice,
    "active": _active,
    "unusual": _unusual,
}


def network(build: Build, size: int) -> Any:
    """With weights and statistics that no layer begins with; its BatchNormalization is frozen."""
    keras = backbones.keras_module()
    image = keras.Input((size, size, 3))
    model = keras.Model(image, build(keras.layers, image))
    generator = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(generator.uniform(0.5, 1.5, variable.shape) - 0.6 * (variable.ndim > 1))
    for layer in model.layers:
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    return model


def outputs_and_gradients(model: Any, images: Any) -> list[Any]:
    """Compiled, without dropout; the gradients are those of all that learns, and of the images."""
    import tensorflow as tf

    variables = [variable.value for variable in model.trainable_variables]

    @tf.function  # type: ignore[untyped-decorator]
    def graph(images: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = model(images, training=False)
            loss = tf.reduce_mean(outputs**2)
        return [outputs, *tape.gradient(loss, [images, *variables])]

    return [found.numpy() for found in graph(tf.constant(images))]


def names(model: Any) -> set[str]:
    return {layer.name for layer in model.layers}


def assert_as_keras(model: Any, learning: set[str], tolerance: float) -> None:
    """Largest differences in shares of the largest number."""
    size = model.input_shape[1]
    images = np.random.default_rng(1).normal(size=(3, size, size, 3)).astype(np.float32)
    plain = outputs_and_gradients(model, images)
    with quick(model, learning):
        fast = outputs_and_gradients(model, images)
    for expected, found in zip(plain, fast, strict=True):
        spread = float(np.abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * spread)


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_outputs_and_gradients_are_keras(build: Build) -> None:
    model = network(build, 7)
    assert_as_keras(model, names(model), 1e-5)


def test_a_large_map_is_keras() -> None:
    model = network(NETWORKS["5x5"], 12)
    assert_as_keras(model, names(model), 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50"])
def test_the_last_blocks_of_backbones_are_keras(name: str) -> None:
    model = backbones.build(name, 96, backbones.Random())
    blocks = training.blocks_to_train(model, name, "2")
    learning = {layer for block in blocks for layer in block}
    for layer in model.layers:
        frozen = isinstance(layer, backbones.keras_module().layers.BatchNormalization)
        layer.trainable = layer.name in learning and not frozen
    assert_as_keras(model, learning, 1e-4)


def replaced(model: Any) -> set[str]:
    """The layers that are not called as Keras would call them."""
    return {layer.name for layer in model.layers if "call" in vars(layer)}


def test_convolutions_that_learn_take_what_is_frozen_behind_them() -> None:
    model = network(NETWORKS["3x3"], 7)
    before = model.get_config()
    with quick(model, {"expand", "project"}):
        assert replaced(model) == {"expand", "expand_bn", "project", "project_bn"}
        assert model.get_config() == before
    assert not replaced(model)


def test_what_learns_statistics_or_is_seen_by_others_stays() -> None:
    model = network(NETWORKS["3x3"], 7)
    model.get_layer("project_bn").trainable = True
    with quick(model, {"depthwise", "project"}):
        assert replaced(model) == {"depthwise", "depthwise_bn", "project"}
    for name in ("seen by two", "called twice", "active"):
        model = network(NETWORKS[name], 7)
        with quick(model, names(model)):
            assert "bn" not in replaced(model)


def test_layers_of_half_the_precision_are_left_alone() -> None:
    model = network(NETWORKS["3x3"], 7)
    for layer in model.layers:
        layer.dtype_policy = backbones.keras_module().DTypePolicy("mixed_bfloat16")
    with quick(model, names(model)):
        assert not replaced(model)


def test_calls_are_keras_again_after_an_error() -> None:
    model = network(NETWORKS["3x3"], 7)
    with pytest.raises(ZeroDivisionError), quick(model, names(model)):
        raise ZeroDivisionError
    assert not replaced(model)


def test_adamw_is_keras() -> None:
    keras = backbones.keras_module()
    generator = np.random.default_rng(0)
    starts = [generator.normal(size=shape).astype(np.float32) for shape in ((4, 3), (3,))]
    ours, theirs = ([keras.Variable(start) for start in starts] for _ in "ab")
    fast, plain = adamw(0.01, 0.1), keras.optimizers.AdamW(0.01, weight_decay=0.1)
    for optimizer, variables in ((fast, ours), (plain, theirs)):
        optimizer.exclude_from_weight_decay(var_list=variables[1:])
        optimizer.build(variables)
    for rate in (0.01, 0.02, 0.005, 0.01):
        gradients = [generator.normal(size=start.shape).astype(np.float32) for start in starts]
        for optimizer, variables in ((fast, ours), (plain, theirs)):
            optimizer.learning_rate.assign(rate)
            optimizer.apply([keras.ops.array(g) for g in gradients], variables)
    pairs = [*zip(ours, theirs, strict=True), *zip(fast.variables, plain.variables, strict=True)]
    for found, expected in pairs:
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)
