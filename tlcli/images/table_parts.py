"""The rows of a table in one part of a divided dataset."""

import logging
import os
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from tlcli.errors import DataError, DividedData
from tlcli.images.parts import Part, other_name, part_of
from tlcli.images.tables import STANDARD_INPUT, TABLE_SUFFIXES, Row
from tlcli.urls import Place, Url, place

log = logging.getLogger(__name__)

_NAME = re.compile("[^#/]+")
"""What can stand behind the `#`."""

_OF_TABLE = re.compile(
    rf"(?P<table>.+(?:{'|'.join(map(re.escape, TABLE_SUFFIXES))}))#(?P<part>{_NAME.pattern})",
    re.I | re.S,
)
"""A table and one of its parts: list.csv#train."""

SHOWN = 6
"""Parts that a message names."""


@dataclass(frozen=True)
class TablePart:
    """A table, and which of its rows are wanted."""

    path: Place
    name: str | None = None
    """Of the part; None for all rows, of a table that is not divided."""

    @staticmethod
    def of(data: str | Place) -> "TablePart":
        """From what a command is given; a path that exists is that path."""
        path = place(data)
        found = _OF_TABLE.fullmatch(str(data))
        if found is None or not (isinstance(path, Url) or not os.path.lexists(path)):
            return TablePart(path)
        return TablePart(place(found["table"]), found["part"])

    def rows(self, rows: Iterable[Row]) -> list[Row]:
        """Those of the part.

        Raises:
            DividedData: the rows are of several parts, and none is chosen.
            DataError: no row is of the part.
        """
        every = list(rows)
        counted = Counter(row.part for row in every)
        if self.name is None:
            self._require_undivided(counted)
            return every
        same, kind = self.name.casefold(), part_of(self.name)
        wanted = [name for name in counted if name.casefold() == same] or [
            name for name in counted if kind is not None and part_of(name) is kind
        ]
        if not wanted:
            shown = (
                ", ".join(map(repr, filter(None, counted)))
                or "no column that says so, like `split`"
            )
            raise DataError(
                f"Expected a part of {self.path}. Received: {self.name!r}, where the table has "
                f"{shown}. Name one of its parts behind the `#`, or give the table alone."
            )
        return [row for row in every if row.part in wanted]

    def _require_undivided(self, counted: Counter[str]) -> None:
        """Refuse rows of several parts; of others, like 0 and 1, say that all rows are taken."""
        if len(counted) < 2:
            return
        shown = ", ".join(
            f"{name or 'none'} ({count})" for name, count in counted.most_common(SHOWN)
        )
        shown += " and more" if len(counted) > SHOWN else ""
        called = {part: f"{self.path}#{name}" for part, name in _words(counted).items()}
        if len(called) > 1:
            raise self._divided(shown, called)
        log.warning("%s has rows of %s: all are taken%s", self.path, shown, self._only(counted))

    def _only(self, names: Iterable[str]) -> str:
        """What takes the rows of one part alone; empty where nothing does."""
        example = next(filter(_NAME.fullmatch, names), None)
        if example is None or self._on_standard_input:
            return ""
        return f"; {shlex.quote(f'{self.path}#{example}')} are those of one"

    @property
    def _on_standard_input(self) -> bool:
        return str(self.path) == STANDARD_INPUT

    def _divided(self, shown: str, called: dict[Part, str]) -> DataError:
        found = f"Expected images of one part. Received: {self.path}, a table with rows of {shown}."
        if self._on_standard_input:
            return DataError(f"{found} Leave the rows of one of them.")
        training, validation, test = map(called.get, Part)
        return DividedData(
            found,
            given=str(self.path),
            to_learn=training,
            to_validate=validation or test,
            to_test=test or validation,
            otherwise="To take all rows, give the table without that column.",
        )


def _words(names: Iterable[str]) -> dict[Part, str]:
    """What all rows of each part are chosen by: its name, or what stands for its several names."""
    called: defaultdict[Part, list[str]] = defaultdict(list)
    for name in names:
        if (part := part_of(name)) is not None:
            called[part].append(name)
    taken = {name.casefold() for name in names}
    return {part: _word(part, found, taken) for part, found in called.items()}


def _word(part: Part, names: Sequence[str], taken: Container[str]) -> str:
    alike = len({name.casefold() for name in names}) == 1
    return names[0] if alike and _NAME.fullmatch(names[0]) else other_name(part, taken)
