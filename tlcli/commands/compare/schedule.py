"""Which classes come in which round."""

import csv
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tlcli.config import CompareConfig
from tlcli.errors import UsageError
from tlcli.rounds.intake import named

Schedule = tuple[tuple[str, ...], ...]
"""The class names of each round, in sorted order within a round."""

MOST_LATER_ROUNDS = 5
"""After the first, where nothing was asked for."""

_GRAMMAR = re.compile(r"\d+(\+\d+)*(…|\.\.\.)?")


def schedule_of(classes: Sequence[str], config: CompareConfig) -> Schedule:
    """The rounds that the options ask for.

    Args:
        classes: every class, sorted.
        config: `rounds`, or `rounds_file`; neither means half of the classes in round 1, the
            others in up to five rounds of about equal size.

    Raises:
        UsageError: the options cannot be meant, do not name every class once, or leave fewer than
            two classes to round 1.
    """
    if config.rounds_file is not None:
        return _from_file(config.rounds_file, classes, config)
    sizes = _default(len(classes))
    if config.rounds is not None:
        sizes = sizes_of(config.rounds, len(classes))
    ordered = list(classes)
    if config.class_order is not None:
        # The stream of RandomState never changes (NEP 19).
        order = np.random.RandomState(config.class_order).permutation(len(ordered))
        ordered = [ordered[place] for place in order]
    ends = np.cumsum(sizes)
    division = [ordered[end - size : end] for end, size in zip(ends, sizes, strict=True)]
    return _checked(division)


def _default(count: int) -> list[int]:
    first = max(2, (count + 1) // 2)
    later = min(MOST_LATER_ROUNDS, count - first)
    return [first, *(len(part) for part in np.array_split(np.arange(count - first), later or 1))][
        : later + 1
    ]


def sizes_of(text: str, count: int) -> list[int]:
    """The number of classes of each round, from `5+1+1` or the open form `5+1…`.

    Args:
        text: numbers joined by +. With `…` or `...` behind it, the last number goes on until all
            classes are used; the last round may be smaller.
        count: how many classes there are.

    Raises:
        UsageError: it is not of this form, or the numbers do not add up to `count`.
    """
    if not _GRAMMAR.fullmatch(text.strip()):
        raise UsageError(
            f"Expected numbers of classes like 5+1+1 or 5+1... Received: rounds={text!r}. "
            "Correct --rounds, or leave it out."
        )
    sizes = [int(number) for number in re.findall(r"\d+", text)]
    if min(sizes) < 1:
        raise UsageError(
            f"Expected at least one class in every round. Received: rounds={text}. "
            "Correct --rounds, or leave it out."
        )
    if text.strip().endswith(("…", ".")):
        while (left := count - sum(sizes)) > 0:
            sizes.append(min(sizes[-1], left))
    if sum(sizes) != count:
        raise UsageError(
            f"Expected rounds of {count} classes together. Received: rounds={text}, which are "
            f"{sum(sizes)}. Correct --rounds, or leave it out."
        )
    return sizes


def _from_file(path: Path, classes: Sequence[str], config: CompareConfig) -> Schedule:
    for name in ("rounds", "class_order"):
        if getattr(config, name) is not None:
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"Expected the rounds once. Received: --rounds-file and {flag}. Leave one out."
            )
    rounds: dict[int, list[str]] = {}
    for name, number in _read(path).items():
        rounds.setdefault(number, []).append(name)
    given = {name for names in rounds.values() for name in names}
    for problem, names in (
        ("classes that are not in DATA", given - set(classes)),
        ("no round for", set(classes) - given),
    ):
        if names:
            raise UsageError(
                f"Expected a round for every class of DATA. Received: {path} with {problem}: "
                f"{named(names)}. Correct the file."
            )
    return _checked([rounds[number] for number in sorted(rounds)])


def _read(path: Path) -> dict[str, int]:
    """Class → the number of its round."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        found = [(_name(row["class"]), int(row["round"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise UsageError(
            f"Expected a CSV file with the columns class,round. Received: {path} ({error!r}). "
            "Write a line for each class, with the number of its round."
        ) from error
    result: dict[str, int] = {}
    for name, number in found:
        if result.setdefault(name, number) != number:
            raise UsageError(
                f"Expected one round for each class. Received: {name!r} in rounds {result[name]} "
                f"and {number} of {path}. Remove one of the lines."
            )
    return result


def _name(text: str) -> str:
    """As `images.scan` writes a class name."""
    return unicodedata.normalize("NFC", text).strip()


def _checked(division: Sequence[Sequence[str]]) -> Schedule:
    if len(division[0]) < 2:
        raise UsageError(
            f"Expected at least two classes in round 1. Received: {named(division[0])} alone. "
            "Put another class into round 1."
        )
    return tuple(tuple(sorted(names)) for names in division)
