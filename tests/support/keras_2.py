"""Models as Keras 2 saved them, in tests/data/keras_2.zip: as a folder, as .h5 and as .keras.

    pip install tf_keras
    python tests/support/keras_2.py tests/data/keras_2.zip

`nested` has models within it, arithmetic, preprocessing, frozen layers and one sigmoid; `plain` is
a Sequential; `code` has a Lambda layer. What is not read of the folders is left out.
"""

import importlib
import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PACKED = Path(__file__).parent.parent / "data" / "keras_2.zip"
SUFFIXES = ("", ".h5", ".keras")
SIZE = 16


def images() -> NDArray[np.float32]:
    """Those that the models were asked about."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3))
    return pixels.astype(np.float32)


def unpacked(folder: Path) -> dict[str, Any]:
    """Unpack everything into an empty folder: the answers of the models, by name."""
    with zipfile.ZipFile(PACKED) as archive:
        archive.extractall(folder)
    answers: dict[str, Any] = json.loads((folder / "answers.json").read_text())
    return answers


def nested(keras: Any) -> Any:
    layers, shape = keras.layers, (SIZE, SIZE, 3)
    augmentation = keras.Sequential(
        [layers.RandomFlip("horizontal", input_shape=shape), layers.RandomZoom(0.1)]
    )
    image = keras.Input(shape)
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", use_bias=False)(image))
    x = layers.ReLU(6.0)(x)
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same")(x)])
    base = keras.Model(image, layers.SeparableConv2D(5, 3)(x))
    base.trainable = False
    image, normalization = keras.Input(shape), layers.Normalization()
    normalization.adapt(np.random.default_rng(1).uniform(-1, 1, (4, *shape)))
    x = base(normalization(augmentation(image) / 127.5 - 1), training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(1, activation="sigmoid")(x), name="nested")


def plain(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Rescaling(1 / 255, input_shape=(SIZE, SIZE, 3)),
            layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(3),
            layers.Softmax(),
        ],
        name="plain",
    )


def code(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Lambda(lambda x: x / 255, input_shape=(SIZE, SIZE, 3)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ],
        name="code",
    )


def _write(model: Any, folder: Path, generator: np.random.Generator) -> Any:
    for weight in model.weights:
        kind, shape = weight.name.rsplit("/", 1)[-1], weight.shape.as_list()
        if kind.startswith(("moving_variance", "gamma")):
            weight.assign(generator.uniform(0.5, 1.5, shape))
        elif not kind.startswith(("mean", "variance", "count")):
            weight.assign(generator.normal(0, 0.4, shape))
    for suffix in SUFFIXES:
        model.save(folder / f"{model.name}{suffix}")
    for part in (folder / model.name).iterdir():
        if part.name == "assets":
            shutil.rmtree(part)
        elif part.name.endswith(".pb") and part.name != "keras_metadata.pb":
            part.unlink()
    return np.round(model.predict(images(), verbose=0).astype(float), 7).tolist()


def main() -> None:
    """Write all of it."""
    tf_keras: Any = importlib.import_module("tf_keras")
    tf_keras.utils.set_random_seed(0)
    generator = np.random.default_rng(2)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        models = (make(tf_keras) for make in (nested, plain, code))
        answers = {model.name: _write(model, folder, generator) for model in models}
        (folder / "answers.json").write_text(json.dumps(answers))
        with zipfile.ZipFile(sys.argv[1], "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder))


if __name__ == "__main__":
    main()
