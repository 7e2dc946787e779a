"""Where images come from: class folders, tables and lines on standard input → entries."""

import codecs
import glob
import io
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import BinaryIO, TextIO

from tlcli import strict, urls
from tlcli.config import Columns
from tlcli.errors import DataError, UsageError
from tlcli.images.layouts import require_undivided
from tlcli.images.passed_over import passed_over, passed_text
from tlcli.images.table_parts import TablePart
from tlcli.images.tables import STANDARD_INPUT, TABLE_SUFFIXES, Table
from tlcli.images.walking import (
    identities,
    is_folder,
    is_image,
    partition,
    unreadable,
    walk,
)
from tlcli.strict import Malformed
from tlcli.urls import Place, Url, place

USUAL = Columns()
_BLOCK_BYTES = 1 << 16

FIRST, MOST = 32, 1024
"""Images that are answered together, at first and later."""


@dataclass(frozen=True)
class Entry:
    """One image as it was named; nothing is known about the file yet."""

    path: Place
    label: str
    given: str
    """The path as written in the table, or below the folder; orders the images."""
    group: str = ""
    """What it belongs to with others, as the table says; empty for nothing."""


@dataclass(frozen=True)
class Found:
    """All entries of one source."""

    entries: tuple[Entry, ...]
    stray: tuple[Place, ...] = ()
    """Image files beside the class folders: they belong to no class."""
    ignored: tuple[Place, ...] = ()
    """Files that are no images by their suffix."""
    empty_classes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    """Names like train and test of folders in every class folder."""
    folder: Place | None = None
    """What relative paths of a table count from; None for a folder."""


def find_entries(data: str | Place, stdin: TextIO | None, columns: Columns = USUAL) -> Found:
    """Return the entries of a folder, a table, or standard input; at least one.

    Raises:
        UsageError: `data` does not exist.
        DataError: it exists and holds no labelled images.
        UnclearTable: which columns of a table are meant has to be said.
        DividedData: it is a dataset that comes in parts like train and test.
    """
    if str(data) == STANDARD_INPUT:
        lines = stdin or sys.stdin or io.StringIO()
        return Found(_stdin_entries(lines, columns), folder=Path())
    part = TablePart.of(data)
    if exists_as_folder(path := part.path):
        return _folder_entries(path)
    if path.suffix.lower() not in TABLE_SUFFIXES or not (isinstance(path, Url) or path.is_file()):
        raise DataError(
            "Expected a folder of class folders, or a .csv, .tsv or .txt table with the columns "
            f"path,label. Received: data={path}. Name the folder above the class folders, or "
            "write such a table."
        )
    return Found(_table_entries(part, columns), folder=path.parent)


def find_images(paths: Iterable[str | Place]) -> Iterator[Place]:
    """Yield image files lazily: files as they are, folders searched, patterns matched.

    A named file is taken whatever its suffix and even when it does not exist; folders are
    searched recursively, sorted, for the suffixes of `IMAGE_SUFFIXES`. A path that does not exist
    and holds `*`, `?` or `[` is a pattern, in which `**` stands for folders at any depth: it
    stands for the paths that match it, sorted.

    Raises:
        DataError: a folder may not be read.
    """
    for path in map(place, paths):
        if is_folder(path):
            yield from filter(is_image, walk(path, set()))
        elif matching := _matching(path):
            yield from find_images(matching)
        else:
            yield path


def require_paths(paths: Sequence[str]) -> None:
    """Raise UsageError where one is empty: it would be the current folder."""
    if "" in paths:
        raise UsageError("Expected paths. Received: an empty one. Check the variables in it.")


def growing() -> Iterator[int]:
    """How many images are answered together: few at first, so that the first answer comes soon."""
    size = FIRST
    while True:
        yield size
        size = min(2 * size, MOST)


