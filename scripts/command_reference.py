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


def pages(command: click.Command, name: str) -> Iterator[str]:
    """Yield the help of a command and of all below it."""
    context = click.Context(command, info_name=name, **CONTEXT | {"terminal_width": 88})
    yield f"## {name}\n\n```text\n{command.get_help(context).rstrip()}\n```\n"
    if isinstance(command, click.Group):
        for child in sorted(command.commands):
            yield from pages(command.commands[child], f"{name} {child}")


def main() -> int:
    """Write or check; the exit code."""
    text = "\n".join((HEADER, *pages(cli, "tlcli")))
    if "--check" not in sys.argv:
        TARGET.write_text(text, "utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text("utf-8") == text:
        return 0
    print(f"{TARGET} is not what --help says; run python {sys.argv[0]}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
