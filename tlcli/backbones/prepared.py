"""Backbones that are ready to be used, kept in the cache: the second run needs no TensorFlow."""

import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tlcli
from tlcli import cache, files
from tlcli.backbones import pinned
from tlcli.backbones.archives import canonical_json
from tlcli.backbones.reading import USUAL, Reading
from tlcli.backbones.runtime import versions
from tlcli.backbones.stored import FORMAT, Drawing, StoredBackbone, load_stored
from tlcli.backbones.storing import store
from tlcli.backbones.table import architecture
from tlcli.backbones.weights import Weights
from tlcli.errors import RunError, StorageError

log = logging.getLogger(__name__)

_LIBRARIES = ("keras", "tensorflow", "openvino", "numpy")


def prepare(
    name: str,
    image_size: int | None,
    weights: Weights,
    precision: str,
    drawing: Drawing,
    folder: Path,
    build: Callable[[], Any],
    reading: Reading = USUAL,
) -> StoredBackbone:
    """Put a backbone with pretrained weights into a folder, from the cache where it is there.

    What the cache holds has the same bytes as what `build` and `store` would give again.

    Args:
        name: a row of `BACKBONES`.
        image_size: side of its images in pixels; None for its own.
        weights: where they come from.
        precision: one of `PRECISIONS`.
        drawing: how images are drawn to its square, where that is not as usual.
        folder: exists and is empty.
        build: gives the `keras.Model`.
        reading: what was made of it, see `read`.

    Raises:
        UsageError, WeightsUnavailable, StorageError: see `build` and `store`.
    """
    key = _key(name, image_size, weights, precision, {**drawing, **reading.choices})
    kept = cache.folder() / "backbones" / key if key else None
    if kept and (found := _taken(kept, folder)):
        return found
    stored = None
    if reading == USUAL and pinned.is_pinned(name, image_size, weights):
        stored = pinned.stored(name, image_size, precision, drawing, folder)
    if stored is None:
        stored = store(build(), name, weights.label, folder, precision, drawing, reading)
    if kept:
        _keep(folder, kept)
    return stored


def _key(
    name: str,
    image_size: int | None,
    weights: Weights,
    precision: str,
    choices: Mapping[str, Any],
) -> str | None:
    """What decides the files of a prepared backbone; None where its weights are not here."""
    row = architecture(name)
    path = weights.file(row)
    if path is None or not path.is_file():
        return None
    facts = [
        str(FORMAT),
        tlcli.__version__,
        name,
        str(image_size or row.image_size),
        weights.label,
        files.sha256(path, links=True),
        precision,
        canonical_json(choices).decode(),
        str(versions(_LIBRARIES)),
    ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()


def _taken(kept: Path, folder: Path) -> StoredBackbone | None:
    """A copy of what is kept; None where there is none, or it is damaged and was dropped.

    Raises:
        OSError: what is kept is intact, and the folder takes no copy.
    """
    if not kept.is_dir():
        return None
    try:
        files.copy_folder(kept, folder)
        stored = _verified(folder)
        cache.touch(kept)
        return stored
    except (OSError, StorageError, RunError) as error:
        if _is_intact(kept):
            raise
        log.warning("the backbone kept in %s is prepared again: %s", kept, error)
        shutil.rmtree(kept, ignore_errors=True)
        for path in folder.iterdir():
            path.unlink()
        return None


def _verified(folder: Path) -> StoredBackbone:
    stored = load_stored(folder)
    stored.verify()
    return stored


def _is_intact(kept: Path) -> bool:
    try:
        _verified(kept)
    except RunError:
        return False
    return True


def _keep(folder: Path, kept: Path) -> None:
    """Copy a prepared backbone into the cache, whole or not at all."""
    draft = kept.with_name(f".{kept.name}.{os.getpid()}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        files.copy_folder(folder, draft)
        draft.rename(kept)
        cache.evict()
    except (OSError, StorageError) as error:
        log.info("the prepared backbone cannot be kept in %s (%s)", kept.parent, error)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
