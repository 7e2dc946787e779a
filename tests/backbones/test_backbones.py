"""Building backbones: preprocessing, seeds, blocks, fingerprints, silence."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.arrays import Pixels
from tlcli import backbones
from tlcli.backbones import runtime
from tlcli.backbones.table import IMAGENET_DEVIATION, IMAGENET_MEAN
from tlcli.errors import UsageError

SIZE = 32


@pytest.fixture(scope="module")
def keras() -> Any:
    return backbones.keras_module()


@pytest.fixture(scope="module")
def mobilenet() -> Any:
    return backbones.build("MobileNet", SIZE, backbones.Random())


@pytest.fixture(scope="module")
def images() -> Pixels:
    return backbones.probe_images(SIZE, 8)


def test_features_are_vectors_of_float32(mobilenet: Any, images: Pixels) -> None:
    features = mobilenet.predict(images, verbose=0)
    assert features.shape == (8, 1024)
    assert features.dtype == np.float32


def test_uint8_and_float_images_give_the_same_features(mobilenet: Any, images: Pixels) -> None:
    from_bytes = mobilenet.predict(images, verbose=0)
    np.testing.assert_array_equal(from_bytes, mobilenet.predict(images.astype("f4"), verbose=0))


def test_random_weights_depend_on_the_seed_alone(mobilenet: Any) -> None:
    name = "MobileNet"
    random.seed(5)
    before = random.getstate()
    again = backbones.build(name, SIZE, backbones.Random(), seed=0)
    other = backbones.build(name, SIZE, backbones.Random(), seed=1)
    assert random.getstate() == before
    expected = backbones.fingerprint(mobilenet, name)
    assert backbones.fingerprint(again, name) == expected
    assert backbones.fingerprint(other, name) != expected


def test_the_fingerprint_tells_sizes_and_single_weights_apart(mobilenet: Any) -> None:
    name = "MobileNet"
    expected = backbones.fingerprint(mobilenet, name)
    assert (
        backbones.fingerprint(backbones.build(name, SIZE + 1, backbones.Random()), name) != expected
    )
    changed = backbones.build(name, SIZE, backbones.Random())
    kernel = changed.weights[0]
    kernel.assign(np.nextafter(kernel.numpy(), np.float32(1)))
    assert backbones.fingerprint(changed, name) != expected


def test_the_image_size_defaults_to_the_network_s_own() -> None:
    assert backbones.build("MobileNet", None, backbones.Random()).input_shape == (None, 224, 224, 3)


def test_too_small_images_are_refused_with_the_smallest_size() -> None:
    with pytest.raises(UsageError, match=r"at least 71 pixels for Xception.*image_size=70"):
        backbones.build("Xception", 70, backbones.Random())


def test_caffe_preprocessing_is_keras_own(keras: Any, images: Pixels) -> None:
    model = backbones.build("VGG16", SIZE, backbones.Random())
    prepared = keras.Model(model.input, model.get_layer("preprocessing").output)
    expected = keras.applications.vgg16.preprocess_input(images.astype("f4"))
    np.testing.assert_allclose(prepared.predict(images, verbose=0), expected, atol=1e-4)


def test_caffe_preprocessing_survives_saving_and_openvino(
    keras: Any, images: Pixels, tmp_path: Path
) -> None:
    from tlcli.backbones import preparing

    core = runtime.openvino_core()
    image = keras.Input((SIZE, SIZE, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(preparing.caffe(image))
    keras.Model(image, pooled).save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    with backbones.silenced():
        model.export(str(tmp_path / "model.xml"), format="openvino", verbose=False)
    network = core.compile_model(tmp_path / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = images[..., ::-1].mean(axis=(1, 2)) - [103.939, 116.779, 123.68]
    np.testing.assert_allclose(model(images), expected, atol=1e-3)
    np.testing.assert_allclose(network(images.astype("f4"))[0], expected, atol=1e-3)


def test_torch_preprocessing_is_keras_own(keras: Any, images: Pixels) -> None:
    from tlcli.backbones import preparing

    expected = keras.applications.densenet.preprocess_input(images.astype("f4"))
    received = np.asarray(preparing.torch(images.astype("f4")))
    np.testing.assert_allclose(received, expected, atol=1e-5)
    assert len(IMAGENET_MEAN) == len(IMAGENET_DEVIATION) == 3


def test_the_network_within_is_keras_own(keras: Any, mobilenet: Any, images: Pixels) -> None:
    bare = keras.applications.MobileNet(
        include_top=False, pooling="avg", weights=None, input_shape=(SIZE, SIZE, 3)
    )
    bare.set_weights(mobilenet.get_weights())
    prepared = keras.applications.mobilenet.preprocess_input(images.astype("f4"))
    expected = bare.predict(prepared, verbose=0)
    np.testing.assert_allclose(mobilenet.predict(images, verbose=0), expected, rtol=1e-3, atol=1e-6)


def test_blocks_follow_the_names(mobilenet: Any) -> None:
    found = backbones.blocks(mobilenet, "MobileNet")
    assert [block.name for block in found] == ["stem", *(str(n) for n in range(1, 14))]
    assert found[0].layers == ("conv1", "conv1_bn")
    assert found[-1].layers == ("conv_dw_13", "conv_dw_13_bn", "conv_pw_13", "conv_pw_13_bn")


def test_layers_above_the_last_block_belong_to_it() -> None:
    model = backbones.build("EfficientNetLite0", SIZE, backbones.Random())
    last = backbones.blocks(model, "EfficientNetLite0")[-1]
    assert last.name == "block7a"
    assert last.layers[-2:] == ("top_conv", "top_bn")


def test_blocks_whose_end_is_named(keras: Any) -> None:
    from tlcli.backbones.network import labelled
    from tlcli.backbones.table import BlockNames

    layers = [keras.layers.Add(name=name) for name in ("a", "mixed0", "b", "c", "mixed1", "d")]
    found = labelled(layers, BlockNames(r"^(mixed\d)$", at_end=True))
    assert [block for block, _ in found] == ["mixed0"] * 2 + ["mixed1"] * 4


def test_lite0_with_its_bundled_weights_tells_images_apart() -> None:
    model = backbones.build("EfficientNetLite0", 64, backbones.Imagenet())
    features = model.predict(backbones.probe_images(64, 8), verbose=0)
    assert features.min() >= 0
    assert 1 < features.max() <= 6
    assert model.count_params() == backbones.architecture("EfficientNetLite0").parameters


SCRIPT = """
import numpy as np
from tlcli import backbones
keras = backbones.keras_module()
pixels = keras.Input((8, 8, 3))
pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(pixels))
images = np.zeros((8, 8, 8, 3), np.uint8)
for _ in range(6):  # TensorFlow remarks on the fifth
    model = keras.Model(pixels, keras.layers.Dense(2, activation="softmax")(pooled))
    model.predict(images, verbose=0)
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(images, np.zeros(8), verbose=0)
model.save("model.keras")
keras.saving.load_model("model.keras")
model.export("saved", format="tf_saved_model", verbose=False)
"""

# Keras 3.15 copies TensorFlow's variables in a way that NumPy 2 remarks on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.slow
def test_nothing_is_printed(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_silenced_restores_both_streams(capfd: pytest.CaptureFixture[str]) -> None:
    print("before")
    with backbones.silenced():
        os.write(1, b"native code")
        os.write(2, b"native code")
    print("after")
    assert capfd.readouterr() == ("before\nafter\n", "")


def test_silenced_lets_errors_through(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), backbones.silenced():
        print(1 / 0)
    print("after")
    assert capfd.readouterr().out == "after\n"
