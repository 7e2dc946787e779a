"""What runs on a worker: it is sent a backbone once, and shards of images then."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import distributed

import tlcli
from tlcli import backbones, engines, features
from tlcli.engines import Choice, Computed, Engine
from tlcli.errors import EngineUnavailable
from tlcli.features import Kind
from tlcli.images import DECODER, ImageFile, Square


@dataclass(frozen=True)
class About:
    """What a worker says of itself."""

    versions: str
    """Of tlcli and Dask."""
    kind: Kind


class Backbone(distributed.WorkerPlugin):  # type: ignore[misc]
    """A stored backbone on its way to every worker, also to those that come later."""

    def __init__(self, fingerprint: str, content: Mapping[str, bytes]) -> None:
        self.name = f"tlcli-{fingerprint}"
        self.fingerprint = fingerprint
        self.content = content

    def setup(self, worker: Any) -> None:
        """Write its files into a folder of the worker; opening it compares their hashes."""
        folder = Path(tempfile.mkdtemp(prefix=f"{self.name[:20]}-", dir=worker.local_directory))
        for name, content in self.content.items():
            (folder / name).write_bytes(content)
        _folders[self.fingerprint] = folder


@dataclass(frozen=True)
class _Loaded:
    """A backbone that this process can run."""

    engine: Engine
    square: Square
    kind: Kind


_folders: dict[str, Path] = {}
_loaded: dict[tuple[str, str], _Loaded] = {}
_lock = Lock()


def versions() -> str:
    """Like "tlcli 0.1 and distributed 2026.8"."""
    return f"tlcli {tlcli.__version__} and distributed {distributed.__version__}"


def about(fingerprint: str, engine: str) -> About:
    """What this worker computes the features of a backbone with.

    Raises:
        TlcliError: it cannot.
    """
    return About(versions(), _backbone(fingerprint, engine).kind)


def compute(
    fingerprint: str, engine: str, shard: Sequence[ImageFile]
) -> tuple[str, Kind, Computed]:
    """The worker's address, the kind of its features, and those of a shard of images.

    Raises:
        TlcliError: it cannot compute features.
    """
    backbone = _backbone(fingerprint, engine)
    # A worker that has several threads is given as many shards at once.
    computed = features.compute(shard, backbone.square, backbone.engine, threads=1)
    return distributed.get_worker().address, backbone.kind, computed


def _backbone(fingerprint: str, engine: str) -> _Loaded:
    """A backbone that was sent, opened once."""
    with _lock:
        key = fingerprint, engine
        if key not in _loaded:
            stored = backbones.load_stored(_folders[fingerprint])
            stored.require(stored.name, fingerprint)
            choice = _first_that_runs(engines.choices(stored, engine, _threads()))
            square = Square.of(stored.image_size, stored.drawing)
            _loaded[key] = _Loaded(choice.open(), square, Kind(choice.arithmetic(), DECODER))
        return _loaded[key]


def _first_that_runs(choices: Sequence[Choice]) -> Choice:
    *better, last = choices
    for choice in better:
        try:
            choice.open()
        except EngineUnavailable:
            continue
        return choice
    return last


def _threads() -> int:
    """How many this worker may use."""
    return int(distributed.get_worker().state.nthreads)
