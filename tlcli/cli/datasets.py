"""What to type where DATA is a whole dataset, or a table with other columns."""

import shlex
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import click

from tlcli.errors import DividedData, UnclearTable
from tlcli.urls import place

DATA = "data"
"""The name of the argument."""

ARGUMENTS = "tlcli.arguments"
"""Where a context keeps what stands behind the name of the command."""

Serving = Callable[[DividedData], str | None]
"""Which part of a dataset is wanted."""

LEARNED: Serving = attrgetter("to_learn")
VALIDATED: Serving = attrgetter("to_validate")
TESTED: Serving = attrgetter("to_test")


class Images(click.ParamType[str]):
    """Images, and which part of a divided dataset they are best.

    `aside`: whether they are set aside to be tested on.
    """

    name = "text"

    def __init__(self, serving: Serving = LEARNED) -> None:
        """See the class."""
        self.serving = serving
        self.aside = serving is not LEARNED

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is."""
        return str(value)


def command_for(error: DividedData, context: click.Context) -> str | None:
    """The command that was typed, with parts in the place of the dataset; None without such parts.

    Images to test on are added where the command takes some and none were given.

    Args:
        error: names the dataset and its parts.
        context: of the command that was typed.
    """
    words = list(_replaced(error, context))
    typed = [word for word in words if word is not None]
    if len(typed) < len(words):
        return None
    given = {DATA, *(word.partition("=")[0] for word in typed)}
    for flag, kind in _taking(context).items():
        part, value = kind.serving(error), context.params.get(flag.lstrip("-"))
        # What stands in the environment or a file is typed here, where it names the dataset.
        missing = flag not in given and (value is None or _names(value, error.given))
        if kind.aside and part is not None and missing:
            typed += [flag, part]
    return shlex.join([*context.command_path.split(), *typed])


def with_options(error: UnclearTable, context: click.Context) -> str:
    """The command that was typed, with other columns of tables."""
    typed: list[str] = []
    for word in context.meta[ARGUMENTS]:
        flag, equals, _ = word.partition("=")
        if typed and typed[-1] in error.options:
            typed.pop()
        elif not (equals and flag in error.options):
            typed.append(word)
    added = (word for row in error.options.items() for word in row)
    return shlex.join([*context.command_path.split(), *typed, *added])


def _replaced(error: DividedData, context: click.Context) -> Iterator[str | None]:
    """The words behind the command, those that name the dataset replaced; None for no such part."""
    taking, before = _taking(context), ""
    others = _with_value(context) - taking.keys()
    for word in context.meta[ARGUMENTS]:
        flag, equals, value = word.partition("=")
        if not equals or flag not in taking:
            flag, equals, value = "", "", word
        kind = taking.get(flag or before) or (None if before in others else taking.get(DATA))
        if kind is None or not _names(value, error.given):
            yield word
        else:
            part = kind.serving(error)
            yield None if part is None else f"{flag}{equals}{part}"
        before = word


def _names(value: str, dataset: str) -> bool:
    return str(place(value)) == dataset


def _taking(context: click.Context) -> dict[str, Images]:
    """The flags of the parameters that take images; DATA has its name."""
    return {
        parameter.opts[-1]: parameter.type
        for parameter in context.command.params
        if isinstance(parameter.type, Images)
    }


def _with_value(context: click.Context) -> set[str]:
    """The flags that a value follows."""
    options = [entry for entry in context.command.params if isinstance(entry, click.Option)]
    return {flag for entry in options if not entry.is_flag for flag in entry.opts}