def image_batches(
    paths: Iterable[str | Place], sizes: Iterator[int], stdin: BinaryIO | None = None
) -> Iterator[list[Place]]:
    """Yield image files in lists: as `find_images`, and "-" is standard input.

    Standard input holds one path a line. Those that have arrived are yielded at once: a program
    that writes one path and waits for its answer is not kept waiting.

    Args:
        paths: files, folders, patterns, "-".
        sizes: the largest length of the first list, of the second, and so on; endless.
        stdin: what "-" reads, by default the process's own.

    Raises:
        DataError: a folder may not be read.
    """
    for lines, group in groupby(paths, key=lambda path: str(path) == STANDARD_INPUT):
        arriving = _arriving(stdin or _standard_input()) if lines else [group]
        for given in arriving:
            found = find_images(given)
            while batch := list(islice(found, next(sizes))):
                yield batch


def _arriving(stdin: BinaryIO) -> Iterator[list[str]]:
    """Yield the lines that have arrived, without their ends and without empty ones.

    A path may be any bytes: those that are no UTF-8 become what `os.fsencode` turns back.
    """
    begun: list[bytes] = []
    # The buffer of standard input has `read1`, which waits for the first byte alone.
    while block := stdin.read1(_BLOCK_BYTES):  # type: ignore[attr-defined]
        first, *others = block.split(b"\n")
        begun.append(first)
        if others:
            whole = [b"".join(begun), *others[:-1]]
            begun = [others[-1]]
            yield _texts(whole)
    yield _texts([b"".join(begun)])


def _texts(lines: Iterable[bytes]) -> list[str]:
    return [os.fsdecode(name) for line in lines if (name := line.rstrip(b"\r"))]


def _standard_input() -> BinaryIO:
    """That of the process; empty where it is closed."""
    return sys.stdin.buffer if sys.stdin else io.BytesIO()


def _matching(pattern: Place) -> Sequence[str | Place]:
    """The paths that match a pattern which is no path itself, sorted."""
    if not glob.has_magic(str(pattern)):
        return []
    if isinstance(pattern, Url):
        return _matching_urls(pattern)
    if os.path.lexists(pattern):
        return []
    # `Path.glob` takes no absolute pattern.
    return sorted(glob.glob(str(pattern), recursive=True))  # noqa: PTH207


def _matching_urls(pattern: Url) -> Sequence[Url]:
    """Nothing, where it cannot be asked for: reading it says why."""
    try:
        return urls.matching(pattern)
    except OSError:
        return []


# --- folders


