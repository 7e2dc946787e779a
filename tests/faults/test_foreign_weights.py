"""Weights of a stranger: refused in one line before anything large is allocated, or loaded."""

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.support import tiny
from tlcli.backbones import weights_files
from tlcli.errors import UsageError

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning", "ignore:A total of:UserWarning"
)

SUFFIXES = (".weights.h5", ".h5")

Make = Callable[[h5py.File, str, tuple[int, ...], Any], Any]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in the three forms that it can be given in."""
    folder = tmp_path_factory.mktemp("weights")
    model = tiny.build("tiny", None, None)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    with h5py.File(folder / "model.h5", "w") as file:
        layers = [layer for layer in model.layers if layer.weights]
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            group = file.create_group(layer.name)
            variables = [*layer.trainable_weights, *layer.non_trainable_weights]
            names = [variable.name for variable in variables]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, variable in zip(names, variables, strict=True):
                group[name] = variable.numpy()
    return folder


def load(path: Path) -> None:
    weights_files.check_path(path)
    weights_files.load_file(tiny.build("tiny", None, None), path)


def refused(path: Path) -> str:
    with pytest.raises(UsageError) as error:
        load(path)
    message = str(error.value)
    assert str(path) in message
    return message


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5", "model.h5"])
def test_what_was_saved_is_loaded(saved: Path, name: str) -> None:
    load(saved / name)


def first_array(file: h5py.File) -> str:
    found: list[str] = []

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found.append(name)

    file.visititems(keep)
    return found[0]


REPLACEMENTS: dict[str, tuple[str, Make]] = {
    "an external link": (
        "link",
        lambda f, n, s, d: f.__setitem__(n, h5py.ExternalLink("/etc/passwd", "/x")),
    ),
    "a soft link": ("link", lambda f, n, s, d: f.__setitem__(n, h5py.SoftLink("/nowhere"))),
    "the root": ("two names", lambda f, n, s, d: f.__setitem__(n, f["/"])),
    "external storage": (
        "another file",
        lambda f, n, s, d: f.create_dataset(
            n, s, d, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
        ),
    ),
    "virtual": (
        "another file",
        lambda f, n, s, d: f.create_virtual_dataset(n, h5py.VirtualLayout(s, d)),
    ),
    "never written": ("never written", lambda f, n, s, d: f.create_dataset(n, s, d)),
    "728 TiB": ("never written", lambda f, n, s, d: f.create_dataset(n, (10**7, 10**7), d)),
    "a bomb": (
        "stand for",
        lambda f, n, s, d: f.create_dataset(
            n, data=np.zeros((6000, 6000), d), chunks=(1000, 1000), compression="gzip"
        ),
    ),
    "pairs": ("no numbers", lambda f, n, s, d: f.create_dataset(n, s, [("a", "f4"), ("b", "f4")])),
    "truths": ("no numbers", lambda f, n, s, d: f.create_dataset(n, data=np.ones(s, bool))),
    "nothing": ("no numbers", lambda f, n, s, d: f.__setitem__(n, h5py.Empty("f4"))),
    "a type": ("neither", lambda f, n, s, d: f.__setitem__(n, np.dtype("f4"))),
    "NaN": ("finite", lambda f, n, s, d: f.create_dataset(n, data=np.full(s, np.nan, d))),
    "deep groups": ("deep", lambda f, n, s, d: f.create_group("/".join("a" * 200))),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("what", REPLACEMENTS)
def test_an_array_that_leads_elsewhere_or_nowhere_is_refused(
    saved: Path, tmp_path: Path, suffix: str, what: str
) -> None:
    path = Path(shutil.copy(saved / f"model{suffix}", tmp_path))
    expected, make = REPLACEMENTS[what]
    with h5py.File(path, "a") as file:
        name = first_array(file)
        shape, dtype = file[name].shape, file[name].dtype
        del file[name]
        make(file, name, shape, dtype)
    assert expected in refused(path)


@pytest.mark.parametrize("suffix", (*SUFFIXES, ".keras"))
def test_what_is_no_file_of_weights_is_refused(saved: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"file{suffix}"
    half = (saved / f"model{suffix}").read_bytes()[:5000]
    for content in (b"", b"text", pickle.dumps({"a": 1}), half):
        path.write_bytes(content)
        refused(path)
    path.unlink()
    os.mkfifo(path)
    refused(path)


def config(change: Callable[[Any], None]) -> Callable[[dict[str, bytes]], None]:
    """Changes the configs of the layers."""

    def apply(parts: dict[str, bytes]) -> None:
        content = json.loads(parts["config.json"])
        change(content["config"]["layers"])
        parts["config.json"] = json.dumps(content).encode()

    return apply


LAMBDA = {"class_name": "__lambda__", "config": {"code": "4wEA", "defaults": None, "closure": None}}

ARCHIVES: dict[str, Callable[[dict[str, bytes]], object]] = {
    "a bomb": lambda parts: parts.update(x=bytes(3 * 10**8)),
    "a Lambda": config(
        lambda layers: layers[1].update(
            class_name="Lambda",
            module="keras.layers",
            config={"name": "preprocessing", "function": LAMBDA},
        )
    ),
    "a foreign class": config(lambda layers: layers[1].update(class_name="system", module="os")),
    "a text for a number": config(lambda layers: layers[2]["config"].update(filters="a")),
    "no config": lambda parts: parts.pop("config.json"),
    "a deep config": lambda parts: parts.update({"config.json": b"[" * 10**5 + b"]" * 10**5}),
    "a list": lambda parts: parts.update({"config.json": b"[]"}),
    "no weights": lambda parts: parts.pop("model.weights.h5"),
}


@pytest.mark.parametrize("what", ARCHIVES)
def test_an_archive_that_cannot_be_meant_is_refused(saved: Path, tmp_path: Path, what: str) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(saved / "model.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    ARCHIVES[what](parts)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    refused(path)
