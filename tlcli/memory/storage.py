"""A memory on disk: `memory.h5` in the folder of a round, or a moments file that travels alone."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import files
from tlcli.errors import RunError
from tlcli.features import Examples, segments
from tlcli.memory import parts
from tlcli.memory.herding import Centre
from tlcli.memory.parts import Part, Sources
from tlcli.memory.state import Memory
from tlcli.memory.table import SETTINGS
from tlcli.moments import Moments
from tlcli.runs import Round

FORMAT = 1
NAME = "memory.h5"

_CHECKSUM_BYTES = 32

_PART_OF = {
    "memory": "moments",
    "features": "features",
    "exemplars": "exemplars",
    "model": "model",
    "head": "model",
}
"""From the beginning of a file's name to what it is counted as."""


def save(memory: Memory, staged: Path) -> None:
    """Write a memory into the folder of a round: the same state gives the same `memory.h5`.

    Files of the round that it was loaded from are linked where all their rows are still kept.

    Raises:
        StorageError: it cannot be written.
    """
    _assert_whole(memory)
    files.save_arrays(staged / NAME, *_content(memory))
    if memory.kept is not None:
        parts.save(memory.kept, memory.sources, memory.setting, staged)


def _assert_whole(memory: Memory) -> None:
    """A memory that could not be loaded again is a bug, and must not become a round."""
    keeps = memory.keeps
    assert (memory.moments is not None) == keeps.moments
    assert (memory.kept is not None) == keeps.rows
    if memory.kept is not None:
        kept = set(memory.kept.hashes)
        assert kept <= memory.ledger.keys()
        assert len(kept) == len(memory.ledger) or not keeps.every_feature


def load(entry: Round) -> Memory:
    """Read the memory of a round; the rows that it keeps stay on disk.

    Raises:
        RunError: a file is damaged, or newer than this program, or they contradict each other.
    """
    path = entry.file(NAME)
    with files.parsing(path):
        arrays, attributes = files.load_arrays(path, FORMAT)
        memory = _memory_from(arrays, attributes)
        keeps = memory.keeps
        width = int(attributes["feature_width"]) if keeps.rows else 0
        found = parts.opened(entry, memory.setting, width)
        if not keeps.rows:
            return memory
        memory = _with_kept(memory, arrays, found, width)
        if keeps.exemplars:
            return _with_budget(memory, arrays, int(attributes["exemplars_per_class"]), width)
        return memory


def ledger_of(entry: Round) -> dict[str, str]:
    """The class of every image that a round has learned, by content hash; nothing else is made.

    Raises:
        RunError: the file is damaged, or newer than this program.
    """
    path = entry.file(NAME)
    with files.parsing(path):
        arrays, _ = files.load_arrays(path, FORMAT)
        return _ledger_from(arrays)


def bytes_by_part(entry: Round) -> dict[str, int]:
    """What a round keeps, and the bytes that it takes; files shared with other rounds count fully.

    Keys: "moments", "features", "exemplars", "model"; a missing file counts nothing.
    """
    total = dict.fromkeys(_PART_OF.values(), 0)
    for name in entry.manifest.files:
        part = _PART_OF.get(Path(name).stem.split("-")[0])
        path = entry.folder / name
        if part and path.is_file():
            total[part] += path.stat().st_size
    return total


def save_file(memory: Memory, path: Path) -> None:
    """Write moments and ledger as one file that needs no round: HDF5 and its SHA-256.

    Raises:
        StorageError: it cannot be written.
    """
    assert memory.moments is not None
    alone = Memory("moments", memory.ledger, memory.moments, memory.exact, memory.arithmetic)
    content = files.pack_arrays(*_content(alone))
    with files.written(path) as stream:
        stream.write(content + hashlib.sha256(content).digest())


def load_file(path: Path) -> Memory:
    """Read what `save_file` wrote, after all its bytes were compared with its checksum.

    Raises:
        RunError: the file is damaged, newer than this program, or something else.
    """
    try:
        _compare_checksum(path.read_bytes())
        memory = _memory_from(*files.load_arrays(path, FORMAT))
        if not memory.keeps.moments or memory.keeps.rows:
            raise ValueError(f"it is a memory {memory.setting!r}")
        return memory
    except (OSError, KeyError, ValueError, IndexError) as error:
        files.require_resources(error, path)
        raise RunError(
            f"Expected a file that `tlcli moments` wrote. Received: {path} is damaged or "
            f"something else ({error}). Make it again with `tlcli moments RUN DATA --out FILE`."
        ) from error


def _compare_checksum(content: bytes) -> None:
    body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if hashlib.sha256(body).digest() != checksum:
        raise ValueError("its checksum does not match")


def _content(memory: Memory) -> tuple[files.Arrays, dict[str, Any]]:
    """The arrays and attributes of a memory."""
    arrays = _ledger_arrays(memory.ledger)
    attributes = {
        "format": FORMAT,
        "setting": memory.setting,
        "exact": memory.exact,
        "arithmetic": "\n".join(sorted(memory.arithmetic)),
    }
    if memory.moments is not None:
        arrays |= _moments_arrays(memory.moments)
        attributes |= _moments_attributes(memory.moments)
    if memory.kept is not None:
        attributes["feature_width"] = memory.kept.vectors.shape[1]
    if memory.keeps.exemplars:
        arrays |= _exemplars_arrays(memory)
        attributes["exemplars_per_class"] = memory.exemplars_per_class
    return arrays, attributes


