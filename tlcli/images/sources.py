"""Where images come from: class folders, tables and lines on standard input → entries."""

import csv
import glob
import io
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path
from typing import BinaryIO, NoReturn, TextIO

from tlcli.errors import DataError, UsageError
from tlcli.images.layouts import require_undivided
from tlcli.images.walking import (
    identities,
    is_folder,
    is_image,
    partition,
    unreadable,
    walk,
)

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
STANDARD_INPUT = "-"
_BLOCK_BYTES = 1 << 16

FIRST, MOST = 32, 1024
"""Images that are answered together, at first and later."""

# Unicode categories that no class name may contain: controls, lone surrogates, line separators.
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")


@dataclass(frozen=True)
class Entry:
    """One image as it was named; nothing is known about the file yet."""

    path: Path
    label: str
    given: str
    """The path as written in the table, or below the folder; orders the images."""


@dataclass(frozen=True)
class Found:
    """All entries of one source."""

    entries: tuple[Entry, ...]
    stray: tuple[Path, ...] = ()
    """Image files beside the class folders: they belong to no class."""
    ignored: int = 0
    empty_classes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    """Names like train and test of folders in every class folder."""


@dataclass(frozen=True)
class _Columns:
    """Where a table keeps its two columns, and how many cells a row may have."""

    path: int
    label: int
    width: int


def find_entries(data: str | Path, stdin: TextIO | None) -> Found:
    """Return the entries of a folder, a table, or standard input; at least one.

    Raises:
        UsageError: `data` does not exist.
        DataError: it exists and holds no labelled images.
        DividedData: it is a dataset that comes in parts like train and test.
    """
    if str(data) == STANDARD_INPUT:
        return Found(_stdin_entries(stdin or sys.stdin or io.StringIO()))
    path = Path(data)
    if _exists_as_folder(path):
        return _folder_entries(path)
    if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
        raise DataError(
            "Expected a folder of class folders, or a .csv, .tsv or .txt table with the columns "
            f"path,label. Received: data={path}. Name the folder above the class folders, or "
            "write such a table."
        )
    return Found(_table_entries(path))


def find_images(paths: Iterable[str | Path]) -> Iterator[Path]:
    """Yield image files lazily: files as they are, folders searched, patterns matched.

    A named file is taken whatever its suffix and even when it does not exist; folders are
    searched recursively, sorted, for the suffixes of `IMAGE_SUFFIXES`. A path that does not exist
    and holds `*`, `?` or `[` is a pattern, in which `**` stands for folders at any depth: it
    stands for the paths that match it, sorted.

    Raises:
        DataError: a folder may not be read.
    """
    for path in paths:
        if is_folder(path):
            yield from filter(is_image, walk(Path(path), set()))
        elif matching := _matching(str(path)):
            yield from find_images(matching)
        else:
            yield Path(path)


def growing() -> Iterator[int]:
    """How many images are answered together: few at first, so that the first answer comes soon."""
    size = FIRST
    while True:
        yield size
        size = min(2 * size, MOST)


def image_batches(
    paths: Iterable[str | Path], sizes: Iterator[int], stdin: BinaryIO | None = None
) -> Iterator[list[Path]]:
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


def _matching(pattern: str) -> list[str]:
    """The paths that match a pattern which is no path itself, sorted."""
    if not glob.has_magic(pattern) or os.path.lexists(pattern):
        return []
    # `Path.glob` takes no absolute pattern.
    return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207


# --- folders


