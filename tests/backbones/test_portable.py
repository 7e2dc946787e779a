"""What tlcli writes as a Keras model, older releases of Keras read as well."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import backbones, runs
from tlcli.backbones import portable

FOLDER = "TLCLI_TEST_OLDEST_KERAS"
"""The environment variable that names a folder with the oldest Keras (`pip install --target`)."""

WIDEST = ("--layers", "blocks+rms", "--views", "2")


def entries(config: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a config, with its value."""
    if isinstance(config, dict):
        yield from config.items()
    for value in config.values() if isinstance(config, dict) else config:
        if isinstance(value, dict | list):
            yield from entries(value)


def config_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return dict(json.loads(archive.read("config.json")))


def model_of(run: Path) -> Path:
    return runs.open_run(run).round().file("model.keras")


@pytest.mark.parametrize("options", [(), ("--projection", "32")], ids=["plain", "projected"])
def test_what_older_releases_do_not_know_is_not_written(
    tlcli: CommandLine, pictures: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    run, exported = tmp_path / "run", tmp_path / "model.keras"
    tlcli("pretrain", pictures / "first", "--out", run, *options)
    tlcli("export", run, "--out", exported)
    for path in (model_of(run), exported):
        written = list(entries(config_of(path)))
        assert len(written) > 100
        assert {key for key, _ in written} & portable.DEFAULTS.keys() == set()


@pytest.mark.parametrize("kind", [["Flip"], {"Flip": 1}, None, 3])
def test_a_config_that_cannot_be_meant_is_left_for_the_reader(kind: object) -> None:
    config = {"class_name": kind, "config": {"name": "flip"}}
    assert portable.portable(config) == config
    assert portable.portable({"class_name": "Flip", "config": [1]})["config"] == [1]


def test_the_backbone_of_a_run_is_stored_as_keras_writes_it(run: Path) -> None:
    """Its fingerprint must not change."""
    (stored,) = (run / "backbones").glob("*/model.keras")
    assert {key for key, _ in entries(config_of(stored))} & portable.DEFAULTS.keys()


def test_what_differs_from_its_default_is_written() -> None:
    layer = {"class_name": "Dense", "config": {"renorm": True, "input_axes": None, "units": [3]}}
    assert portable.portable(layer) == {
        "class_name": "Dense",
        "config": {"renorm": True, "units": [3]},
    }
    flip = {"class_name": "Flip", "config": {"name": "flip", "axis": -1}, "name": "flip"}
    assert portable.portable([flip])[0] == flip | {"config": {"axis": -1}}


@pytest.fixture(scope="module")
def oldest_keras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the oldest Keras."""
    if os.environ.get(FOLDER):
        return Path(os.environ[FOLDER])
    folder = tmp_path_factory.mktemp("keras")
    wanted = f"keras=={portable.OLDEST_KERAS}"
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(folder), wanted]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip(f"{wanted} cannot be fetched, and {FOLDER} names no folder with it")
    return folder


ASK = """
import sys
import keras, numpy
model = keras.saving.load_model(sys.argv[1], compile=False, safe_mode=True)
numpy.save(sys.argv[3], model(numpy.load(sys.argv[2]), training=False))
print(keras.__version__)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "reading"),
    [
        ("EfficientNetLite0", ()),
        ("EfficientNetLite0", WIDEST),
        ("MobileNetV3Small", WIDEST),
        ("ResNet50", ()),
    ],
)
def test_the_oldest_keras_answers_as_the_run_does(
    isolated: Path, oldest_keras: Path, tmp_path: Path, backbone: str, reading: tuple[str, ...]
) -> None:
    data = tiny.draw(tmp_path / "data", ["apple", "leaf"], count=3)
    run, asked, answer = tmp_path / "run", tmp_path / "images.npy", tmp_path / "answer.npy"
    told = ["--weights", "none", "--epochs", "1", "--image-size", "64", "--backbone", backbone]
    told += reading
    command = [sys.executable, "-m", "tlcli", "pretrain", str(data), "--out", str(run), *told]
    subprocess.run(command, check=True, capture_output=True)
    images = np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype(np.float32)
    np.save(asked, images)
    done = subprocess.run(
        [sys.executable, "-c", ASK, model_of(run), asked, answer],
        env={**os.environ, "PYTHONPATH": str(oldest_keras)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == portable.OLDEST_KERAS
    model = backbones.keras_module().saving.load_model(model_of(run))
    np.testing.assert_allclose(np.load(answer), model(images, training=False), atol=1e-5)
