"""Datasets that come divided: what their parts are called, and the rows of a table in one."""

import enum
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tlcli.errors import DataError, DividedData
from tlcli.images.tables import STANDARD_INPUT, TABLE_SUFFIXES, Row
from tlcli.urls import Place, Url, place


class Part(enum.Enum):
    """What a part of a divided dataset is for."""

    TRAINING = enum.auto()
    VALIDATION = enum.auto()
    TEST = enum.auto()


_NAMES = {
    Part.TRAINING: "train|training|trainset|trainval|trn",
    Part.VALIDATION: "val|valid|validation|validate|valset|validset|dev|devel|development",
    Part.TEST: "test|testing|tested|testset|tst|eval|evaluation|(?:hold|held)[-_ ]?out",
}
"""How they are called, in any case, also as `train2017` or `Test Images`."""

WORD = r"(?<![^\W\d_])(?:{})(?![^\W\d_])"
"""A pattern of a word among others that are separated by what is no letter."""

PART = re.compile(
    WORD.format("|".join(f"(?P<{part.name}>{names})" for part, names in _NAMES.items())), re.I
)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")

_OF_TABLE = re.compile(
    rf"(?P<table>.+(?:{'|'.join(map(re.escape, TABLE_SUFFIXES))}))#(?P<part>[^#/]+)", re.I
)
"""A table and one of its parts: list.csv#train."""


def spaced(name: str) -> str:
    """With a space before each capital letter that follows a small one."""
    return _CAMEL.sub(" ", name)


def part_of(name: str) -> Part | None:
    """Which part is called so; None for none."""
    found = PART.search(spaced(name))
    return None if found is None else Part[str(found.lastgroup)]


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
        if found is None or not (isinstance(path, Url) or not path.exists()):
            return TablePart(path)
        return TablePart(place(found["table"]), found["part"])

    def rows(self, rows: Iterable[Row]) -> list[Row]:
        """Those of the part.

        Raises:
            DividedData: the rows are of several parts, and none is chosen.
            DataError: no row is of the part.
        """
        every = list(rows)
        counted = Counter(row.part for row in every if row.part)
        if self.name is None:
            self._require_undivided(counted)
            return every
        same, kind = self.name.casefold(), part_of(self.name)
        wanted = [name for name in counted if name.casefold() == same] or [
            name for name in counted if kind is not None and part_of(name) is kind
        ]
        if not wanted:
            shown = ", ".join(map(repr, counted)) or "no column that says so, like `split`"
            raise DataError(
                f"Expected a part of {self.path}. Received: {self.name!r}, where the table has "
                f"{shown}. Name one of its parts behind the `#`, or give the table alone."
            )
        return [row for row in every if row.part in wanted]

    def _require_undivided(self, counted: Counter[str]) -> None:
        names: dict[Part | None, str] = {}
        for name in counted:
            names.setdefault(part_of(name), name)
        called = {part: f"{self.path}#{name}" for part, name in names.items() if part}
        if len(called) < 2:
            return
        shown = ", ".join(f"{name} ({count})" for name, count in counted.most_common())
        found = f"Expected images of one part. Received: {self.path}, a table with rows of {shown}."
        if str(self.path) == STANDARD_INPUT:
            raise DataError(f"{found} Leave the rows of one of them.")
        training, validation, test = map(called.get, Part)
        raise DividedData(
            found,
            given=str(self.path),
            to_learn=training,
            to_validate=validation or test,
            to_test=test or validation,
            otherwise="To take all rows, give the table without that column.",
        )
