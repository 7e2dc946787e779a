"""Fine-tuning by tlcli against a plain Keras script, on the same images and for as many epochs.

    python scripts/bench/finetune.py flowers128 --image-size 128 --epochs 10

A fifth of the images of each class is set aside for testing and seen by neither. Both start from
the same ImageNet weights. Keras follows the guide "Transfer learning & fine-tuning" of keras.io:
images through `image_dataset_from_directory`, flips and rotations, the frozen base called with
training=False, dropout, a Dense head trained with Adam for `--head-epochs`, then the whole model
unfrozen and trained with Adam(1e-5) for `--epochs`. tlcli is the two commands that are printed;
their seconds contain everything: start, decoding, head, training, features, the saved round.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from calling import tlcli

TEST_SHARE = 0.2
KERAS = """
import json, sys, time
from tlcli import backbones
keras = backbones.keras_module()
train, test, name, weights, size, head_epochs, epochs, rate = sys.argv[1:]
size = int(size)
began = time.monotonic()

def load(folder, shuffle):
    return keras.utils.image_dataset_from_directory(
        folder, image_size=(size, size), batch_size=32, shuffle=shuffle, seed=0, verbose=False,
        label_mode="categorical",
    )

learned, tested = load(train, True), load(test, False)
base = backbones.build(name, size, backbones.weights_of(weights))
base.trainable = False
inputs = keras.Input((size, size, 3))
x = keras.layers.RandomFlip("horizontal")(inputs)
x = keras.layers.RandomRotation(0.1)(x)
x = base(x, training=False)
x = keras.layers.Dropout(0.2)(x)
outputs = keras.layers.Dense(len(learned.class_names), activation="softmax")(x)
model = keras.Model(inputs, outputs)
model.compile(keras.optimizers.Adam(), "categorical_crossentropy", metrics=["accuracy"])
model.fit(learned, epochs=int(head_epochs), verbose=0)
head = model.evaluate(tested, verbose=0)[1]
base.trainable = True
for layer in base.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        layer.trainable = False
model.compile(keras.optimizers.Adam(float(rate)), "categorical_crossentropy", metrics=["accuracy"])
model.fit(learned, epochs=int(epochs), verbose=0)
print(json.dumps([head, model.evaluate(tested, verbose=0)[1], time.monotonic() - began]))
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="EfficientNetLite0")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--image-size", default="128")
    parser.add_argument("--epochs", default="10")
    parser.add_argument("--head-epochs", default="3", help="of Keras")
    parser.add_argument("--keras-lr", default="1e-5", help="of Keras' fine-tuning; the guide's")
    parser.add_argument("--augment", default="strong")
    parser.add_argument("--lr", default="0.003")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        train, test = split(options.data, Path(scratch))
        before, after, seconds, learning = with_tlcli(options, Path(scratch), train, test)
        keras_head, keras_tuned, keras_seconds = with_keras(options, train, test)
    print(f"{options.backbone}, {options.image_size} pixels, {options.epochs} epochs\n")
    print("| | head alone | fine-tuned | seconds |\n|---|---|---|---|")
    print(f"| tlcli | {before:.1%} | {after:.1%} | {seconds:.0f} ({learning:.0f} of training) |")
    print(f"| Keras | {keras_head:.1%} | {keras_tuned:.1%} | {keras_seconds:.0f} |")


def split(data: Path, scratch: Path) -> tuple[Path, Path]:
    """Two folders of class folders, of links to the readable images."""
    from tlcli import images

    listing = images.scan(data)
    order = np.random.default_rng(0).permutation(len(listing.images))
    shuffled = [listing.images[row] for row in order]
    parts = scratch / "train", scratch / "test"
    for name in listing.classes:
        chosen = [image for image in shuffled if image.label == name]
        cut = round(TEST_SHARE * len(chosen))
        for place, image in enumerate(chosen):
            folder = parts[place < cut] / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{place:05d}{image.path.suffix}").symlink_to(image.path.resolve())
    return parts


def with_tlcli(
    options: argparse.Namespace, scratch: Path, train: Path, test: Path
) -> tuple[float, float, float, float]:
    """Accuracy of the head alone and after fine-tuning; seconds in all, and of training."""

    def call(*arguments: object) -> dict[str, Any]:
        print("tlcli", *(str(a).replace(str(scratch), "…") for a in arguments), flush=True)
        return tlcli(*arguments, TLCLI_CACHE_DIR=str(scratch / "cache"))

    run = scratch / "run"
    began = time.monotonic()
    network = ("--backbone", options.backbone, "--weights", options.weights)
    call("pretrain", train, "--out", run, *network, "--image-size", options.image_size)
    how = ("--unfreeze", "all", "--augment", options.augment, "--lr", options.lr)
    answer = call("finetune", run, train, "--epochs", options.epochs, *how)
    seconds = time.monotonic() - began
    report = call("evaluate", run, test)
    first, last = report["rounds"]
    return first["accuracy"], last["accuracy"], seconds, answer["seconds"]["training"]


def with_keras(options: argparse.Namespace, train: Path, test: Path) -> tuple[float, float, float]:
    """The same of the plain script."""
    arguments = [train, test, options.backbone, options.weights, options.image_size]
    arguments += [options.head_epochs, options.epochs, options.keras_lr]
    command = [sys.executable, "-W", "ignore", "-c", KERAS, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    head, tuned, seconds = json.loads(done.stdout.splitlines()[-1])
    return head, tuned, seconds


if __name__ == "__main__":
    main()
