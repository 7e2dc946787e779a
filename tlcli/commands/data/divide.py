"""data divide: what of DATA is to be learned, and what is kept for tests."""

import csv
import io
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tlcli import files, images, memory, runs
from tlcli.config import DivideConfig, Progress, no_progress
from tlcli.errors import DataError, StorageError, UsageError
from tlcli.images import LabelledImage, Listing, Skipped
from tlcli.images.walking import is_folder
from tlcli.rounds.intake import scan, unlearned
from tlcli.urls import lies_in, place

log = logging.getLogger(__name__)

LEARN, HELD_OUT = "learn.csv", "held-out.csv"
"""The tables in --out."""

HELD_OUT_FOLDER, TESTED_FOLDER = "held-out", "tested"
"""The folders in --move-into."""


@dataclass(frozen=True)
class Division:
    """Which way the images of DATA go; each content counts once, all its copies go with it."""

    data: str
    learn: tuple[LabelledImage, ...]
    held_out: tuple[LabelledImage, ...]
    learned_before: int
    tested: int
    """Images that --test holds."""
    duplicates: int
    skipped: tuple[Skipped, ...]
    tables: tuple[str, ...] = ()
    """That were written."""
    moved: int | None = None
    """Files, copies too; None where none were to be."""

    def to_json(self) -> dict[str, Any]:
        """The object that `data divide --json` prints."""
        return {
            "data": self.data,
            "learn": len(self.learn),
            "held_out": len(self.held_out),
            "learned_before": self.learned_before,
            "tested": self.tested,
            "duplicates": self.duplicates,
            "skipped": [skip.to_json() for skip in self.skipped],
            "classes": self._classes(),
            "tables": list(self.tables),
            "moved": self.moved,
        }

    def _classes(self) -> dict[str, dict[str, int]]:
        """How many images of each class go which way."""
        learn, held_out = (
            Counter(image.label for image in part) for part in (self.learn, self.held_out)
        )
        return {
            label: {"learn": learn[label], "held_out": held_out[label]}
            for label in sorted(learn | held_out)
        }


def divide(config: DivideConfig, progress: Progress = no_progress) -> Division:
    """Say which images of DATA are new, set some of them apart for tests, and write or move them.

    Moving is done again where it was interrupted: what lies in --move-into counts as held out, so
    that the same images are chosen.

    Raises:
        TlcliError: see errors.py; no table was written, and no image is in two places.
    """
    _require(config)
    tested = _tested(config)
    earlier = _moved_earlier(config)
    division = _division(config, _listing(config, progress), tested, earlier)
    if config.out is not None:
        return replace(division, tables=_write_tables(config.out, division))
    if config.move_into is not None:
        held_out = {image.sha256 for image in (*division.held_out, *earlier)}
        return replace(division, moved=_move_all(config.data, config.move_into, held_out, tested))
    return division


def _division(
    config: DivideConfig,
    listing: Listing,
    tested: Mapping[str, str],
    earlier: Sequence[LabelledImage],
) -> Division:
    """Which way the images of DATA go, where some may have been held out earlier."""
    untested = _untested(listing.images, tested)
    ledger = {} if config.run is None else learned_by(config.run)
    fresh, refused = unlearned(replace(listing, images=untested), ledger)
    free = _free((*fresh, *earlier), config.run)
    held_out = _chosen(free, config.hold_out).union(image.sha256 for image in earlier)
    return Division(
        data=config.data,
        learn=tuple(image for image in fresh if image.sha256 not in held_out),
        held_out=tuple(image for image in fresh if image.sha256 in held_out),
        learned_before=len(untested) - len(fresh) - len(refused),
        tested=len(listing.images) - len(untested),
        duplicates=listing.duplicates,
        skipped=(*listing.skipped, *refused),
    )


def _tested(config: DivideConfig) -> Mapping[str, str]:
    """The group of every image of --test, by content hash."""
    return {} if config.test is None else images.content_groups(config.test, columns=config.columns)


