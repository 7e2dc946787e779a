"""Datasets that come divided: what their parts are called."""

import enum
import functools
import re
from collections.abc import Container


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


def spaced(name: str) -> str:
    """With a space before each capital letter that follows a small one."""
    return _CAMEL.sub(" ", name)


@functools.lru_cache
def part_of(name: str) -> Part | None:
    """Which part is called so; None for none."""
    found = PART.search(spaced(name))
    return None if found is None else Part[str(found.lastgroup)]


def other_name(part: Part, taken: Container[str]) -> str:
    """A word for the part that is none of those taken, which are in lower case."""
    return next(word for word in _NAMES[part].split("|") if word not in taken)
