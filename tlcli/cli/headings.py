"""The pages of --help: options under headings, commands in the order of their use."""

import enum
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from tlcli.cli.datasets import ARGUMENTS, command_for, with_options
from tlcli.errors import DividedData, UnclearTable

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
Sections = Mapping[str, Sequence[tuple[str, str]]]
"""Rows of what is called how, and what it does, by heading."""

_WIDEST = 30
"""A longer name or option has a line of its own, as in Click."""


class Heading(enum.StrEnum):
    """What options are about, in the order of every page."""

    ROUNDS = "Rounds"
    STRATEGY = "Strategy"
    CANDIDATES = "Candidates"
    BACKBONE = "Backbone"
    HEAD = "Head"
    MEMORY = "Memory"
    TRAINING = "Training"
    IMAGES = "Images"
    GATES = "Gates"
    ANSWERS = "Answers"
    MODEL = "Model"
    OUTPUT = "Output and run"
    ALONE = "Without a command"
    EVERYWHERE = "Everywhere"


def heading(title: Heading, *options: Decorator) -> Decorator:
    """Options under a heading, which goes for those below too until the next heading."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        for parameter in getattr(command, "__click_params__", ()):
            vars(parameter).setdefault("heading", title)
        return command

    return decorate


def heading_of(parameter: click.Parameter) -> Heading | None:
    """The heading of an option; none of Click's own --help."""
    return getattr(parameter, "heading", None)


class Command(click.Command):
    """A command whose options stand under headings, and which knows how it was typed."""

    def parse_args(self, context: click.Context, words: list[str]) -> list[str]:
        """Read what stands behind the name of the command; what is left of it."""
        context.meta[ARGUMENTS] = list(words)
        return super().parse_args(context, words)

    def invoke(self, context: click.Context) -> Any:
        """Run the command; where DATA is not what it expects, say what to type instead."""
        try:
            return super().invoke(context)
        except DividedData as error:
            raise error.typed(command_for(error, context)) from error
        except UnclearTable as error:
            raise error.typed(with_options(error, context)) from error

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options."""
        _write(formatter, _options(self, context))


class Group(click.Group):
    """A group whose commands come first, in the order in which they were added."""

    command_class = Command

    def list_commands(self, context: click.Context) -> list[str]:
        """The names of the commands."""
        return list(self.commands)

    def sections(self) -> Mapping[str, Sequence[click.Command]]:
        """The commands by heading."""
        return {"Commands": list(self.commands.values())}

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, then the options."""
        commands = {
            title: [(str(child.name), child.get_short_help_str(sys.maxsize)) for child in children]
            for title, children in self.sections().items()
        }
        _write(formatter, commands | _options(self, context))


def _options(command: click.Command, context: click.Context) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {title: [] for title in Heading}
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option) and (row := parameter.get_help_record(context)):
            found[heading_of(parameter) or Heading.EVERYWHERE].append(row)
    return {title: rows for title, rows in found.items() if rows}


def _write(formatter: click.HelpFormatter, sections: Sections) -> None:
    """Write sections whose second columns stand in one line."""
    width = min(_WIDEST, max(len(first) for rows in sections.values() for first, _ in rows))
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl([(first.ljust(width), text) for first, text in rows], _WIDEST)
