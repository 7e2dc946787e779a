"""The options that may stand before a command and after it; both mean the same."""

import click

from tlcli.cli import console
from tlcli.cli.configuration import load_config
from tlcli.cli.headings import Heading
from tlcli.cli.paths import Here

QUIET, NORMAL, VERBOSE = -1, 0, 1
"""The verbosity, which is the object of every context."""


class _Everywhere(click.Option):
    """An option of the whole call: one environment variable, and no place in config files."""

    heading = Heading.EVERYWHERE

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The value of `TLCLI_<OPTION>`; a command has no variable of its own for it."""
        return super().resolve_envvar_value(ctx) if ctx.parent is None else None


def _set_verbosity(context: click.Context, parameter: click.Parameter, given: bool) -> None:
    """Say less or more; -q goes before -v, wherever the two stand."""
    if given and context.obj != QUIET:
        context.obj = QUIET if parameter.name == "quiet" else VERBOSE
    console.set_up_logging(context.obj)


_OPTIONS = (
    _Everywhere(
        ["--config"],
        type=Here(dir_okay=False),
        metavar="FILE",
        callback=load_config,
        expose_value=False,
        is_eager=True,
        help="TOML file with a table per command; flags and environment go before it, and of "
        "several files the last counts.",
    ),
    _Everywhere(
        ["-v", "--verbose"],
        is_flag=True,
        callback=_set_verbosity,
        expose_value=False,
        help="Say more on standard error.",
    ),
    _Everywhere(
        ["-q", "--quiet"],
        is_flag=True,
        callback=_set_verbosity,
        expose_value=False,
        help="Say nothing but errors on standard error.",
    ),
)


def accept_everywhere(command: click.Command) -> None:
    """Give the options to a command and to all below it, after those of its own."""
    command.params.extend(_OPTIONS)
    if isinstance(command, click.Group):
        for child in command.commands.values():
            accept_everywhere(child)
