"""data: check."""

from pathlib import Path

import click

from tlcli.cli import console
from tlcli.cli.headings import Group, Heading, heading
from tlcli.cli.options import data_argument, json_option, option
from tlcli.config import SheetConfig


@click.group(cls=Group)
def data() -> None:
    """Look at a data folder before it is used."""


@data.command("check")
@data_argument
@heading(Heading.IMAGES)
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
    help="For the sheet: `none`, `light`, `standard`, `strong` as in training, or what training "
    "without labels does, `simclr`: crop, flip, colours, grey.",
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
        from tlcli.commands.contact_sheet import contact_sheet

        contact_sheet(SheetConfig(data, sheet, augment))

    with console.progress_bar(verbosity < 0) as progress:
        report = images.check(data, progress=lambda done, total: progress("images", done, total))
    console.result(report.to_json(), lambda _: reports.data_text(report), as_json)