def _exists_as_folder(path: Path) -> bool:
    try:
        path.stat()
        return path.is_dir()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise UsageError(
            f"Expected an existing folder or table. Received: data={str(path)!r}, which does not "
            "exist. Check the spelling and the current folder."
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _folder_entries(root: Path) -> Found:
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
    _require_entries(entries, f"{root}, with {len(classes)} class folders but no image file")
    named = {entry.label for entry in entries}
    return Found(
        entries=tuple(entries),
        stray=tuple(path for path in files if is_image(path)),
        ignored=len(others),
        empty_classes=tuple(sorted(set(empty) - named)),
        parts=parts,
    )


def _no_class_folders(root: Path, images: int) -> DataError:
    received = f"{images} image files directly in it" if images else "no folder in it"
    return DataError(
        f"Expected one folder per class in {root}. Received: {received}. Put each class's images "
        "into a folder named after the class, or list them in a table with the columns path,label."
    )


# --- tables


def _table_entries(path: Path) -> tuple[Entry, ...]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = _rows(file, str(path), tabs=path.suffix.lower() == ".tsv")
            _, header = next(rows, (0, []))
            columns = _columns(header)
            if columns is None:
                raise _no_columns(path, header)
            return _row_entries(rows, columns, path.parent, str(path))
    except UnicodeDecodeError as error:
        _refuse_encoding(str(path), error)
    except OSError as error:
        raise unreadable(path, error) from error


def _stdin_entries(stdin: TextIO) -> tuple[Entry, ...]:
    source = "standard input"
    try:
        rows = _rows(stdin, source, tabs=False)
        first = next(rows, (0, []))
        columns = _columns(first[1])
        if columns is None and first[1]:
            rows = chain([first], rows)
        return _row_entries(rows, columns or _Columns(0, 1, 2), Path(), source)
    except UnicodeDecodeError as error:
        _refuse_encoding(source, error)


def _rows(lines: Iterable[str], source: str, *, tabs: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of each row that is not blank."""
    opening = _opening(lines := iter(lines))
    comma = not tabs and "\t" not in opening[-1]
    reader = csv.reader(chain(opening, lines), delimiter="," if comma else "\t", strict=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(
            f"Expected rows of path,label. Received: {source}, line {reader.line_num} ({error}). "
            "Check the quotation marks there."
        ) from error


def _opening(lines: Iterator[str]) -> list[str]:
    """Return the lines up to the first that is not blank, without a byte order mark."""
    opening = [next(lines, "").removeprefix("\ufeff")]
    while not opening[-1].strip() and (line := next(lines, "")):
        opening.append(line)
    return opening


def _columns(header: list[str]) -> _Columns | None:
    """Return where the columns are, None when the row is no header."""
    names = [cell.strip().lower() for cell in header]
    if not {"path", "label"} <= set(names):
        return None
    return _Columns(names.index("path"), names.index("label"), len(names))


def _no_columns(path: Path, header: list[str]) -> DataError:
    found = ", ".join(repr(cell.strip()) for cell in header[:8]) or "none: it is empty"
    return DataError(
        f"Expected the columns path,label in the first line. Received: {path} with the columns "
        f"{found}. Put the line `path,label` at its top."
    )


def _row_entries(
    rows: Iterable[tuple[int, list[str]]], columns: _Columns, folder: Path, source: str
) -> tuple[Entry, ...]:
    entries = [_row_entry(row, columns, folder, f"{source}, line {line}") for line, row in rows]
    _require_entries(entries, f"{source} without a row")
    return tuple(entries)


def _row_entry(row: list[str], columns: _Columns, folder: Path, where: str) -> Entry:
    cells = dict(enumerate(row))
    given, label = cells.get(columns.path, ""), cells.get(columns.label, "")
    if not given.strip() or not label.strip() or len(row) > columns.width:
        raise DataError(
            f"Expected a path and a label, {columns.width} cells in all. Received: {where}: "
            f"{row[:8]!r}. Complete the row; put a path that contains the separator in quotation "
            "marks."
        )
    return Entry(folder / given, class_name(label, where), given)


def _require_entries(entries: list[Entry], received: str) -> None:
    if not entries:
        raise DataError(
            f"Expected labelled images. Received: {received}. Check that this is the right place."
        )


def _refuse_encoding(source: str, error: UnicodeDecodeError) -> NoReturn:
    byte = error.object[error.start]
    raise DataError(
        f"Expected text in UTF-8. Received: {source} with the byte 0x{byte:02x}, which is none. "
        "Save it as UTF-8."
    ) from error


def class_name(text: str, where: str) -> str:
    """Return a class name in its one form: Unicode NFC, without surrounding white space.

    Raises:
        DataError: it is empty or contains control characters; `where` says where it came from.
    """
    name = unicodedata.normalize("NFC", text).strip()
    if not name or any(unicodedata.category(character) in UNPRINTABLE for character in name):
        raise DataError(
            f"Expected a class name of printable characters. Received: {text!r} in {where}. "
            "Rename the class."
        )
    return name