def _memory_from(arrays: files.Arrays, attributes: Mapping[str, Any]) -> Memory:
    """The inverse of `_content`, without what is kept of images."""
    setting = str(attributes["setting"])
    if setting not in SETTINGS:
        raise ValueError(f"unknown memory {setting!r}")
    return Memory(
        setting,
        _ledger_from(arrays),
        _moments_from(arrays, attributes) if SETTINGS[setting].moments else None,
        bool(attributes["exact"]),
        frozenset(filter(None, str(attributes["arithmetic"]).split("\n"))),
    )


def _moments_arrays(moments: Moments) -> files.Arrays:
    return {
        "classes": files.text_array(moments.classes),
        "counts": moments.counts,
        "sums": moments.sums,
        "gram": moments.gram_triangle,
    }


def _moments_attributes(moments: Moments) -> dict[str, Any]:
    return {
        "fingerprint": moments.fingerprint,
        "bits": moments.bits,
        "width": moments.width,
        "saturated": moments.saturated,
    }


def _moments_from(arrays: files.Arrays, attributes: Mapping[str, Any]) -> Moments:
    width = int(attributes["width"])
    classes = files.texts_of(arrays["classes"])
    counts, sums = arrays["counts"], arrays["sums"]
    if counts.shape != (len(classes),) or sums.shape != (len(classes), width):
        raise ValueError("classes, counts and sums differ in number")
    gram = np.zeros((width, width), np.int64)
    upper = np.triu_indices(width)
    gram[upper] = arrays["gram"]
    gram.T[upper] = arrays["gram"]
    return Moments(
        str(attributes["fingerprint"]),
        int(attributes["bits"]),
        classes,
        counts,
        sums,
        gram,
        int(attributes["saturated"]),
    )


def _ledger_arrays(ledger: Mapping[str, str]) -> files.Arrays:
    """Hashes in sorted order, with the place of each class in the sorted names."""
    hashes, names = sorted(ledger), sorted(set(ledger.values()))
    place = {name: index for index, name in enumerate(names)}
    return {
        "ledger_names": files.text_array(tuple(names)),
        "ledger_hashes": parts.byte_rows(segments.keys_of(hashes)),
        "ledger_classes": np.array([place[ledger[key]] for key in hashes], np.int32),
    }


def _ledger_from(arrays: files.Arrays) -> dict[str, str]:
    names = files.texts_of(arrays["ledger_names"])
    hashes, classes = parts.hashes_of(arrays["ledger_hashes"]), arrays["ledger_classes"]
    if len(classes) and not 0 <= classes.min() <= classes.max() < len(names):
        raise ValueError("the ledger has a class without a name")
    ledger = dict(zip(hashes, map(names.__getitem__, classes.tolist()), strict=True))
    if len(ledger) != len(hashes):
        raise ValueError("the ledger has an image twice")
    return ledger


def _with_kept(memory: Memory, arrays: files.Arrays, found: tuple[Part, ...], width: int) -> Memory:
    """With the rows in `found`, in the order that the setting has them in."""
    if memory.keeps.every_feature:
        hashes = tuple(sorted(memory.ledger))
    else:
        hashes = parts.hashes_of(arrays["exemplars"])
    if not memory.ledger.keys() >= set(hashes):
        raise ValueError("an exemplar is not in the ledger")
    keys, vectors = parts.united(found, width)
    labels = tuple(memory.ledger[key] for key in hashes)
    kept = Examples(hashes, labels, vectors.take(_places(hashes, keys)))
    return replace(memory, kept=kept, sources=Sources(found))


def _places(hashes: Sequence[str], ordered: segments.Keys) -> NDArray[np.intp]:
    """(n,) the place of each hash in the ordered keys, which are of the same images."""
    keys = segments.keys_of(hashes)
    order = np.argsort(keys)
    if keys.shape != ordered.shape or (keys[order] != ordered).any():
        raise ValueError("the rows in the files beside it are of other images")
    places = np.empty(len(keys), np.intp)
    places[order] = np.arange(len(keys))
    return places


def _with_budget(memory: Memory, arrays: files.Arrays, per_class: int, width: int) -> Memory:
    """With what the exemplars are chosen by."""
    assert memory.kept is not None
    counts = Counter(memory.kept.labels)
    if max(counts.values(), default=0) > per_class:
        raise ValueError(f"a class has more than {per_class} exemplars")
    return replace(
        memory, exemplars_per_class=per_class, centres=_centres_from(arrays, counts, width)
    )


def _exemplars_arrays(memory: Memory) -> files.Arrays:
    assert memory.kept is not None
    names = tuple(sorted(memory.centres))
    centres = [memory.centres[name] for name in names]
    width = memory.kept.vectors.shape[1]
    return {
        "exemplars": parts.byte_rows(segments.keys_of(memory.kept.hashes)),
        "centre_classes": files.text_array(names),
        "centre_counts": np.array([centre.count for centre in centres], np.int64),
        "centre_sums": np.array([centre.total for centre in centres], np.int64).reshape(-1, width),
    }


def _centres_from(arrays: files.Arrays, needed: Collection[str], width: int) -> dict[str, Centre]:
    names = files.texts_of(arrays["centre_classes"])
    counts, sums = arrays["centre_counts"], arrays["centre_sums"]
    if not set(names) >= set(needed) or (counts < 1).any():
        raise ValueError("a class with exemplars has no centre")
    if counts.shape != (len(names),) or sums.shape != (len(names), width):
        raise ValueError("centres differ in number or width")
    centres = map(Centre, counts.tolist(), sums)
    return dict(zip(names, centres, strict=True))