def exists_as_folder(path: Place) -> bool:
    """Whether what is there is a folder.

    Raises:
        UsageError: there is nothing.
        DataError: it may not be looked at.
    """
    try:
        if isinstance(path, Url):
            return urls.is_folder(path)
        path.stat()
        return path.is_dir()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise UsageError(
            f"Expected an existing folder or table. Received: data={str(path)!r}, which does not "
            f"exist. Check the spelling{_and_folder(path)}."
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error


def is_plain_folder(data: str) -> bool:
    """Whether it is a folder without folders in it.

    Raises:
        UsageError, DataError: see `exists_as_folder`.
    """
    root = TablePart.of(data).path
    return exists_as_folder(root) and not partition(root)[0]


def _and_folder(path: Place) -> str:
    return "" if isinstance(path, Url) else " and the current folder"


def _folder_entries(root: Place) -> Found:
    """Return the images below each class folder of `root`."""
    classes, files = partition(root)
    if not classes:
        raise _no_class_folders(root, sum(map(is_image, files)))
    parts = require_undivided(root)
    entries: list[Entry] = []
    empty: list[str] = []
    others = [path for path in files if not is_image(path)]
    for folder in classes:
        label = class_name(folder.name, f"folder {str(folder)!r}")
        below = list(walk(folder, identities(root)))
        images = [path for path in below if is_image(path)]
        entries.extend(Entry(path, label, str(path)) for path in images)
        others.extend(path for path in below if not is_image(path))
        empty.extend([] if images else [label])
    what = f"{root}, with {len(classes)} class folders but no image file{_instead(others)}"
    _require_entries(entries, what)
    named = {entry.label for entry in entries}
    return Found(
        entries=tuple(entries),
        stray=tuple(path for path in files if is_image(path)),
        ignored=tuple(others),
        empty_classes=tuple(sorted(set(empty) - named)),
        parts=parts,
    )


def _instead(others: Sequence[Place]) -> str:
    return f" by its suffix, but {passed_text(passed_over(others))}" if others else ""


def _no_class_folders(root: Place, images: int) -> DataError:
    received = f"{images} image files directly in it" if images else "no folder in it"
    return DataError(
        f"Expected one folder per class in {root}. Received: {received}. Put each class's images "
        "into a folder named after the class, or list them in a table with the columns path,label."
    )


# --- tables


def _table_entries(part: TablePart, columns: Columns) -> tuple[Entry, ...]:
    path = part.path
    table = Table(str(path), columns, tabs=path.suffix.lower() == ".tsv")
    try:
        with (
            urls.opened(path) as content,
            io.TextIOWrapper(content, encoding="utf-8-sig", newline="") as file,
        ):
            return _row_entries(table, part, file, path.parent)
    except UnicodeDecodeError as error:
        raise _encoding_error(str(path), error, _line_not_text(path)) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _stdin_entries(stdin: TextIO, columns: Columns) -> tuple[Entry, ...]:
    table = Table("standard input", columns, header=False)
    try:
        return _row_entries(table, TablePart(Path(STANDARD_INPUT)), stdin, Path())
    except UnicodeDecodeError as error:
        raise _encoding_error(table.source, error) from error


def _row_entries(
    table: Table, part: TablePart, lines: Iterable[str], folder: Place
) -> tuple[Entry, ...]:
    names: dict[str, str] = {}
    entries = []
    for row in part.rows(table.rows(lines)):
        if row.label not in names:
            names[row.label] = class_name(row.label, f"{table.source}, line {row.line}")
        group = unicodedata.normalize("NFC", row.group)
        entries.append(Entry(_file(folder, row.path), names[row.label], row.path, group))
    _require_entries(entries, f"{table.source} without a row")
    return tuple(entries)


def _file(folder: Place, given: str) -> Place:
    """The file of a path in a table, which another system may have separated by backslashes."""
    named = place(given)
    if isinstance(named, Url):
        return named
    if isinstance(folder, Url):
        return named if named.is_absolute() else folder / given
    path = folder / named
    if "\\" in given and not os.path.lexists(path):
        other = folder / given.replace("\\", "/")
        return other if os.path.lexists(other) else path
    return path


def _require_entries(entries: list[Entry], received: str) -> None:
    if not entries:
        raise DataError(
            f"Expected labelled images. Received: {received}. Check that this is the right place."
        )


def _line_not_text(path: Place) -> int | None:
    """The number of the first line that is not UTF-8."""
    with urls.opened(path) as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return None


def _encoding_error(source: str, error: UnicodeDecodeError, line: int | None = None) -> DataError:
    if error.object.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        what = f"{source} in UTF-16"
    else:
        where = "" if line is None else f", line {line},"
        what = f"{source}{where} with the byte 0x{error.object[error.start]:02x}, which is none"
    return DataError(f"Expected text in UTF-8. Received: {what}. Save it as UTF-8.")


def class_name(text: str, where: str) -> str:
    """Return a class name in its one form: Unicode NFC, without surrounding white space.

    Raises:
        DataError: it is empty, too long, or has control characters; `where` says where it is.
    """
    name = unicodedata.normalize("NFC", text).strip()
    try:
        return strict.NAME(name)
    except Malformed as error:
        raise DataError(
            f"Expected a class name of printable characters. Received: {strict.shown(text)} in "
            f"{where}. Rename the class."
        ) from error
