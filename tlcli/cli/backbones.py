"""backbones."""

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
    from tlcli.backbones import BACKBONES, Random, blocks, build, weights_here

    if name is not None:
        found = blocks(build(name, None, Random()), name)
        content = {
            "backbone": name,
            "blocks": [{"name": block.name, "layers": list(block.layers)} for block in found],
        }
        console.result(content, reports.blocks_text, as_json)
        return

    rows = [
        {
            "name": name,
            "image_size": row.image_size,
            "smallest_image_size": row.smallest,
            "width": row.width,
            "parameters": row.parameters,
            "weights_here": weights_here(name),
        }
        for name, row in BACKBONES.items()
    ]
    console.result({"backbones": rows}, lambda _: reports.backbones_text(rows), as_json)
