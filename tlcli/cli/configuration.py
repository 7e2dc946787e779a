"""`--config FILE.toml`: a table per command, keys named like the flags."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tlcli import strict
from tlcli.cli.options import Names
from tlcli.errors import UsageError

_MOST_BYTES = 2**20

_CHOSEN = "tlcli.config"
"""Where the contexts of a call keep the file's path."""


def load_config(context: click.Context, parameter: click.Parameter, path: str | None) -> None:
    """Make the values of the file that was given last the defaults of the command's options.

    Raises:
        UsageError: not TOML, or a table or key that does not exist; the nearest is named.
    """
    if path is not None:
        context.meta[_CHOSEN] = path
    if _CHOSEN not in context.meta or isinstance(context.command, click.Group):
        return  # a group waits for what stands after the command
    defaults = _of_file(context.find_root().command, context.meta[_CHOSEN])
    for name in _names(context):
        defaults = defaults.get(name, {})
    context.default_map = defaults


def _names(context: click.Context) -> tuple[str, ...]:
    """The words that call a command, without the program's own."""
    if context.parent is None:
        return ()
    return (*_names(context.parent), str(context.info_name))


def _of_file(program: click.Command, path: str) -> dict[str, Any]:
    try:
        text = strict.content_of(Path(path), _MOST_BYTES, links=True).decode()
        content = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"Expected a TOML file. Received: {path} ({reason}). Correct it, or choose another."
        ) from error
    assert isinstance(program, click.Group)
    return _of_group(program, content, path)


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
        if isinstance(parameter, click.Option) and parameter.expose_value
        for flag in parameter.opts
        if flag.startswith("--")
    }
    chosen = {key: _known(key, options, f"{place} [{name}]: option") for key in table}
    return {
        str(option.name): _typed(option, table[key], f"{place} [{name}] {key}")
        for key, option in chosen.items()
    }


def _typed(option: click.Option, value: Any, place: str) -> bool | str | list[str]:
    """A value as it would be typed; true or false for a flag, a list where many can be given."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"Expected true or false. Received: {place} = {strict.shown(value)}.")
        return value
    if option.multiple:
        return [_word(one, place) for one in (value if isinstance(value, list) else [value])]
    if isinstance(option.type, Names) and isinstance(value, list):
        return ",".join(_word(one, place) for one in value)
    return _word(value, place)


def _word(value: Any, place: str) -> str:
    if type(value) not in (str, int, float) or "\0" in str(value):
        raise UsageError(
            f"Expected a text or a number. Received: {place} = {strict.shown(value)}. "
            "Write what you would type."
        )
    return str(value)


def _known(name: str, choices: Mapping[str, Any], place: str) -> Any:
    if name in choices:
        return choices[name]
    nearest = difflib.get_close_matches(name, choices, n=1, cutoff=0.0)
    raise UsageError(
        f"Expected one of {', '.join(sorted(choices))}. Received: {place} {name!r}. "
        f"The nearest is {nearest[0]!r}."
    )
