"""The pages of --help: every option under a heading, every command in a group."""

import re
from collections.abc import Iterator

import click
import pytest

from tlcli.cli.app import CONTEXT, cli
from tlcli.cli.headings import Command, Heading, heading, heading_of

GROUPS = {
    "Train and extend": [
        "pretrain",
        "adopt",
        "extend-classes",
        "finetune",
        "remove-classes",
        "rename-classes",
        "merge",
        "moments",
    ],
    "Measure and use": ["evaluate", "compare", "predict", "triage", "index", "export"],
    "Look after": ["rounds", "backbones", "data", "cache", "doctor", "demo"],
}


def tree(command: click.Command, name: str = "tlcli") -> Iterator[tuple[str, click.Command]]:
    """Every command and group, by name."""
    yield name, command
    if isinstance(command, click.Group):
        for word, child in command.commands.items():
            yield from tree(child, f"{name} {word}")


ALL = dict(tree(cli))


def page_of(command: click.Command, width: int = 80) -> str:
    return command.get_help(click.Context(command, **CONTEXT | {"terminal_width": width}))


def headings_of(command: click.Command) -> list[str]:
    titles = re.findall(r"^(\S.*):$", page_of(command), re.M)
    return [title for title in titles if not title.startswith("Usage")]


def options_of(command: click.Command) -> list[click.Option]:
    return [entry for entry in command.params if isinstance(entry, click.Option)]


@pytest.mark.parametrize("name", ALL)
def test_every_option_stands_under_a_heading(name: str) -> None:
    assert not [entry.opts for entry in options_of(ALL[name]) if heading_of(entry) is None]


@pytest.mark.parametrize("name", ALL)
def test_a_page_shows_every_option_once_and_in_the_order_of_headings(name: str) -> None:
    command = ALL[name]
    order: list[str] = list(Heading)
    titles = [title for title in headings_of(command) if title in order]
    assert titles == sorted(titles, key=order.index)
    assert titles[-1] == Heading.EVERYWHERE
    options = page_of(command).partition(f"\n{titles[0]}:\n")[2]
    for option in options_of(command):
        flag = re.escape(option.opts[-1])
        assert len(re.findall(rf"^  (?:-\w, )?{flag}(?![\w-])", options, re.M)) == 1


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("pretrain", "Backbone · Head · Memory · Training · Images · Output and run"),
        ("extend-classes", "Strategy · Head · Memory · Images · Gates · Output and run"),
        ("evaluate", "Rounds · Images · Gates · Answers · Output and run"),
    ],
)
def test_the_headings_of_a_page(name: str, titles: str) -> None:
    assert headings_of(cli.commands[name]) == [*titles.split(" · "), "Everywhere"]


def test_a_heading_goes_for_all_below_it_until_the_next() -> None:
    @click.command(cls=Command)
    @click.option("--alone")
    @heading(Heading.HEAD)
    @click.option("--first")
    @heading(Heading.MEMORY, click.option("--second"), click.option("--third"))
    @click.option("--fourth")
    def command() -> None: ...

    assert {entry.opts[0]: heading_of(entry) for entry in options_of(command)} == {
        "--alone": None,
        "--first": Heading.HEAD,
        "--second": Heading.MEMORY,
        "--third": Heading.MEMORY,
        "--fourth": Heading.MEMORY,
    }


def test_every_command_is_in_a_group_and_listed_in_its_order() -> None:
    names = {title: [entry.name for entry in found] for title, found in cli.sections().items()}
    assert names == GROUPS
    assert list(cli.commands) == [name for group in GROUPS.values() for name in group]
    listed = re.findall(r"^(?:(\S.*):|  ([a-z][a-z-]+)  .*)$", page_of(cli), re.M)
    printed = [title or name for title, name in listed]
    assert printed[printed.index("Train and extend") :] == [
        *(line for title, group in GROUPS.items() for line in (title, *group)),
        "Without a command",
        "Everywhere",
    ]


@pytest.mark.parametrize("name", [name for name in ALL if isinstance(ALL[name], click.Group)])
@pytest.mark.parametrize("width", [40, 80, 100])
def test_no_description_of_a_command_is_cut_off(name: str, width: int) -> None:
    group = ALL[name]
    assert isinstance(group, click.Group)
    words = " ".join(page_of(group, width).split())
    for child in group.commands.values():
        sentence = str(child.help).partition("\n\n")[0]
        assert f" {child.name} {' '.join(sentence.split())} " in f"{words} "
