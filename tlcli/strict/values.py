"""JSON values → what a format says: small readers, and readers made of them.

A reader is a function from a JSON value to what it stands for; it raises `Malformed` for what
cannot be meant. `record` makes one for a dataclass of one for each of its fields.
"""

import json
import math
import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

Reader = Callable[[Any], T]
"""Raises `Malformed`."""

LONGEST_NAME = 1000
"""Characters of a name."""

DEEPEST = 64
"""Lists and tables in one another."""

LARGEST = sys.float_info.max

_SHOWN = 60

_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories that no name has: controls, lone surrogates, line separators."""

_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Change the order in which a terminal shows what follows."""


class Malformed(ValueError):
    """A value that the format of a file does not allow; the message says where, and what it is."""


def is_printable(text: str) -> bool:
    """Whether a name may have all of these characters."""
    return not any(unicodedata.category(letter) in _UNPRINTABLE for letter in text)


def printable(text: str) -> str:
    """A text with escapes in place of what a terminal would obey; file names keep their bytes."""
    return "".join(map(_escaped, text)) if not text.isprintable() else text


def _escaped(character: str) -> str:
    if unicodedata.category(character) in ("Cc", "Zl", "Zp") or character in _OVERRIDES:
        return character.encode("unicode_escape").decode()
    return character


def shown(value: Any) -> str:
    """A value for a message: short, in one line, without what a terminal would obey."""
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value[:_SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}…"


def json_of(content: bytes) -> Any:
    """The value of JSON in UTF-8.

    Raises:
        Malformed: it is none, has a key twice, a number that is not finite, or is too deep.
    """
    try:
        value = json.loads(
            content.decode(), object_pairs_hook=_without_twins, parse_constant=_no_number
        )
    except RecursionError as error:
        raise Malformed("it is nested too deep") from error
    except ValueError as error:
        raise Malformed(f"it is no JSON: {error}") from error
    return anything(value)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise Malformed("it has a key twice")
    return table


def _no_number(text: str) -> Any:
    raise Malformed(f"{text} is no number")


def anything(value: Any, depth: int = DEEPEST) -> Any:
    """Any JSON value whose numbers are finite, and that is not too deep."""
    if isinstance(value, list | dict):
        if not depth:
            raise Malformed("it is nested too deep")
        parts: Iterable[Any] = [*value, *value.values()] if isinstance(value, dict) else value
        for part in parts:
            anything(part, depth - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise Malformed("a number is not finite")
    return value


def whole(least: int, most: int) -> Reader[int]:
    """A whole number from `least` to `most`."""

    def read(value: Any) -> int:
        if type(value) is not int or not least <= value <= most:
            raise Malformed(f"{shown(value)} is no whole number from {least} to {most}")
        return value

    return read


def number(least: float = -LARGEST, most: float = LARGEST) -> Reader[float]:
    """A finite number from `least` to `most`."""

    def read(value: Any) -> float:
        if type(value) not in (int, float) or not least <= value <= most:
            raise Malformed(f"{shown(value)} is no number from {least:g} to {most:g}")
        return float(value)

    return read


def truth(value: Any) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise Malformed(f"{shown(value)} is neither true nor false")
    return value


def text(pattern: str = "", longest: int = LONGEST_NAME) -> Reader[str]:
    """A printable text, of one form where a pattern is given; empty where that allows it."""
    form = re.compile(pattern) if pattern else None

    def read(value: Any) -> str:
        if not isinstance(value, str):
            raise Malformed(f"{shown(value)} is no text")
        if len(value) > longest:
            raise Malformed(f"{shown(value)} has {len(value)} characters, more than {longest}")
        if not is_printable(value):
            raise Malformed(f"{shown(value)} has characters that cannot be printed")
        if form and not form.fullmatch(value):
            raise Malformed(f"{shown(value)} is not of the form of such a text")
        return value

    return read


def any_text(value: Any) -> str:
    """A text of any characters, as of a path."""
    if not isinstance(value, str):
        raise Malformed(f"{shown(value)} is no text")
    return value


NAME = text(r".+")
"""Of a class, a head, a backbone: what people gave or choose."""

HEX_DIGEST = text(r"[0-9a-f]{64}")
"""A SHA-256."""


def optional(reader: Reader[T]) -> Reader[T | None]:
    """What the reader reads, or null."""
    return lambda value: None if value is None else reader(value)


def listing(reader: Reader[T], most: int = 10**6) -> Reader[tuple[T, ...]]:
    """A list of at most so many."""

    def read(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list | tuple) or len(value) > most:
            raise Malformed(f"{shown(value)} is no list of at most {most}")
        return tuple(_at(f"[{place}]", reader, entry) for place, entry in enumerate(value))

    return read


def mapping(key: Reader[K], reader: Reader[T], most: int = 10**4) -> Reader[dict[K, T]]:
    """A table of any keys of one form."""

    def read(value: Any) -> dict[K, T]:
        found = _as_table(value)
        if len(found) > most:
            raise Malformed(f"{shown(value)} is longer than {most}")
        return {key(name): _at(f"[{shown(name)}]", reader, entry) for name, entry in found.items()}

    return read


def table(**readers: Reader[Any]) -> Reader[dict[str, Any]]:
    """A table with these keys and no others."""
    return partial(_table_with, readers, readers.keys())


def at_least(**readers: Reader[Any]) -> Reader[dict[str, Any]]:
    """A table with these keys; others may have any value."""
    read = table(**readers)

    def read_all(value: Any) -> dict[str, Any]:
        found = _as_table(value)
        return found | read({name: found[name] for name in readers.keys() & found.keys()})

    return read_all


def record(make: Callable[..., T], **readers: Reader[Any]) -> Reader[T]:
    """A dataclass of a table with these keys; those with a default in it may be left out."""
    needed = {
        field.name
        for field in fields(make)  # type: ignore[arg-type]
        if field.default is MISSING and field.default_factory is MISSING
    }
    return lambda value: make(**_table_with(readers, needed, value))


def _table_with(
    readers: Mapping[str, Reader[Any]], needed: Collection[str], value: Any
) -> dict[str, Any]:
    found = _as_table(value)
    if missing := [name for name in readers if name in needed and name not in found]:
        raise Malformed(f"{missing[0]} is missing")
    if unknown := [name for name in found if name not in readers]:
        raise Malformed(f"{shown(unknown[0])} is unknown")
    return {name: _at(name, readers[name], entry) for name, entry in found.items()}


def unique(names: Sequence[Hashable], what: str) -> None:
    """Refuse names of which one stands there twice."""
    if len(set(names)) < len(names):
        raise Malformed(f"{what} has a name twice")


def _as_table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed(f"{shown(value)} is no table")
    return value


def _at(place: str, reader: Reader[T], value: Any) -> T:
    """What a reader reads, with the place in the message of what it refuses."""
    try:
        return reader(value)
    except Malformed as error:
        raise Malformed(f"{place}: {error}") from error