def _untested(
    found: Iterable[LabelledImage], tested: Mapping[str, str]
) -> tuple[LabelledImage, ...]:
    """The images that are not tested on, nor of a group of which others are."""
    groups = set(tested.values()) - {""}
    return tuple(
        image for image in found if image.sha256 not in tested and image.group_key not in groups
    )


def learned_by(run: Path) -> Mapping[str, str]:
    """The class of every image that a run has learned, by content hash."""
    return memory.ledger_of(runs.open_run(run).round())


def _free(new: Sequence[LabelledImage], run: Path | None) -> Sequence[LabelledImage]:
    """The images that are of no group of which the run has learned others."""
    if run is None or not any(image.group for image in new):
        return new
    learned = set(memory.groups_of(runs.open_run(run).round()).values())
    return [image for image in new if image.group_key not in learned]


def _require(config: DivideConfig) -> None:
    """Refuse what cannot be meant, and places that are taken, before any work."""
    _require_one_way(config)
    if config.out is not None:
        _require_free(config.out)
    _require_apart(config)


def _require_one_way(config: DivideConfig) -> None:
    """Refuse what cannot be done together."""
    if config.data == config.test == "-":
        raise UsageError(
            "Expected standard input for DATA or --test. Received: for both. Write a table."
        )
    if config.out is not None and config.move_into is not None:
        raise UsageError(
            "Expected --out or --move-into. Received: both. Choose whether tables are written or "
            "images moved."
        )
    if config.move_into is not None and not Path(config.data).is_dir():
        raise UsageError(
            f"Expected a folder of class folders with --move-into. Received: data={config.data!r}. "
            "Use --out, which writes tables."
        )


def _require_free(out: Path) -> None:
    """Refuse a folder that is not to be had, and one that is not of an earlier call."""
    files.require_folder(out, "--out")
    if os.path.lexists(out) and not _has_tables(out):
        raise _taken(out)


def _taken(out: Path) -> UsageError:
    return UsageError(
        f"Expected a new folder for --out. Received: {out} exists, with something else in it. "
        "Choose another, or remove it."
    )


def _has_tables(out: Path) -> bool:
    """Whether a folder may be of an earlier call."""
    return out.is_dir() and {path.name for path in out.iterdir()} == {LEARN, HELD_OUT}


def _require_apart(config: DivideConfig) -> None:
    """Refuse folders within one another: their images would be taken for each other's."""
    data = place(config.data)
    others = [place(config.test)] if config.test and is_folder(place(config.test)) else []
    if config.move_into is not None:
        others += [config.move_into / name for name in (HELD_OUT_FOLDER, TESTED_FOLDER)]
    for other in others:
        if is_folder(data) and (lies_in(other, data) or lies_in(data, other)):
            raise UsageError(
                f"Expected DATA apart from {other}. Received: data={config.data!r}. "
                "Choose folders that do not lie in one another."
            )


def _moved_earlier(config: DivideConfig) -> tuple[LabelledImage, ...]:
    """What an earlier call, which was interrupted, has held out."""
    if config.move_into is None:
        return ()
    return _listing_of(config.move_into / HELD_OUT_FOLDER).images


def _listing(config: DivideConfig, progress: Progress) -> Listing:
    """What DATA holds; nothing, where an earlier call has moved it all."""
    if config.move_into is not None and any(
        (config.move_into / name).is_dir() for name in (HELD_OUT_FOLDER, TESTED_FOLDER)
    ):
        return _listing_of(Path(config.data))
    return scan(config.data, config.columns, progress)


def _listing_of(folder: Path) -> Listing:
    """What a folder holds that may be empty, or missing."""
    if folder.is_dir() and any(images.find_images([folder])):
        return images.scan(folder)
    return Listing(())


