"""The command line of `tlcli backbones`."""

import click

from tlcli.cli import console
from tlcli.cli.headings import Command, Heading, heading
from tlcli.cli.options import json_option


@click.command(cls=Command)
@heading(Heading.BACKBONE)
@click.option(
    "--blocks",
    "name",
    metavar="NAME",
    help="List the blocks of one backbone instead, from the input on: what `tlcli finetune "
    "--unfreeze` counts from the end.",
)
@json_option
def backbones(name: str | None, as_json: bool) -> None:
    """List the backbones that can be used, and where their weights are.

    \b
    Examples:
      tlcli backbones
      tlcli backbones --blocks MobileNetV2
    """
    from tlcli import reports
    from tlcli.commands.backbones import backbones as command
    from tlcli.commands.backbones import blocks_of

    if name is not None:
        console.result(blocks_of(name), reports.blocks_text, as_json)
    else:
        console.result(command(), reports.backbones_text, as_json)
