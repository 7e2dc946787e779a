"""What files of `tlcli moments` add to a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tlcli import memory, moments
from tlcli.config import no_progress
from tlcli.errors import DataError, RunError
from tlcli.features import Kind, another
from tlcli.memory import Memory
from tlcli.moments import Moments
from tlcli.rounds.names import said_of
from tlcli.rounds.parent import Parent
from tlcli.rounds.recall import recall, with_same_bits

_SHOWN = 8
"""Shards that are missing, in a message."""


@dataclass(frozen=True, eq=False)
class Collected:
    """What files of moments add to a run."""

    moments: Moments
    ledger: Mapping[str, str]
    """Content hash of each image that is new to the run → its class."""
    kinds: frozenset[Kind]
    exact: bool
    already_learned: int
    groups: Mapping[str, str] = field(default_factory=dict)
    """Content hash → what stands for the group, of the images that belong to one."""


def _files_among(paths: Sequence[Path]) -> list[Path]:
    return [file for path in paths for file in _files_of(path)]


def _files_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    if not (found := sorted(path.glob("[!.]*.h5"))):
        raise DataError(
            f"Expected files of `tlcli moments` in the folder {path}. Received: none that ends in "
            ".h5. Give another folder, or the files."
        )
    return found


@dataclass
class _Sets:
    """The shards that are there, by the DATA of which they are shards."""

    _found: dict[tuple[str, int], dict[int, Path]] = field(default_factory=dict)
    _new: set[tuple[str, int]] = field(default_factory=set)
    """With images that the run has not learned."""

    def add(self, shard: memory.Shard | None, path: Path, brings: bool) -> None:
        """Take in a file.

        Args:
            shard: None where it has all of its DATA.
            path: of the file.
            brings: whether it has images that the run has not learned.

        Raises:
            DataError: the shard is there already.
        """
        if shard is None:
            return
        whole = shard.data, shard.count
        if brings:
            self._new.add(whole)
        other = self._found.setdefault(whole, {}).setdefault(shard.number, path)
        if other is not path:
            raise DataError(
                f"Expected each shard once. Received: shard {shard.number}/{shard.count} in "
                f"{other} and in {path}. Leave one of them out."
            )

    def require_complete(self) -> None:
        """Refuse shards of which others are missing; where they bring nothing new, all is well.

        Raises:
            DataError: one is missing.
        """
        for data, count in sorted(self._new):
            shards = self._found[data, count]
            missing = [number for number in range(1, count + 1) if number not in shards]
            if missing:
                others = " Other files are of other DATA." if len(self._found) > 1 else ""
                raise DataError(
                    f"Expected all {count} shards of DATA {data[:12]}, of which "
                    f"{next(iter(shards.values()))} is one. Received: {len(shards)}, without "
                    f"{_shown(missing, count)}.{others} Give these too, or add --partial."
                )


def _shown(missing: Sequence[int], count: int) -> str:
    shown = ", ".join(f"{number}/{count}" for number in missing[:_SHOWN])
    return shown if len(missing) <= _SHOWN else f"{shown} and {len(missing) - _SHOWN} more"


def read_files(parent: Parent, paths: Sequence[Path], partial: bool = False) -> Collected:
    """The files together, without the images that the run has learned before.

    Args:
        parent: what learns them.
        paths: files of `tlcli moments`, and folders of them.
        partial: whether shards may be missing.

    Raises:
        RunError: a file is damaged, or of another backbone.
        DataError: an image is in a file and in the run, and its features are not known; a folder
            has no files; a shard is there twice, or one is missing.
    """
    nothing = parent.extractor.empty_moments()
    result = Collected(nothing, {}, frozenset(), True, 0)
    sets = _Sets()
    for path in _files_among(paths):
        part = _new_part(parent, memory.load_file(path), path)
        sets.add(memory.shard_of(path), path, bool(part.ledger))
        result = _joined(result, part, path)
    if not partial:
        sets.require_complete()
    return result


def _new_part(parent: Parent, content: Memory, path: Path) -> Collected:
    assert content.moments is not None
    _require_same_space(parent, content.moments, path)
    learned = parent.memory.ledger
    again = {key: name for key, name in content.ledger.items() if key in learned}
    new = {key: name for key, name in content.ledger.items() if key not in learned}
    _require_same_labels(again, parent, path)
    part = content.moments
    if again and new:
        part = moments.subtract(part, _moments_of(parent, content, again, path))
    elif again:
        part = parent.extractor.empty_moments()
    groups = {key: group for key, group in content.groups.items() if key in new}
    return Collected(part, new, content.kinds, content.exact, len(again), groups)


def _moments_of(parent: Parent, content: Memory, again: Mapping[str, str], path: Path) -> Moments:
    """The moments of images of a file that the run has learned, to be taken away from it."""
    recalled = recall(parent, (), True, no_progress, again)
    recalled = with_same_bits(parent, recalled)
    kinds = content.kinds | parent.memory.kinds
    if recalled.missing or len(kinds) > 1:
        why = "their features are not known here"
        if len(kinds) > 1:
            why = f"their features were computed with {another(kinds, parent.extractor.kind)}"
        raise DataError(
            f"Expected images that the run has not learned. Received: {len(again)} of "
            f"{len(content.ledger)} images in {path} were learned before, and {why}. "
            "Write the file again without them, or give the images as DATA."
        )
    return parent.extractor.moments(recalled.examples)


def _require_same_space(parent: Parent, given: Moments, path: Path) -> None:
    try:
        moments.require_same_space(parent.extractor.empty_moments(), given)
    except RunError as error:
        raise RunError(f"{path}: {error}") from error


def _require_same_labels(again: Mapping[str, str], parent: Parent, path: Path) -> None:
    learned = parent.memory.ledger
    for key, name in again.items():
        if learned[key] != name:
            raise DataError(
                f"Expected one class for each image. Received: an image of {name!r} in {path} was "
                f"learned as {learned[key]!r} (content hash {key[:12]}…). "
                f"{said_of([name], parent.former)}Write the file again with the right name, "
                "or correct the run with `tlcli rename-classes`."
            )


def _joined(a: Collected, b: Collected, path: Path) -> Collected:
    if twice := len(a.ledger.keys() & b.ledger.keys()):
        raise DataError(
            f"Expected files without common images. Received: {twice} images of {path} are in "
            "another file too. Give each image once; --shard i/N cuts DATA without overlap."
        )
    return Collected(
        moments.add(a.moments, b.moments),
        {**a.ledger, **b.ledger},
        a.kinds | b.kinds,
        a.exact and b.exact,
        a.already_learned + b.already_learned,
        {**a.groups, **b.groups},
    )