def _chosen(new: Iterable[LabelledImage], share: float) -> frozenset[str]:
    """The contents that are held out."""
    found = {image.sha256: image for image in new}
    labels = [image.label for image in found.values()]
    groups = [image.group_key for image in found.values()]
    apart = images.set_apart(list(found), labels, share, groups)
    return frozenset(key for key, is_apart in zip(found, apart, strict=True) if is_apart)


# --- tables


def _write_tables(out: Path, division: Division) -> tuple[str, ...]:
    """Make the folder of tables by one rename, or find it done; their paths."""
    grouped = any(image.group for image in (*division.learn, *division.held_out))
    parts = {LEARN: division.learn, HELD_OUT: division.held_out}
    tables = {name: _table(part, grouped) for name, part in parts.items()}
    files.sweep(out)
    # Another process may make the folder between the two.
    if out.exists() or not _made(out, tables):
        if any((out / name).read_bytes() != content for name, content in tables.items()):
            raise _taken(out)
        log.warning("%s has these tables already", out)
    return tuple(str(out / name) for name in tables)


def _made(out: Path, tables: Mapping[str, bytes]) -> bool:
    """Whether the folder could be made: it was not there."""
    with files.saving(out), files.staging(out) as staged:
        draft = staged / out.name
        draft.mkdir()
        for name, content in tables.items():
            (draft / name).write_bytes(content)
        return files.place_folder(draft, out)


def _table(part: Iterable[LabelledImage], grouped: bool) -> bytes:
    """The columns path,label with absolute paths, and group where there are groups.

    Raises:
        DataError: a path is no UTF-8, which a table is.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "group") if grouped else ("path", "label"))
    for image in part:
        path = str(image.path.absolute())
        if not _is_text(path):
            raise DataError(
                f"Expected file names in UTF-8 for a table. Received: {path!r}. "
                "Rename the file, or use --move-into."
            )
        writer.writerow((path, image.label, image.group) if grouped else (path, image.label))
    return text.getvalue().encode()


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- moves


def _move_all(data: str, into: Path, held_out: Collection[str], tested: Collection[str]) -> int:
    """Move what is not to be learned, each file by a rename; how many files.

    Raises:
        UsageError, DataError: a file cannot be moved; none was.
        StorageError: nothing more can be moved; each image is in one place.
    """
    moves = list(_moves(Path(data), into, held_out, tested))
    for source, target in moves:
        _require_movable(source, target, Path(data))
    for source, target in moves:
        _move(source, target)
    _sync({path.parent for move in moves for path in move})
    return len(moves)


def _sync(folders: Collection[Path]) -> None:
    """Flush what was moved out of folders, and into others."""
    for folder in sorted(folders):
        with files.saving(folder):
            files.sync(folder)


def _moves(
    data: Path, into: Path, held_out: Collection[str], tested: Collection[str]
) -> Iterator[tuple[Path, Path]]:
    """Every file that goes, and where to."""
    paths = [path for path in images.find_images([data]) if isinstance(path, Path)]
    for path, key in zip(paths, images.content_hashes(paths), strict=True):
        if key in held_out:
            yield path, into / HELD_OUT_FOLDER / path.relative_to(data)
        elif key in tested:
            yield path, into / TESTED_FOLDER / path.relative_to(data)


def _require_movable(source: Path, target: Path, data: Path) -> None:
    if source.resolve() != data.resolve() / source.relative_to(data):
        raise DataError(
            f"Expected files to move. Received: {source}, which is a link or lies behind one. "
            "Put the images themselves there, or use --out."
        )
    if os.path.lexists(target):
        raise UsageError(
            f"Expected a free name in --move-into. Received: {target} exists. "
            "Choose another --move-into."
        )


def _move(source: Path, target: Path) -> None:
    try:
        files.make_folders(target.parent)
        source.rename(target)
    except OSError as error:
        raise StorageError(
            f"Expected to be able to move {source} to {target}. Received: "
            f"{error.strerror or error}. Choose a --move-into on the same file system that you may "
            "write to, or repair that; the same command goes on."
        ) from error
