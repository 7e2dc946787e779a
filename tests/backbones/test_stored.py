"""Backbones on disk, and classifiers composed from them without TensorFlow."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from tests.support.arrays import Floats
from tests.support.disk import largest_file
from tlcli import backbones
from tlcli.backbones.stored import FORMAT, checksum
from tlcli.errors import RunError, StorageError, UsageError

# Keras 3.15 copies TensorFlow's variables in a way that NumPy 2 remarks on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAME = "MobileNet"
SIZE = 32
CLASSES = ["cat", "Größe", "eleventh"]


@pytest.fixture(scope="module")
def keras() -> Any:
    return backbones.keras_module()


@pytest.fixture(scope="module")
def model() -> Any:
    return backbones.build(NAME, SIZE, backbones.Random())


@pytest.fixture(scope="module")
def stored(model: Any, tmp_path_factory: pytest.TempPathFactory) -> backbones.StoredBackbone:
    return backbones.store(model, NAME, "none", tmp_path_factory.mktemp("stored") / "backbone")


@pytest.fixture
def copy(stored: backbones.StoredBackbone, tmp_path: Path) -> backbones.StoredBackbone:
    """A stored backbone that may be damaged."""
    for path in stored.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return replace(stored, folder=tmp_path)


@pytest.fixture(scope="module")
def head(stored: backbones.StoredBackbone) -> tuple[Floats, Floats]:
    random = np.random.default_rng(0)
    weights = random.normal(size=(stored.width, len(CLASSES))).astype(np.float32)
    return weights, random.normal(size=len(CLASSES)).astype(np.float32)


def edit(copy: backbones.StoredBackbone, **changes: int | str) -> None:
    """Change entries of backbone.json and correct its checksum; None removes one."""
    path = copy.folder / "backbone.json"
    fields = {**json.loads(path.read_bytes()), **changes}
    del fields["sha256"]
    kept = {key: value for key, value in fields.items() if value is not None}
    path.write_text(json.dumps({**kept, "sha256": checksum(kept)}))


def read_json(path: Path, name: str) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return dict(json.loads(archive.read(name)))


def test_what_was_stored_is_what_is_read(stored: backbones.StoredBackbone, model: Any) -> None:
    assert backbones.load_stored(stored.folder) == stored
    stored.verify()
    assert stored.fingerprint == backbones.fingerprint(model, NAME)
    assert (stored.image_size, stored.width) == (SIZE, 1024)
    assert stored.parameters == backbones.architecture(NAME).parameters
    assert sorted(path.name for path in stored.folder.iterdir()) == [
        "backbone.json",
        "classifier.json",
        "model.keras",
        "openvino.bin",
        "openvino.xml",
    ]


def test_the_loaded_model_has_the_same_function(
    stored: backbones.StoredBackbone, model: Any
) -> None:
    loaded = backbones.load_model(stored)
    images = backbones.probe_images(SIZE, 4)
    assert backbones.fingerprint(loaded, NAME) == stored.fingerprint
    np.testing.assert_allclose(loaded(images), model(images), rtol=1e-5)


def test_storing_twice_gives_the_same_bytes(
    stored: backbones.StoredBackbone, model: Any, tmp_path: Path
) -> None:
    again = backbones.store(model, NAME, "none", tmp_path)
    assert again.files == stored.files


def test_nothing_of_the_process_is_in_the_files(stored: backbones.StoredBackbone) -> None:
    for name in ("config.json", "metadata.json"):
        text = json.dumps(read_json(stored.folder / "model.keras", name))
        assert "shared_object_id" not in text
        assert "date_saved" not in text


def test_reading_and_composing_needs_no_tensorflow(
    stored: backbones.StoredBackbone, tmp_path: Path
) -> None:
    code = (
        "import sys, numpy as np; from pathlib import Path; from tlcli import backbones\n"
        "stored = backbones.load_stored(Path(sys.argv[1])); stored.verify()\n"
        "weights = np.ones((stored.width, 2), 'f4'), np.ones(2, 'f4')\n"
        "backbones.write_classifier(stored, *weights, ['a', 'b'], Path(sys.argv[2]))\n"
        "sys.exit(', '.join({'tensorflow', 'keras'} & set(sys.modules)) or None)"
    )
    command = [sys.executable, "-c", code, str(stored.folder), str(tmp_path / "model.keras")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_classifier_is_an_ordinary_model(
    keras: Any,
    stored: backbones.StoredBackbone,
    head: tuple[Floats, Floats],
    model: Any,
    tmp_path: Path,
) -> None:
    path = tmp_path / "classifier.keras"
    backbones.write_classifier(stored, *head, CLASSES, path)
    classifier = keras.saving.load_model(path, safe_mode=True)
    images = backbones.probe_images(SIZE, 8)
    received = classifier.predict(images, verbose=0)
    logits = np.asarray(model(images)) @ head[0] + head[1]
    expected = np.asarray(keras.ops.softmax(logits))
    np.testing.assert_allclose(received, expected, atol=1e-5)
    from_floats = classifier.predict(images.astype("f4"), verbose=0)
    np.testing.assert_array_equal(from_floats, received)
    assert classifier.get_layer("head").units == len(CLASSES)


def test_a_classifier_can_be_trained(
    keras: Any, stored: backbones.StoredBackbone, head: tuple[Floats, Floats], tmp_path: Path
) -> None:
    path = tmp_path / "classifier.keras"
    backbones.write_classifier(stored, *head, CLASSES, path)
    classifier = keras.saving.load_model(path)
    images = backbones.probe_images(SIZE, 8)
    for layer in classifier.layers[:-1]:
        layer.trainable = False
    classifier.compile("sgd", "sparse_categorical_crossentropy")
    history = classifier.fit(images, np.arange(8) % 3, epochs=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_the_class_names_travel_in_the_metadata(
    stored: backbones.StoredBackbone, head: tuple[Floats, Floats], tmp_path: Path
) -> None:
    path = tmp_path / "classifier.keras"
    backbones.write_classifier(stored, *head, CLASSES, path)
    assert read_json(path, "metadata.json")["classes"] == CLASSES
    with zipfile.ZipFile(path) as archive:
        assert {info.date_time[0] for info in archive.infolist()} == {1980}


def test_the_same_head_gives_the_same_bytes(
    stored: backbones.StoredBackbone, head: tuple[Floats, Floats], tmp_path: Path
) -> None:
    paths = [tmp_path / "a.keras", tmp_path / "b.keras"]
    for path in paths:
        backbones.write_classifier(stored, *head, CLASSES, path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    backbones.write_classifier(stored, head[0] + 1, head[1], CLASSES, paths[1])
    assert paths[0].read_bytes() != paths[1].read_bytes()


def test_a_head_that_does_not_fit_is_a_bug(
    stored: backbones.StoredBackbone, head: tuple[Floats, Floats], tmp_path: Path
) -> None:
    path = tmp_path / "classifier.keras"
    with pytest.raises(ValueError, match="shapes"):
        backbones.write_classifier(stored, head[0].T, head[1], CLASSES, path)
    with pytest.raises(ValueError, match="shapes"):
        backbones.write_classifier(stored, *head, CLASSES[:2], path)
    with pytest.raises(ValueError, match="finite"):
        backbones.write_classifier(stored, head[0] * np.nan, head[1], CLASSES, path)
    assert not path.exists()


def test_a_full_disk_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
    stored: backbones.StoredBackbone,
    head: tuple[Floats, Floats],
    tmp_path: Path,
) -> None:
    def full(_: int) -> NoReturn:
        raise OSError(28, "No space left on device")

    path = tmp_path / "classifier.keras"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space"):
        backbones.write_classifier(stored, *head, CLASSES, path)
    assert [item.name for item in tmp_path.iterdir()] == ["classifier.keras"]
    assert path.read_bytes() == b"old"


def test_a_full_disk_ends_storing_with_one_error(model: Any, tmp_path: Path) -> None:
    """Not in HDF5, which may crash the process."""
    with largest_file(5000), pytest.raises(StorageError, match=r"model\.keras.*too large"):
        backbones.store(model, NAME, "none", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_ends_copying_with_one_error(
    stored: backbones.StoredBackbone, tmp_path: Path
) -> None:
    with largest_file(5000), pytest.raises(StorageError, match="too large"):
        stored.copy_into(tmp_path)


@pytest.mark.parametrize("name", ["model.keras", "classifier.json"])
def test_a_changed_file_is_named(copy: backbones.StoredBackbone, name: str) -> None:
    path = copy.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"{name}.*damaged"):
        copy.verify()
    path.unlink()
    with pytest.raises(RunError, match=rf"{name}.*No such file"):
        copy.verify()


def test_damaged_files_of_a_backbone_are_run_errors(
    copy: backbones.StoredBackbone, head: tuple[Floats, Floats], tmp_path: Path
) -> None:
    (copy.folder / "model.keras").write_bytes(b"PK")
    with pytest.raises(RunError, match="cannot be loaded"):
        backbones.load_model(copy)
    with pytest.raises(RunError, match="damaged"):
        backbones.write_classifier(copy, *head, CLASSES, tmp_path / "out.keras")


def test_no_description(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such file"):
        backbones.load_stored(tmp_path)


def test_a_newer_format_is_refused(copy: backbones.StoredBackbone) -> None:
    edit(copy, format=FORMAT + 1, something="new")
    with pytest.raises(RunError, match=rf"format={FORMAT + 1}.*Update this program"):
        backbones.load_stored(copy.folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "1"},
        {"width": "wide"},
        {"width": None},
        {"name": 5},
        {"unknown": 1},
        {"files": {}},
        {"files": {"model.keras": "", "classifier.json": "", "../x": ""}},
        {"versions": {}},
        {"versions": [1]},
    ],
)
def test_a_damaged_description_is_a_run_error(
    copy: backbones.StoredBackbone, changes: dict[str, Any]
) -> None:
    edit(copy, **changes)
    with pytest.raises(RunError, match="damaged"):
        backbones.load_stored(copy.folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"{"])
def test_a_description_that_is_no_json_object(
    copy: backbones.StoredBackbone, content: bytes
) -> None:
    (copy.folder / "backbone.json").write_bytes(content)
    with pytest.raises(RunError, match="damaged"):
        backbones.load_stored(copy.folder)


@pytest.mark.parametrize("size", [32, 71, 96])
def test_probe_images_are_the_same_everywhere(size: int) -> None:
    images = backbones.probe_images(size)
    assert images.shape == (16, size, size, 3)
    assert images.dtype == np.uint8
    assert all(image.std() > 10 for image in images)
    np.testing.assert_array_equal(images, backbones.probe_images(size))


def test_probe_images_do_not_change_with_versions() -> None:
    assert backbones.probe_images(32, 8).sum(dtype=np.int64) == 3_252_055


def tiny(keras: Any, scale: float) -> Any:
    """A 'backbone' whose features are the mean colours times a factor."""
    image = keras.Input((SIZE, SIZE, 3))
    scaled = keras.layers.Rescaling(scale)(image)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(scaled))


@pytest.mark.parametrize("scale", [1e-4, 1 / 255, 1.0, 1e5])
def test_fixed_point_leaves_room_and_keeps_precision(
    keras: Any, scale: float, tmp_path: Path
) -> None:
    model = tiny(keras, scale)
    bits = backbones.store(model, NAME, "none", tmp_path).fixed_point_bits
    largest = np.abs(model(backbones.probe_images(SIZE))).max() * 2.0**bits
    assert 2**14 <= largest < 2**15


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf")])
def test_features_without_information_are_refused(keras: Any, scale: float, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="finite features other than zero"):
        backbones.store(tiny(keras, scale), NAME, "none", tmp_path / "backbone")
    assert not (tmp_path / "backbone").exists()
