"""The default backbone is prepared without TensorFlow, and is what Keras says."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support import tiny
from tlcli import backbones
from tlcli.backbones import Imagenet, lite_openvino, openvino_ir, pinned, probing, stored, storing
from tlcli.backbones.hdf5_layers import layer_paths
from tlcli.errors import StorageError

NAME = backbones.DEFAULT_BACKBONE

pytestmark = pytest.mark.slow


def made(folder: Path, size: int | None = None) -> backbones.StoredBackbone:
    folder.mkdir()
    found = pinned.stored(NAME, size, "f32", {}, folder)
    assert found is not None
    return found


@pytest.mark.parametrize(("name", "size"), pinned.PINNED)
def test_what_is_kept_is_what_keras_says(name: str, size: int) -> None:
    kept, model = pinned._pinned(name, size), backbones.build(name, size, Imagenet())
    images = probing.probe_images(model.input_shape[1])
    features = probing.features_of(model, images)
    assert storing.function_of(model, name, features) == kept.function
    assert {group: layer.name for group, layer in layer_paths(model)} == kept.groups
    assert np.abs(features[: pinned.PROBES] - kept.features).max() < 1e-4


@pytest.mark.parametrize("size", [96, 224])
def test_its_parts_are_those_of_a_backbone_that_keras_stores(tmp_path: Path, size: int) -> None:
    found = made(tmp_path / "pinned", size)
    model = backbones.build(NAME, size, Imagenet())
    other = backbones.store(model, NAME, Imagenet.label, tmp_path / "stored")
    assert found.fingerprint == other.fingerprint
    assert found.files[stored.CLASSIFIER] == other.files[stored.CLASSIFIER]
    read = backbones.load_model(found)
    assert read.get_config() == backbones.load_model(other).get_config()
    for ours, theirs in zip(read.get_weights(), model.get_weights(), strict=True):
        assert np.array_equal(ours, theirs)


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    assert made(tmp_path / "one").files == made(tmp_path / "two").files


def test_neither_a_first_round_nor_an_answer_needs_tensorflow(tmp_path: Path) -> None:
    data = tiny.draw(tmp_path / "data", ["apple", "leaf"], count=4)
    script = (
        "import sys\nfrom tlcli.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    environment = os.environ | {"TLCLI_CACHE_DIR": str(tmp_path / "cache")}
    for words in (
        ("pretrain", str(data), "--out", str(tmp_path / "run")),
        ("predict", str(tmp_path / "run"), str(data / "apple" / "000.png")),
    ):
        command = [sys.executable, "-c", script, *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_where_openvino_answers_otherwise_keras_prepares_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath("empty").mkdir()
    monkeypatch.setattr(openvino_ir, "deviation", lambda *given: float("nan"))
    assert pinned.stored(NAME, None, "f32", {}, tmp_path / "empty") is None
    assert not list((tmp_path / "empty").iterdir())


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise RuntimeError(f"Can't write: {os.strerror(errno.ENOSPC)}")

    monkeypatch.setattr(lite_openvino, "export", full)
    with pytest.raises(StorageError, match="No space left"):
        pinned.stored(NAME, None, "f32", {}, tmp_path)


def test_other_sizes_and_weights_are_prepared_with_keras() -> None:
    assert pinned.is_pinned(NAME, None, Imagenet())
    assert pinned.is_pinned(NAME, 224, Imagenet())
    assert not pinned.is_pinned(NAME, 192, Imagenet())
    assert not pinned.is_pinned(NAME, None, backbones.Random())
    assert not pinned.is_pinned("MobileNetV2", None, Imagenet())
