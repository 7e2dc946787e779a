"""Tables: which columns hold paths, labels and groups, whatever they are called → rows."""

import csv
import difflib
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import PurePosixPath

from tlcli.config import Columns
from tlcli.errors import DataError, UnclearTable
from tlcli.images.parts import part_of
from tlcli.images.walking import IMAGE_SUFFIXES

DELIMITERS = (",", "\t", ";", "|")
"""What may stand between cells; of those that fit the first line, the first counts."""

TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
STANDARD_INPUT = "-"

SHOWN = 8
"""Cells that a message names."""

_SEVERAL = re.compile(r"[|;]|^[\[{(].*,.*[\])}]$")
"""Labels that can only be several ones in a cell."""

_PERHAPS_SEVERAL = re.compile(r"\s*[,/+&]\s*")
"""What stands between several labels where each of them is one in other rows."""

_ONE_HOT = {"0": 0, "0.0": 0, "1": 1, "1.0": 1}


@dataclass(frozen=True)
class _Role:
    """What a column is for."""

    flag: str
    own: str
    """The name that goes before the others."""
    usual: str
    """A pattern of other names, as `_plain` has them."""

    def places(self, header: Sequence[str]) -> list[int]:
        """Where columns of this role may be; one where it is clear."""
        plain = list(map(_plain, header))
        named = [i for i, name in enumerate(header) if name.casefold() == self.own]
        numbered = [
            i for i, name in enumerate(plain) if re.fullmatch(f"(?:{self.usual})\\d+", name)
        ]
        usual = [i for i, name in enumerate(plain) if re.fullmatch(self.usual, name)]
        return sorted((named or usual) + numbered)


_PATH = _Role(
    "--path-column",
    "path",
    r"(?:full|relative)?paths?|(?:image|img)s?|(?:image|img)?file(?:name|path)?s?"
    r"|(?:image|img)(?:name|path)s?",
)
_LABEL = _Role(
    "--label-column",
    "label",
    r"(?:label|class|category|target)(?:name|label)?s?|classes|categories",
)
_GROUP = _Role("--group-column", "group", "group")


@dataclass(frozen=True)
class Row:
    """One image as a table names it."""

    line: int
    path: str
    label: str
    group: str
    """Empty where it is in none."""
    part: str
    """Of a divided dataset, as `train`; empty where it is in none."""


_NAMING = re.compile(r"(?:data)?(?:(split|partition)|(subset|set))s?|(phase|usage)")
"""A column, as `_plain` has it, in which the part of each image is named; the surest group first.
"""

_ASKING = re.compile(r"is(test|valid|train)\w*")
"""One that says of each image whether it is of a part."""

_REST = ("train", "test", "valid", "")
"""What an image may be that is of no part which is asked for; the first that is not asked for."""

_YES = frozenset(("1", "1.0", "true", "t", "yes", "y"))
_NO = frozenset(("0", "0.0", "false", "f", "no", "n"))


@dataclass(frozen=True)
class _PartColumns:
    """The columns that say which part of a divided dataset an image is in."""

    naming: tuple[int, ...]
    asking: dict[int, str]
    """Column → part."""

    @staticmethod
    def of(header: Sequence[str], taken: Collection[int | None]) -> "_PartColumns":
        """Those that are called so."""
        plain = {i: _plain(name) for i, name in enumerate(header) if i not in taken}
        found = {i: match[1] for i, name in plain.items() if (match := _ASKING.fullmatch(name))}
        named = [(match, i) for i, name in plain.items() if (match := _NAMING.fullmatch(name))]
        named.sort(key=lambda column: column[0].lastindex or 0)
        return _PartColumns(tuple(i for _, i in named), found)

    @property
    def places(self) -> tuple[int, ...]:
        """Where they are."""
        return (*self.naming, *self.asking)

    def part(self, cell: Callable[[int], str]) -> str:
        """The name of the part, of a known one where there is such; empty for none."""
        named = [cell(i) for i in self.naming]
        found = list(filter(None, [*named, self._asked(cell)]))
        return next(filter(part_of, found), found[0] if found else "")

    def _asked(self, cell: Callable[[int], str]) -> str:
        """What the answers say together; of two parts, the one that is not for training."""
        answers = {i: cell(i).casefold() for i in self.asking}
        said = [self.asking[i] for i, answer in answers.items() if answer in _YES]
        if said or _NO.isdisjoint(answers.values()):
            return min(said, key="train".__eq__, default="")
        return next(part for part in _REST if part not in self.asking.values())


