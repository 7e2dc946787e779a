"""The commands that show what is there."""

from pathlib import Path

import click

from tlcli.cli import console
from tlcli.cli.options import data_argument, json_option, option
from tlcli.config import SheetConfig


@click.command()
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
    from tlcli.backbones import BACKBONES, RANDOM, blocks, build, weights_here

    if name is not None:
        found = blocks(build(name, None, RANDOM), name)
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


@click.group()
def data() -> None:
    """Look at a data folder before it is used."""


@data.command("check")
@data_argument
@click.option(
    "--sheet",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="Write a contact sheet: images of DATA on the left, beside them what a network in "
    "training sees of them.",
)
@option(
    SheetConfig,
    "--augment",
    metavar="PRESET",
    help="For the sheet: `none`, `light`, `standard`, `strong`, or `simclr`.",
)
@json_option
@click.pass_obj
def check_data(
    verbosity: int, /, data: str, sheet: Path | None, augment: str, as_json: bool
) -> None:
    """Say what is in DATA and what is wrong with it.

    \b
    Examples:
      tlcli data check photos
      tlcli data check photos --augment strong --sheet sheet.png
    """
    from tlcli import images, reports

    if sheet is not None:
        from tlcli.stages.sheets import contact_sheet

        contact_sheet(SheetConfig(data, sheet, augment))

    with console.progress_bar(verbosity < 0) as progress:
        report = images.check(data, progress=lambda done, total: progress("images", done, total))
    console.result(report.to_json(), lambda _: reports.data_text(report), as_json)
