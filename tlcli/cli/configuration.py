"""`--config FILE.toml`: a table per command, keys named like the flags."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tlcli.errors import UsageError


def load_config(context: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    """Make the file's values the defaults of the commands' options.

    Raises:
        UsageError: not TOML, or a table or key that does not exist; the nearest is named.
    """
    if path is None:
        return
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"Expected a TOML file. Received: {path} ({error}).") from error
    assert isinstance(context.command, click.Group)
    context.default_map = _of_group(context.command, content, str(path))


def _of_group(group: click.Group, content: Mapping[str, Any], place: str) -> dict[str, Any]:
    return {
        name: _of_command(_known(name, group.commands, f"{place}: command"), table, place, name)
        for name, table in content.items()
    }


def _of_command(command: click.Command, table: Any, place: str, name: str) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise UsageError(f"Expected a table [{name}] in {place}. Received: {name} = {table!r}.")
    if isinstance(command, click.Group):
        return _of_group(command, table, f"{place} [{name}]")
    options = {
        flag.lstrip("-"): parameter
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for flag in parameter.opts
        if flag.startswith("--")
    }
    chosen = {key: _known(key, options, f"{place} [{name}]: option") for key in table}
    return {
        str(option.name): [table[key]] if _is_one_of_many(option, table[key]) else table[key]
        for key, option in chosen.items()
    }


def _is_one_of_many(option: click.Option, value: Any) -> bool:
    """Whether an option that may be given several times is given once, without a list."""
    return option.multiple and not isinstance(value, list)


def _known(name: str, choices: Mapping[str, Any], place: str) -> Any:
    if name in choices:
        return choices[name]
    nearest = difflib.get_close_matches(name, choices, n=1, cutoff=0.0)
    raise UsageError(
        f"Expected one of {', '.join(sorted(choices))}. Received: {place} {name!r}. "
        f"The nearest is {nearest[0]!r}."
    )
