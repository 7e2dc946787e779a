"""Files that somebody else wrote: read in safe mode, or refused in one line."""

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.support import classifiers
from tlcli import backbones
from tlcli.backbones import archives, classifier_file
from tlcli.errors import UsageError

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]

Config = dict[str, Any]


@pytest.fixture(scope="module")
def keras() -> Any:
    return backbones.keras_module()


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(UsageError) as caught:
        backbones.read_classifier(path)
    message = str(caught.value)
    assert message.startswith("Expected ")
    assert str(path) in message
    assert "\n" not in message
    assert [part for part in parts if part not in message] == []


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The same model in both formats."""
    folder = tmp_path_factory.mktemp("saved")
    model = classifiers.tutorial()
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save_weights(folder / "model.weights.h5")
    return folder, model


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_both_formats_are_read(saved: tuple[Path, Any], name: str) -> None:
    folder, model = saved
    found = backbones.read_classifier(folder / name)
    images = np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(found.model.predict(images, verbose=0), expected, atol=1e-6)
    assert found.classes is None


def test_weights_alone_are_no_model(saved: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = saved
    refused(folder / "model.weights.h5", "without an architecture", "tlcli pretrain")
    renamed = tmp_path / "renamed.h5"
    renamed.write_bytes((folder / "model.weights.h5").read_bytes())
    refused(renamed, "without an architecture", "tlcli pretrain")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.keras", "no such file")
    refused(tmp_path, "a folder", "model.save('model.keras')")
    for name in ("model.pkl", "model.pth", "model.onnx", "model"):
        (tmp_path / name).write_bytes(pickle.dumps({"a": 1}))
        refused(tmp_path / name, ".keras or .h5")


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
@pytest.mark.parametrize("content", [pickle.dumps({"a": 1}), b"", b"PK\x03\x04 torn"])
def test_another_content_under_the_name_is_refused(
    tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, "model.save('model.keras')")


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_file_of_two_gigabytes_is_refused_without_being_read(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(2 * 2**30)
    refused(tmp_path / name)


def test_an_archive_that_unpacks_to_more_than_any_classifier_is_refused(
    saved: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = saved
    monkeypatch.setattr(classifier_file, "MOST_BYTES", 1000)
    refused(folder / "model.keras", "more than any classifier")


def test_a_damaged_archive_is_refused(saved: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = saved
    content = bytearray((folder / "model.keras").read_bytes())
    content[len(content) // 2] ^= 255
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    refused(path, "damaged")


def test_a_truncated_archive_is_refused(saved: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = saved
    path = tmp_path / "model.keras"
    path.write_bytes((folder / "model.keras").read_bytes()[:-2000])
    refused(path)


def with_config(source: Path, target: Path, change: Callable[[Config], None]) -> Path:
    """Copy an archive with another config."""
    with zipfile.ZipFile(source) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts[archives.CONFIG])
    change(config)
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in (parts | {archives.CONFIG: json.dumps(config)}).items():
            archive.writestr(name, content)
    return target


def layer_of(config: Config, kind: str) -> dict[str, Any]:
    return next(entry for entry in config["config"]["layers"] if entry["class_name"] == kind)


def test_a_lambda_is_refused_and_named(keras: Any, tmp_path: Path) -> None:
    image = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(keras.layers.Lambda(lambda x: x / 255, name="mine")(image))
    model = keras.Model(image, keras.layers.Dense(3)(x))
    model.save(tmp_path / "model.keras")
    refused(tmp_path / "model.keras", "layer mine is a Lambda", "Rescaling")
    model.save(tmp_path / "model.h5")
    refused(tmp_path / "model.h5", "layer mine is a Lambda", "Rescaling")


def test_a_layer_of_the_author_is_refused_and_named(keras: Any, tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("pets")
    class Whiten(keras.layers.Layer):  # type: ignore[misc]
        def call(self, x: Any) -> Any:
            return x / 255

    @keras.saving.register_keras_serializable("pets")  # type: ignore[untyped-decorator]
    def bent(x: Any) -> Any:
        return x

    image = keras.Input((8, 8, 3))
    x = keras.layers.Flatten()(image)
    for model, part in (
        (keras.Model(image, keras.layers.Dense(3)(Whiten(name="white")(x))), "white"),
        (keras.Model(image, keras.layers.Dense(3, activation=bent)(x)), "bent"),
    ):
        for name in ("model.keras", "model.h5"):
            model.save(tmp_path / name)
            refused(tmp_path / name, part, "own layers alone")


@pytest.mark.parametrize(
    ("module", "kind"),
    [("os", "system"), ("keras.layers", "TFSMLayer"), ("builtins", "__lambda__")],
)
def test_a_config_that_was_made_by_hand_opens_nothing(
    saved: tuple[Path, Any], tmp_path: Path, module: str, kind: str
) -> None:
    folder, _ = saved

    def change(config: Config) -> None:
        entry = layer_of(config, "Rescaling")
        entry |= {"module": module, "class_name": kind, "registered_name": kind}

    refused(with_config(folder / "model.keras", tmp_path / "model.keras", change))


def test_a_link_to_another_file_is_refused(saved: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = saved
    path = tmp_path / "model.h5"
    path.write_bytes((folder / "model.h5").read_bytes())
    with h5py.File(path, "a") as file:
        file["stolen"] = h5py.ExternalLink("/etc/passwd", "/")
    refused(path, "link")


def edited(source: Path, target: Path, change: Callable[[Config], None]) -> Path:
    """Copy an .h5 model with another architecture."""
    target.write_bytes(source.read_bytes())
    with h5py.File(target, "a") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        file.attrs["model_config"] = json.dumps(config)
    return target


def test_an_operation_of_keras_2_is_named(saved: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = saved

    def change(config: Config) -> None:
        entry = layer_of(config, "Rescaling")
        entry |= {"class_name": "TFOpLambda", "name": "tf.math.truediv"}

    path = edited(folder / "model.h5", tmp_path / "model.h5", change)
    refused(path, "tf.math.truediv", "--scaling")


def test_a_model_that_this_keras_cannot_read_says_why(
    saved: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, _ = saved

    def change(config: Config) -> None:
        layer_of(config, "Dense")["config"]["of_another_time"] = 1

    path = edited(folder / "model.h5", tmp_path / "model.h5", change)
    refused(path, "a model that Keras 3 can read", "model.save('model.keras')")


def test_a_model_with_a_loss_of_its_author_is_read(keras: Any, tmp_path: Path) -> None:
    """How it was trained is not looked at."""

    @keras.saving.register_keras_serializable("pets")  # type: ignore[untyped-decorator]
    def own_loss(true: Any, said: Any) -> Any:
        return keras.ops.mean(said)

    model = classifiers.sigmoid()
    model.compile("adam", loss=own_loss)
    model.save(tmp_path / "model.keras")
    assert backbones.read_classifier(tmp_path / "model.keras").model.name == model.name