@dataclass(frozen=True)
class _Layout:
    """Where a table keeps what, and how many cells a row may have."""

    path: int
    label: int | None
    """None: each of `one_hot` has a column."""
    group: int | None
    part: _PartColumns
    width: int
    one_hot: dict[int, str] = field(default_factory=dict)
    """Column → class; 1 stands in that of the row's class."""


@dataclass(frozen=True)
class Table:
    """Lines of text as a table."""

    source: str
    """What messages call it."""
    columns: Columns
    tabs: bool = False
    """Whether cells are separated by tabs alone."""
    header: bool = True
    """Whether the first line must name the columns; else path and label may follow at once."""

    def rows(self, lines: Iterable[str]) -> Iterator[Row]:
        """Yield what every row that is not blank says.

        Raises:
            UnclearTable: it is not clear which columns are meant.
            DataError: a row is incomplete, or names several labels.
        """
        cells = self._cells(self._without_nul(lines))
        _, first = next(cells, (0, []))
        header = [cell.strip() for cell in first]
        if self._is_header(header):
            second = next(cells, None)
            layout = self._layout(header, second[1] if second else [])
            cells = chain([] if second is None else [second], cells)
        else:
            layout = _Layout(0, 1, None, _PartColumns.of((), ()), 2)
            cells = chain([(1, first)] if first else [], cells)
        yield from self._single(self._row(layout, line, row) for line, row in cells)

    # --- lines and cells

    def _without_nul(self, lines: Iterable[str]) -> Iterator[str]:
        for number, line in enumerate(lines, 1):
            if "\0" in line:
                raise DataError(
                    f"Expected text in UTF-8. Received: {self.source}, line {number}, with a NUL "
                    "character, as in UTF-16 or in a file that is no text. Save it as UTF-8."
                )
            yield line

    def _cells(self, lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
        """Yield (line number, cells) of each row that is not blank."""
        opening = _opening(lines)
        reader = csv.reader(
            chain(opening, lines), delimiter=self._delimiter(opening[-1]), strict=True
        )
        try:
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, row
        except csv.Error as error:
            raise DataError(
                f"Expected rows of path,label. Received: {self.source}, line {reader.line_num} "
                f"({error}). Check the quotation marks there."
            ) from error

    def _delimiter(self, line: str) -> str:
        """The one that makes columns of the first line which are known, else the most columns."""
        if self.tabs:
            return "\t"

        def fitness(delimiter: str) -> tuple[bool, int]:
            header = _split(line, delimiter)
            return self._is_clear(header), len(header)

        return max(DELIMITERS, key=fitness)

    # --- columns

    def _is_clear(self, header: Sequence[str]) -> bool:
        roles = ((_PATH, self.columns.path_column), (_LABEL, self.columns.label_column))
        return all(
            told in header if told is not None else len(role.places(header)) == 1
            for role, told in roles
        )

    def _is_header(self, header: Sequence[str]) -> bool:
        """Whether the first line must be, or is, one of names."""
        if self.header or self.columns != Columns() or not header:
            return bool(header)
        named = any(role.places(header) for role in (_PATH, _LABEL))
        return named or not any(map(_is_file, header[:2]))

    def _layout(self, header: Sequence[str], second: Sequence[str]) -> _Layout:
        group = self._place(_GROUP, self.columns.group_column, header)
        path = self._place(_PATH, self.columns.path_column, header)
        label = self._place(_LABEL, self.columns.label_column, header)
        part = _PartColumns.of(header, (path, label, group))
        layout = _Layout(path or 0, label, group, part, len(header))
        if path is None or len(_GROUP.places(header)) > 1:
            raise self._unclear(header, second, path, label)
        if label is not None:
            return layout
        known = (path, group, *part.places)
        others = [i for i in range(len(header)) if i not in known]
        hot = [_ONE_HOT.get(second[i].strip()) for i in others if i < len(second)]
        if len(others) < 2 or _LABEL.places(header) or len(hot) < len(others) or None in hot:
            raise self._unclear(header, second, path, label)
        return replace(layout, one_hot={i: header[i] for i in others})

    def _place(self, role: _Role, told: str | None, header: Sequence[str]) -> int | None:
        """Where the column is; None where there is none, or it is not clear."""
        if told is None:
            found = role.places(header)
            return found[0] if len(found) == 1 else None
        if told not in header:
            near = difflib.get_close_matches(told, header, 1, 0) or ["COLUMN"]
            raise UnclearTable(
                f"Expected the column {told!r} in every table. Received: {self.source}, line 1, "
                f"with {_named(header)}.",
                {role.flag: near[0]},
            )
        return header.index(told)

    def _unclear(
        self, header: Sequence[str], second: Sequence[str], path: int | None, label: int | None
    ) -> UnclearTable:
        """The error that names the columns, with a guess at those that are meant."""
        options = {}
        free = [i for i in range(len(header)) if i not in (path, label)]
        if path is None:
            likely = [i for i in free if i < len(second) and _is_path(second[i])]
            path = next(iter(likely or _PATH.places(header)), None)
            options[_PATH.flag] = "COLUMN" if path is None else header[path]
        if label is None:
            rest = _LABEL.places(header) or [i for i in free if i != path]
            clear = len(rest) == 1 or len(_LABEL.places(header)) > 1
            options[_LABEL.flag] = header[rest[0]] if clear else "COLUMN"
        return UnclearTable(
            "Expected the columns path,label in the first line. Received: "
            f"{self.source}, line 1, with {_named(header)}.",
            options,
            "Without such a line, put `path,label` at its top.",
        )

    # --- rows

    def _row(self, layout: _Layout, line: int, row: list[str]) -> Row:
        def cell(place: int | None) -> str:
            return row[place] if place is not None and place < len(row) else ""

        label = cell(layout.label) if layout.label is not None else self._hot(layout, line, row)
        path = cell(layout.path)
        if not path.strip() or not label.strip() or len(row) > layout.width:
            raise DataError(
                f"Expected a path and a label, {layout.width} cells in all. Received: "
                f"{self.source}, line {line}: {row[:SHOWN]!r}. Complete the row; put a path that "
                "contains the separator in quotation marks."
            )
        part = layout.part.part(lambda place: cell(place).strip())
        return Row(line, path, label.strip(), cell(layout.group).strip(), part)

    def _hot(self, layout: _Layout, line: int, row: list[str]) -> str:
        """The class whose column has the only 1."""
        cells = row + [""] * layout.width
        values = {name: cells[i].strip() for i, name in layout.one_hot.items()}
        if not set(values.values()) <= _ONE_HOT.keys():
            raise DataError(
                f"Expected 0 or 1 for every class. Received: {self.source}, line {line}: "
                f"{row[:SHOWN]!r}. Correct the row."
            )
        named = [name for name, value in values.items() if _ONE_HOT[value]]
        if len(named) > 1:
            raise self._several(line, ", ".join(named))
        return next(iter(named), "")

    def _single(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows; raises where a cell holds several labels."""
        first: dict[str, int] = {}
        for row in rows:
            if row.label not in first:
                first[row.label] = row.line
                if _SEVERAL.search(row.label):
                    raise self._several(row.line, row.label)
            yield row
        for label, line in first.items():
            parts = _PERHAPS_SEVERAL.split(label)
            if len(parts) > 1 and first.keys() >= set(parts):
                raise self._several(line, label)

    def _several(self, line: int, label: str) -> DataError:
        return DataError(
            f"Expected one label for each image. Received: {self.source}, line {line}: {label!r}, "
            "which are several. Keep one; images of several classes at once cannot be learned."
        )


def _opening(lines: Iterator[str]) -> list[str]:
    """Return the lines up to the first that is not blank, without a byte order mark."""
    opening = [next(lines, "").removeprefix("\ufeff")]
    while not opening[-1].strip() and (line := next(lines, "")):
        opening.append(line)
    return opening


def _plain(name: str) -> str:
    """A column's name in lower case, without what is neither letter nor digit."""
    return re.sub(r"[\W_]", "", name).casefold()


def _split(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for row in csv.reader([line], delimiter=delimiter) for cell in row]


def _named(header: Sequence[str]) -> str:
    more = f" and {len(header) - SHOWN} more" if len(header) > SHOWN else ""
    shown = ", ".join(map(repr, header[:SHOWN]))
    return f"the columns {shown}{more}" if shown else "no column: it is empty"


def _is_path(cell: str) -> bool:
    return PurePosixPath(cell.strip()).suffix.lower() in IMAGE_SUFFIXES


def _is_file(cell: str) -> bool:
    """Whether it is a file rather than the name of a column."""
    return bool(PurePosixPath(cell).suffix) or os.path.lexists(cell)
