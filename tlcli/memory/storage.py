"""A memory on disk: `memory.h5` in the folder of a round, or a moments file that travels alone."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import files, strict
from tlcli.config import WIDEST
from tlcli.features import UNKNOWN_DECODER, Examples, Kind, segments
from tlcli.memory import parts
from tlcli.memory.herding import Centre
from tlcli.memory.parts import Part, Sources
from tlcli.memory.state import Memory
from tlcli.memory.table import SETTINGS
from tlcli.moments import LARGEST_SUM, MOST_IMAGES, Moments, largest
from tlcli.runs import Round
from tlcli.strict import Malformed
from tlcli.strict.arrays import ArrayFile

FORMAT = 2

NAME = "memory.h5"

_WIDTH = strict.whole(1, WIDEST)

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
    files.save_arrays(staged / NAME, *content_of(memory))
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
    with files.loading_arrays(entry.file(NAME), FORMAT) as file:
        memory = memory_from(file)
        keeps = memory.keeps
        width = file.attribute("feature_width", _WIDTH) if keeps.rows else 0
        found = parts.opened(entry, memory.setting, width)
        if not keeps.rows:
            return memory
        memory = _with_kept(memory, file, found, width)
        return _with_budget(memory, file, width) if keeps.exemplars else memory


def ledger_of(entry: Round) -> dict[str, str]:
    """The class of every image that a round has learned, by content hash; nothing else is made.

    Raises:
        RunError: the file is damaged, or newer than this program.
    """
    with files.loading_arrays(entry.file(NAME), FORMAT) as file:
        return _ledger_from(file)


def groups_of(entry: Round) -> dict[str, str]:
    """What stands for the group of every learned image that belongs to one, by content hash.

    Raises:
        RunError: the file is damaged, or newer than this program.
    """
    with files.loading_arrays(entry.file(NAME), FORMAT) as file:
        return _groups_from(file)


def bytes_by_part(entry: Round) -> dict[str, int]:
    """What a round keeps, and the bytes that it takes; files shared with other rounds count fully.

    Keys: "moments", "features", "exemplars", "model"; a missing file counts nothing.
    """
    total = dict.fromkeys(_PART_OF.values(), 0)
    for name in entry.manifest.files:
        part = _PART_OF.get(Path(name).stem.split("-")[0])
        if part:
            total[part] += entry.bytes_of(name)
    return total


def content_of(memory: Memory) -> tuple[files.Arrays, dict[str, Any]]:
    """The arrays and attributes of a memory."""
    arrays = _ledger_arrays(memory.ledger) | _group_arrays(memory.groups)
    attributes = {
        "format": FORMAT,
        "setting": memory.setting,
        "exact": memory.exact,
        "arithmetic": "\n".join(kind.arithmetic for kind in sorted(memory.kinds)),
        "decoder": "\n".join(kind.decoder for kind in sorted(memory.kinds)),
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


def memory_from(file: ArrayFile) -> Memory:
    """The inverse of `content_of`, without what is kept of images."""
    setting = file.attribute("setting", strict.NAME)
    if setting not in SETTINGS:
        raise Malformed(f"unknown memory {strict.shown(setting)}")
    return Memory(
        setting,
        _ledger_from(file),
        _moments_from(file) if SETTINGS[setting].moments else None,
        file.attribute("exact", strict.truth),
        _kinds_from(file),
        groups=_groups_from(file),
    )


def _kinds_from(file: ArrayFile) -> frozenset[Kind]:
    """A line each in two attributes; the second came with format 2."""
    arithmetic = file.attribute("arithmetic", _names)
    if file.attribute("format", strict.whole(1, FORMAT)) == 1:
        return frozenset(Kind(name, UNKNOWN_DECODER) for name in arithmetic)
    decoders = file.attribute("decoder", _names)
    if len(decoders) != len(arithmetic):
        raise Malformed("kinds of arithmetic and decoders differ in number")
    return frozenset(map(Kind, arithmetic, decoders))


def _names(value: Any) -> tuple[str, ...]:
    """A name a line."""
    return tuple(map(strict.NAME, strict.any_text(value).splitlines()))


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


def _moments_from(file: ArrayFile) -> Moments:
    width = file.attribute("width", _WIDTH)
    classes = file.names("classes", strict.NAME)
    if list(classes) != sorted(classes):
        raise Malformed("its classes are not in order")
    counts = file.array("counts", "<i8", (len(classes),))
    sums = file.array("sums", "<i8", (len(classes), width))
    triangle = file.array("gram", "<i8", (width * (width + 1) // 2,))
    _require_possible(counts, sums, triangle)
    gram = np.zeros((width, width), np.int64)
    upper = np.triu_indices(width)
    gram[upper] = triangle
    gram.T[upper] = triangle
    return Moments(
        file.attribute("fingerprint", strict.NAME),
        file.attribute("bits", strict.whole(-999, 999)),
        classes,
        counts,
        sums,
        gram,
        file.attribute("saturated", strict.whole(-(2**62), 2**62)),
    )


def _require_possible(
    counts: NDArray[np.int64], sums: NDArray[np.int64], gram: NDArray[np.int64]
) -> None:
    """Refuse integers whose sums, with those of another round, could leave 64 bits."""
    if len(counts) and not 1 <= counts.min() <= counts.max() <= MOST_IMAGES:
        raise Malformed(f"a class has fewer than 1 or more than {MOST_IMAGES} images")
    if any(len(array) and largest(array) > LARGEST_SUM for array in (sums, gram)):
        raise Malformed("a sum is larger than that of so many images can be")


def _ledger_arrays(ledger: Mapping[str, str]) -> files.Arrays:
    """Hashes in sorted order, with the place of each class in the sorted names."""
    hashes, names = sorted(ledger), sorted(set(ledger.values()))
    place = {name: index for index, name in enumerate(names)}
    return {
        "ledger_names": files.text_array(tuple(names)),
        "ledger_hashes": parts.byte_rows(hashes),
        "ledger_classes": np.array([place[ledger[key]] for key in hashes], np.int32),
    }


def _group_arrays(groups: Mapping[str, str]) -> files.Arrays:
    """What stands for the group of each image that has one; nothing where no image has."""
    hashes = sorted(groups)
    if not hashes:
        return {}
    return {
        "grouped_hashes": parts.byte_rows(hashes),
        "groups": parts.byte_rows([groups[key] for key in hashes]),
    }


def _groups_from(file: ArrayFile) -> dict[str, str]:
    if not file.holds("groups"):
        return {}
    hashes = parts.hashes_of(file.array("grouped_hashes", "|u1", (None, 32)))
    groups = parts.hashes_of(file.array("groups", "|u1", (len(hashes), 32)))
    strict.unique(hashes, "grouped_hashes")
    return dict(zip(hashes, groups, strict=True))


def _ledger_from(file: ArrayFile) -> dict[str, str]:
    names = file.names("ledger_names", strict.NAME)
    hashes = parts.hashes_of(file.array("ledger_hashes", "|u1", (None, 32)))
    classes = file.array("ledger_classes", "<i4", (len(hashes),))
    if len(classes) and not 0 <= classes.min() <= classes.max() < len(names):
        raise Malformed("the ledger has a class without a name")
    ledger = dict(zip(hashes, map(names.__getitem__, classes.tolist()), strict=True))
    if len(ledger) != len(hashes):
        raise Malformed("the ledger has an image twice")
    return ledger


def _with_kept(memory: Memory, file: ArrayFile, found: tuple[Part, ...], width: int) -> Memory:
    """With the rows in `found`, in the order that the setting has them in."""
    if memory.keeps.every_feature:
        hashes = tuple(sorted(memory.ledger))
    else:
        hashes = parts.hashes_of(file.array("exemplars", "|u1", (None, 32)))
    if not memory.ledger.keys() >= set(hashes):
        raise Malformed("an exemplar is not in the ledger")
    keys, vectors = parts.united(found, width)
    labels = tuple(memory.ledger[key] for key in hashes)
    kept = Examples(hashes, labels, vectors.take(_places(hashes, keys)))
    kept = memory.grouped(kept)
    return replace(memory, kept=kept, sources=Sources(found))


def _places(hashes: Sequence[str], ordered: segments.Keys) -> NDArray[np.intp]:
    """(n,) the place of each hash in the ordered keys, which are of the same images."""
    keys = segments.keys_of(hashes)
    order = np.argsort(keys)
    if keys.shape != ordered.shape or (keys[order] != ordered).any():
        raise Malformed("the rows in the files beside it are of other images")
    places = np.empty(len(keys), np.intp)
    places[order] = np.arange(len(keys))
    return places


def _with_budget(memory: Memory, file: ArrayFile, width: int) -> Memory:
    """With what the exemplars are chosen by."""
    assert memory.kept is not None
    per_class = file.attribute("exemplars_per_class", strict.whole(1, MOST_IMAGES))
    counts = Counter(memory.kept.labels)
    if max(counts.values(), default=0) > per_class:
        raise Malformed(f"a class has more than {per_class} exemplars")
    return replace(
        memory, exemplars_per_class=per_class, centres=_centres_from(file, counts, width)
    )


def _exemplars_arrays(memory: Memory) -> files.Arrays:
    assert memory.kept is not None
    names = tuple(sorted(memory.centres))
    centres = [memory.centres[name] for name in names]
    width = memory.kept.vectors.shape[1]
    return {
        "exemplars": parts.byte_rows(memory.kept.hashes),
        "centre_classes": files.text_array(names),
        "centre_counts": np.array([centre.count for centre in centres], np.int64),
        "centre_sums": np.array([centre.total for centre in centres], np.int64).reshape(-1, width),
    }


def _centres_from(file: ArrayFile, needed: Collection[str], width: int) -> dict[str, Centre]:
    names = file.names("centre_classes", strict.NAME)
    counts = file.array("centre_counts", "<i8", (len(names),))
    sums = file.array("centre_sums", "<i8", (len(names), width))
    if not set(names) >= set(needed) or (counts < 1).any():
        raise Malformed("a class with exemplars has no centre")
    if largest(sums) > LARGEST_SUM or (counts > MOST_IMAGES).any():
        raise Malformed("a centre is larger than that of so many images can be")
    centres = map(Centre, counts.tolist(), sums)
    return dict(zip(names, centres, strict=True))
