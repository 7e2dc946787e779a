"""Classifiers of other people, taken apart: the halves compute what the whole does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import classifiers
from tests.support.arrays import Doubles, Floats
from tlcli import backbones
from tlcli.backbones import CannotCut

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PLAIN = backbones.SCALINGS[backbones.OWN].prepare


@pytest.fixture(scope="module")
def keras() -> Any:
    return backbones.keras_module()


@pytest.fixture(autouse=True)
def seeded(keras: Any) -> None:
    keras.utils.set_random_seed(7)


def softmax(logits: Doubles) -> Doubles:
    powers: Doubles = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def halves(cut: backbones.Cut, images: Floats) -> Doubles:
    features = np.asarray(cut.network(images, training=False), np.float64)
    return softmax(features @ cut.weights + cut.bias)


def expected_of(model: Any, images: Floats) -> Doubles:
    """What `predict` says, as probabilities of classes."""
    if model.inputs[0].shape[-1] == 1:
        images = (images @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    answers = np.asarray(model.predict(images, verbose=0, batch_size=4), np.float64)
    last = model.layers[-1]
    if answers.shape[1] > 1:
        return answers
    if last.activation.__name__ == "linear":
        answers = 1 / (1 + np.exp(-answers))
    return np.concatenate([1 - answers, answers], axis=1)


@pytest.mark.parametrize("shape", classifiers.SHAPES)
def test_the_halves_answer_as_the_whole(shape: str) -> None:
    model = classifiers.SHAPES[shape]()
    size = backbones.image_size_of(model, None)
    images = backbones.probe_images(size, 8).astype(np.float32)
    expected = expected_of(model, images)
    cut = backbones.cut(model, size, PLAIN)
    np.testing.assert_allclose(halves(cut, images), expected, atol=1e-6)
    own = backbones.answers_of(model, cut.activation, PLAIN, images.astype(np.uint8))
    np.testing.assert_allclose(own, expected, atol=1e-6)
    assert cut.scales is not None


@pytest.mark.parametrize("shape", classifiers.SHAPES)
def test_the_network_is_flat_and_is_the_same_after_it_was_stored(
    shape: str, tmp_path: Path
) -> None:
    """No model within it, nothing that acts in training alone: fine-tuning can count on that."""
    model = classifiers.SHAPES[shape]()
    size = backbones.image_size_of(model, None)
    cut = backbones.cut(model, size, PLAIN)
    keras = backbones.keras_module()
    kinds = [type(layer) for layer in cut.network.layers]
    assert not any(issubclass(kind, keras.Model) for kind in kinds)
    assert not any(kind.__name__.startswith(("Random", "Gaussian", "Dropout")) for kind in kinds)
    assert all(layer.trainable for layer in cut.network.layers)
    stored = backbones.store(cut.network, backbones.ADOPTED, "a file", tmp_path / "backbone")
    images = backbones.probe_images(size, 4)
    np.testing.assert_array_equal(
        np.asarray(backbones.load_model(stored)(images, training=False)),
        np.asarray(cut.network(images, training=False)),
    )
    again = backbones.cut(model, size, PLAIN).network
    assert backbones.fingerprint(again, backbones.ADOPTED) == stored.fingerprint


def test_the_fingerprint_tells_networks_apart_by_what_they_compute() -> None:
    model = classifiers.sigmoid()
    network = backbones.cut(model, classifiers.SIZE, PLAIN).network
    scaled = backbones.cut(model, classifiers.SIZE, backbones.SCALINGS["0-1"].prepare).network
    of = {backbones.fingerprint(found, backbones.ADOPTED) for found in (network, scaled)}
    assert len(of) == 2
    network.layers[2].activation = backbones.keras_module().activations.tanh
    assert backbones.fingerprint(network, backbones.ADOPTED) not in of


@pytest.mark.parametrize("name", backbones.SCALINGS)
def test_a_scaling_stands_in_front(name: str, keras: Any) -> None:
    image = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))
    images = backbones.probe_images(32, 4).astype(np.float32)
    applications = keras.applications
    by_hand = {
        "none": lambda pixels: pixels,
        "0-1": lambda pixels: pixels / 255,
        "-1-1": applications.mobilenet_v2.preprocess_input,
        "caffe": applications.vgg16.preprocess_input,
        "torch": applications.densenet.preprocess_input,
    }
    expected = model.predict(by_hand[name](images.copy()), verbose=0)
    cut = backbones.cut(model, 32, backbones.SCALINGS[name].prepare)
    np.testing.assert_allclose(halves(cut, images), expected, atol=2e-5)
    assert cut.scales is None


def test_it_is_computed_in_32_bits(keras: Any) -> None:
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = classifiers.sequential()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    cut = backbones.cut(model, classifiers.SIZE, PLAIN)
    assert cut.half
    assert cut.network.output.dtype == "float32"
    assert all(layer.compute_dtype == "float32" for layer in cut.network.layers)


@pytest.mark.parametrize("shape", ["tutorial", "hidden"])
def test_its_blocks_can_be_unfrozen(shape: str) -> None:
    network = backbones.cut(classifiers.SHAPES[shape](), classifiers.SIZE, PLAIN).network
    found = backbones.blocks(network, backbones.ADOPTED)
    named = [name for block in found for name in block.layers]
    assert named == [layer.name for layer in network.layers if layer.weights]
    kernels = sum(bool(getattr(layer, "kernel", None) is not None) for layer in network.layers)
    assert len(found) == kernels


def test_blocks_are_named_as_in_the_row_that_knows_the_layers(keras: Any) -> None:
    base = keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(32, 32, 3))
    image = keras.Input((32, 32, 3))
    x = keras.layers.GlobalAveragePooling2D()(base(keras.layers.Rescaling(1 / 127.5, -1)(image)))
    network = backbones.cut(
        keras.Model(image, keras.layers.Dense(3, activation="softmax")(x)), 32, PLAIN
    ).network
    found = [block.name for block in backbones.blocks(network, backbones.ADOPTED)]
    own = backbones.build("MobileNetV2", 32, backbones.Random())
    assert found == [block.name for block in backbones.blocks(own, "MobileNetV2")]


def ends_in(keras: Any, *layers: Any) -> Any:
    image = keras.Input((32, 32, 3))
    x = image
    for layer in (keras.layers.Conv2D(4, 3), *layers):
        x = layer(x)
    return keras.Model(image, x)


def several_outputs(keras: Any) -> Any:
    image = keras.Input((32, 32, 3))
    x = keras.layers.Flatten()(image)
    return keras.Model(image, [keras.layers.Dense(3)(x), keras.layers.Dense(2)(x)])


def several_inputs(keras: Any) -> Any:
    images = [keras.Input((32, 32, 3)) for _ in range(2)]
    x = keras.layers.Flatten()(keras.layers.Concatenate()(images))
    return keras.Model(images, keras.layers.Dense(3)(x))


def of_a_class(keras: Any) -> Any:
    class Own(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, images: Any) -> Any:
            return self.dense(images)

    return keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), Own()])


def layers_of(name: str) -> list[Any]:
    """Ends of networks that are no classifier's, by what is wrong with them."""
    layers = backbones.keras_module().layers
    pool = layers.GlobalAveragePooling2D
    return {
        "no_dense": [pool()],
        "a_map": [layers.Conv2D(3, 1, activation="softmax")],
        "boxes": [layers.Reshape((-1, 4)), layers.Dense(4)],
        "a_large_convolution": [layers.Conv2D(3, 3), pool(), layers.Softmax()],
        "several_at_once": [pool(), layers.Dense(3, activation="sigmoid")],
        "one_softmax_unit": [pool(), layers.Dense(1, activation="softmax")],
        "relu_at_the_end": [pool(), layers.Dense(3, activation="relu")],
        "a_layer_behind": [pool(), layers.Dense(3), layers.BatchNormalization(), layers.Softmax()],
        "two_activations": [pool(), layers.Dense(3, activation="softmax"), layers.Softmax()],
        "averaged_answers": [layers.Conv2D(3, 1, activation="softmax"), pool()],
    }[name]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("no_dense", "GlobalAveragePooling2D|Conv2D"),
        ("a_map", "a map of answers"),
        ("boxes", "a map of answers"),
        ("a_large_convolution", "Conv2D"),
        ("several_at_once", "3 sigmoid units"),
        ("one_softmax_unit", "always answers 1"),
        ("relu_at_the_end", "relu behind"),
        ("a_layer_behind", "BatchNormalization"),
        ("two_activations", "softmax behind"),
        ("averaged_answers", "softmax behind"),
    ],
)
def test_what_does_not_end_as_a_classifier_is_refused(keras: Any, name: str, part: str) -> None:
    with pytest.raises(CannotCut, match=part) as caught:
        backbones.cut(ends_in(keras, *layers_of(name)), 32, PLAIN)
    message = str(caught.value.about("model.keras"))
    assert "Received: model.keras, " in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("build", "part"),
    [(several_outputs, "2 outputs"), (several_inputs, "2 inputs"), (of_a_class, "class Own")],
)
def test_other_networks_are_refused(keras: Any, build: Callable[..., Any], part: str) -> None:
    with pytest.raises(CannotCut, match=part):
        backbones.cut(build(keras), 32, PLAIN)


@pytest.mark.parametrize(
    ("shape", "asked", "part"),
    [
        ((None, None, 3), None, "--image-size"),
        ((None, 32, 3), None, "--image-size"),
        ((32, 48, 3), None, "square"),
        ((32, 32, 3), 64, "image-size=64"),
        ((32, 32, 4), None, "3 channels or 1"),
        ((3, 32, 32), None, "3 channels or 1"),
        ((784,), None, "3 channels or 1"),
    ],
)
def test_other_images_are_refused(
    keras: Any, shape: tuple[int | None, ...], asked: int | None, part: str
) -> None:
    image = keras.Input(shape)
    model = keras.Model(image, keras.layers.Identity()(image))
    with pytest.raises(CannotCut) as caught:
        backbones.image_size_of(model, asked)
    assert part in str(caught.value.about("model.keras"))


def test_a_network_for_any_size_gets_the_one_that_is_asked_for() -> None:
    model = classifiers.any_size()
    assert backbones.image_size_of(model, 48) == 48
    images = backbones.probe_images(48, 4).astype(np.float32)
    expected = model.predict(images, verbose=0)
    cut = backbones.cut(model, 48, PLAIN)
    np.testing.assert_allclose(halves(cut, images), expected, atol=1e-6)
