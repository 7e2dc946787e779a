"""A classifier in a file that somebody else wrote → a Keras model, without running its code."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from tlcli.backbones import archives, hdf5_layers
from tlcli.backbones.runtime import keras_module, quiet
from tlcli.backbones.weights_files import check_archive, reading_errors
from tlcli.errors import UsageError

SUFFIXES = (".keras", ".h5", ".hdf5")

MOST_BYTES = 8 * 2**30
"""Of the parts of an archive together; a larger one is no classifier."""

_RUNS_CODE = frozenset(
    [
        "Lambda",
        "TFSMLayer",
        "TorchModuleWrapper",
        "JaxLayer",
        "FlaxLayer",
        "StringLookup",
        "IntegerLookup",
        "TextVectorization",
    ]
)
"""Layers that run code, or read files, that their config names."""

_OF_KERAS_2 = frozenset({"TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "ClassMethod"})
_VALUES = frozenset({"__keras_tensor__", "__tuple__", "__tensor__", "__numpy__", "__ellipsis__"})
"""Values that are spelt out as objects."""

_TRAINING = "compile_config"
"""Loss and optimizer, which are not read."""

_PACKAGES = frozenset({"keras"})
_CONTAINERS = frozenset({"Functional", "Sequential", "Model"})
_SAVE = "Load it where it was written and save it with model.save('model.keras')."

_FOLDERS = {
    "keras_metadata.pb": (
        "a SavedModel of Keras 2",
        'Make a file of it with `pip install tf_keras` and `python -c "import tf_keras; '
        "tf_keras.models.load_model('{path}').save('model.h5')\"`, and adopt that.",
    ),
    "saved_model.pb": (
        "a SavedModel, which holds a graph of TensorFlow and no layers",
        "Save the Keras model that it was exported from with model.save('model.keras').",
    ),
    "rounds": (
        "which is a run already",
        "Add classes to it with `tlcli extend-classes {path} DATA`.",
    ),
}
"""What a folder is that has a part of this name, and what to do with it."""


@dataclass(frozen=True, eq=False)
class ClassifierFile:
    """A classifier as it was saved."""

    path: Path
    model: Any
    classes: tuple[str, ...] | None
    """The names of its classes, where the file has them, as those that tlcli writes do."""


def read_classifier(path: Path) -> ClassifierFile:
    """Read a whole Keras model, in safe mode and without objects of its own.

    Raises:
        UsageError: there is no such file, it is damaged, it has no architecture, or it holds layers
            that are not Keras' own; these are named.
    """
    _require_file(path)
    with reading_errors("a model that Keras 3 can read", path, _SAVE):
        content = _of_archive(path) if path.suffix == ".keras" else _of_hdf5(path)
        _require_own_layers(content.config, path)
        with quiet():
            model = keras_module().saving.load_model(str(path), compile=False, safe_mode=True)
    return ClassifierFile(path, model, content.classes)


def _require_file(path: Path) -> None:
    if path.name.endswith(".weights.h5"):
        raise _weights_alone(path)
    if path.is_dir():
        raise _folder(path)
    if not path.is_file():
        raise UsageError(
            f"Expected a classifier as {' or '.join(SUFFIXES[:2])}, or imagenet. Received: {path}, "
            "no such file."
        )
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"Expected a classifier as {' or '.join(SUFFIXES[:2])}. Received: {path}. {_SAVE}"
        )


def _folder(path: Path) -> UsageError:
    holds = next((part for part in _FOLDERS if (path / part).exists()), None)
    what, advice = ("a folder", _SAVE) if holds is None else _FOLDERS[holds]
    return UsageError(
        f"Expected a classifier as {' or '.join(SUFFIXES[:2])}. Received: {path}, {what}. "
        f"{advice.format(path=path)}"
    )


def _weights_alone(path: Path) -> UsageError:
    return UsageError(
        f"Expected a whole model. Received: {path}, weights without an architecture. Save the "
        "model with model.save('model.keras'), or give the weights of a known backbone to "
        "`tlcli pretrain DATA --backbone NAME --weights FILE`."
    )


@dataclass(frozen=True)
class _Content:
    """What a file says of itself."""

    config: Any
    classes: tuple[str, ...] | None = None


def _of_archive(path: Path) -> _Content:
    with zipfile.ZipFile(path) as archive:
        size = sum(part.file_size for part in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"{size / 1e9:.0f} GB in it, more than any classifier")
        config = json.loads(archive.read(archives.CONFIG))
        metadata = json.loads(archive.read(archives.METADATA))
    check_archive(path)
    names = metadata.get("classes")
    return _Content(config, tuple(map(str, names)) if isinstance(names, list) else None)


def _of_hdf5(path: Path) -> _Content:
    with h5py.File(path, "r") as file:
        hdf5_layers.require_own(file, path.stat().st_size)
        found = file.attrs.get("model_config")
    if found is None:
        raise _weights_alone(path)
    return _Content(json.loads(found.decode() if isinstance(found, bytes) else found))


def _require_own_layers(config: Any, path: Path) -> None:
    """Refuse, before anything is built, what is not of Keras' own."""
    for entry in _objects(config):
        kind, name = str(entry["class_name"]), _name_of(entry)
        if kind in _OF_KERAS_2:
            raise UsageError(
                f"Expected a model of Keras 3. Received: {path}, whose layer {name} is an "
                "operation of TensorFlow written by Keras 2. Save the model there without that "
                "layer, and say with --scaling what was computed before it."
            )
        if kind in _RUNS_CODE:
            raise UsageError(
                f"Expected a model without code of its own. Received: {path}, whose layer {name} "
                f"is a {kind}. Replace it by layers of Keras, such as Rescaling, and save again."
            )
        if not _is_of_keras(entry, kind):
            raise UsageError(
                f"Expected a model of Keras' own layers alone. Received: {path}, where {name} is "
                f"of the class {kind} of its author. Replace it and save again."
            )


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Everything in a config that has a class, but for how the model was trained."""
    if isinstance(config, dict):
        if "class_name" in config and config["class_name"] not in _VALUES:
            yield config
        children: Any = (value for key, value in config.items() if key != _TRAINING)
    elif isinstance(config, list):
        children = config
    else:
        return
    for child in children:
        yield from _objects(child)


def _name_of(entry: dict[str, Any]) -> str:
    inner = entry.get("config")
    name = inner.get("name") if isinstance(inner, dict) else inner
    return str(entry.get("name") or name or entry["class_name"])


def _is_of_keras(entry: dict[str, Any], kind: str) -> bool:
    """Whether an object is Keras' own, by its module, or by its name in files that have none."""
    module = entry.get("module")
    if kind == "function" or ">" in str(entry.get("registered_name")):
        return False
    if isinstance(module, str):
        return module.partition(".")[0] in _PACKAGES
    keras = keras_module()
    places = (keras.layers, keras.initializers, keras.regularizers, keras.constraints)
    return kind in _CONTAINERS or any(hasattr(place, kind) for place in places)
