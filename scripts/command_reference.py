"""Write docs/commands.md from the commands' own --help; with --check, fail when it differs."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from tlcli.cli.app import CONTEXT, cli

TARGET = Path(__file__).parent.parent / "docs" / "commands.md"
HEADER = """# Commands

Written by `python scripts/command_reference.py` from `tlcli COMMAND --help`.
"""


def pages() -> Iterator[str]:
    """Yield the help of the program, and under each heading of its list that of the commands."""
    yield page(cli, "## tlcli")
    for title, commands in cli.sections().items():
        yield f"## {title}\n"
        for command in commands:
            yield from pages_of(command, f"### tlcli {command.name}")


def pages_of(command: click.Command, title: str) -> Iterator[str]:
    """Yield the help of a command and of all below it."""
    yield page(command, title)
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from pages_of(child, f"{title} {name}")


def page(command: click.Command, title: str) -> str:
    """The help of one command."""
    name = title.lstrip("# ")
    context = click.Context(command, info_name=name, **CONTEXT | {"terminal_width": 88})
    return f"{title}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"


def main() -> int:
    """Write or check; the exit code."""
    text = "\n".join((HEADER, *pages()))
    if "--check" not in sys.argv:
        TARGET.write_text(text, "utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text("utf-8") == text:
        return 0
    print(f"{TARGET} is not what --help says; run python {sys.argv[0]}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
