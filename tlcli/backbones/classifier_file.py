"""A classifier in a file that somebody else wrote → a Keras model, without running its code."""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py

from tlcli import files
from tlcli.backbones import archives, hdf5_layers, keras_2, saved_folder
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
_SAVE = "Load it where it was written and save it with model.save('model.keras')."
_REBUILD = (
    "Load it where it was written, build the same with Keras 3, give that its weights with "
    "set_weights and get_weights, and save it with model.save('model.keras')."
)
_READABLE = "a model that Keras 3 can read"
_OLD, _NEW = "2.", "3."
"""How versions of Keras begin that have other configs, and those that have these."""

_FOLDERS = {
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
    with reading_errors(_READABLE, path, _SAVE):
        content = _content(path)
        _require_own_layers(content.config, path)
        with quiet():
            model = content.load()
    return ClassifierFile(path, model, content.classes)


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the parts of a folder that are read."""
    if not path.is_dir():
        return files.sha256(path, links=True)
    parts = [path / saved_folder.METADATA, *sorted((path / "variables").glob("*"))]
    lines = (f"{files.sha256(part, links=True)} {part.name}\n" for part in parts)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _require_file(path: Path) -> None:
    if path.name.endswith(".weights.h5"):
        raise _weights_alone(path)
    if path.is_dir():
        if not (path / saved_folder.METADATA).is_file():
            raise _folder(path)
        return
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


@dataclass(frozen=True, eq=False)
class _Content:
    """What a file says of itself."""

    config: Any
    """Of every layer, as Keras 3 has it."""
    load: Callable[[], Any]
    """Builds the model."""
    classes: tuple[str, ...] | None = None


def _content(path: Path) -> _Content:
    if path.is_dir():
        return _of_folder(path)
    return _of_archive(path) if path.suffix == ".keras" else _of_hdf5(path)


def _of_archive(path: Path) -> _Content:
    with zipfile.ZipFile(path) as archive:
        size = sum(part.file_size for part in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"{size / 1e9:.0f} GB in it, more than any classifier")
        config = json.loads(archive.read(archives.CONFIG))
        metadata = json.loads(archive.read(archives.METADATA))
    check_archive(path)
    if str(metadata.get("keras_version")).startswith(_OLD):
        return _of_keras_2(path, config, lambda model: _load_archived(model, path))
    names = metadata.get("classes")
    classes = tuple(map(str, names)) if isinstance(names, list) else None
    return _Content(config, lambda: _loaded(path), classes)


def _load_archived(model: Any, path: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / archives.WEIGHTS
        weights.write_bytes(archives.read_weights(path))
        model.load_weights(str(weights))


def _of_hdf5(path: Path) -> _Content:
    with h5py.File(path, "r") as file:
        hdf5_layers.require_own(file, path.stat().st_size)
        found, version = (file.attrs.get(key) for key in ("model_config", "keras_version"))
    if found is None:
        raise _weights_alone(path)
    config = json.loads(_text(found))
    if not _text(version).startswith(_NEW):
        return _of_keras_2(path, config, lambda model: model.load_weights(str(path)))
    return _Content(config, lambda: _loaded(path))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _of_folder(path: Path) -> _Content:
    folder = saved_folder.SavedFolder.of(path)
    return _of_keras_2(path, folder.config, folder.restore)


def _of_keras_2(path: Path, config: Any, restore: Callable[[Any], None]) -> _Content:
    """A model whose config is put in the words of Keras 3, and which gets its weights then."""
    config.pop(_TRAINING, None)
    for layer, what, instead in keras_2.otherwise(config):
        raise UsageError(
            "Expected layers that answer in Keras 3 as they did in Keras 2. Received: "
            f"{path}, with {what} in the layer {layer}, which do not. {instead} the same in both: "
            "build the model there with that in its place, give it the weights, and save it again."
        )
    said = keras_2.upgraded(config)

    def load() -> Any:
        with reading_errors(_READABLE, path, _REBUILD):
            model = keras_module().models.model_from_json(json.dumps(said))
            restore(model)
        return model

    return _Content(said, load)


def _loaded(path: Path) -> Any:
    return keras_module().saving.load_model(str(path), compile=False, safe_mode=True)


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
                f"of the class {kind}, which Keras 3 does not have. Replace it and save again."
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
    return kind in keras_2.CONTAINERS or any(hasattr(place, kind) for place in places)
