"""The command line of `tlcli data`: check, divide."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.datasets import TESTED, Images
from tlcli.cli.headings import Group, Heading, heading
from tlcli.cli.options import (
    Share,
    config_of,
    data_argument,
    json_option,
    option,
    table_options,
)
from tlcli.cli.paths import Here
from tlcli.config import Columns, DivideConfig, SheetConfig


@click.group(cls=Group)
def data() -> None:
    """Look at a data folder before it is used."""


@data.command("check")
@data_argument
@heading(Heading.IMAGES)
@click.option(
    "--sheet",
    type=Here(path_type=Path, dir_okay=False),
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
@table_options
@json_option
@click.pass_obj
def check_data(
    verbosity: int, /, data: str, sheet: Path | None, augment: str, as_json: bool, **columns: Any
) -> None:
    """Say what is in DATA and what is wrong with it; exit code 3 where nothing can be used.

    \b
    Examples:
      tlcli data check photos
      tlcli data check photos --augment strong --sheet sheet.png
    """
    from tlcli import images, reports

    named = config_of(Columns, columns)
    if sheet is not None:
        from tlcli.commands.data.contact_sheet import contact_sheet

        contact_sheet(SheetConfig(data, sheet, augment, columns=named))

    with console.progress_bar(verbosity < 0) as progress:
        report = images.check(
            data,
            columns=named,
            progress=lambda done, total: progress("images", done, total),
        )
    console.result(report.to_json(), lambda _: reports.data_text(report), as_json)
    report.require_usable()


@data.command("divide")
@data_argument
@heading(Heading.IMAGES)
@click.option(
    "--run",
    type=Here(path_type=Path),
    metavar="RUN",
    help="What this run has learned is not new.",
)
@click.option(
    "--test",
    type=Images(TESTED),
    metavar="DATA",
    help="Test images: what they are is not to be learned, in any copy.",
)
@option(
    DivideConfig,
    "--hold-out",
    type=Share(most=0.5),
    metavar="SHARE",
    help="Of each class's new images, set apart for tests: 20% or 0.2, at least five images, at "
    "most half; 0 for none.",
)
@table_options
@heading(Heading.OUTPUT)
@click.option(
    "--out",
    type=Here(path_type=Path),
    metavar="DIR",
    help="Write the tables learn.csv and held-out.csv into a new folder.",
)
@click.option(
    "--move-into",
    type=Here(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Move what is not to be learned, with all copies, into DIR/held-out and DIR/tested; "
    "when it was interrupted, the same command goes on.",
)
@json_option
@click.pass_obj
def divide_data(verbosity: int, /, as_json: bool, **values: Any) -> None:
    """Say what of DATA is to be learned, and what is kept for tests.

    Their content decides: images that RUN has learned or --test holds are not new, and of the new
    ones some are held out. Nothing is written without --out, nothing is moved without --move-into.

    \b
    Examples:
      tlcli data divide photos --out parts
      tlcli data divide new-photos --run run --test test-photos --move-into aside
    """
    from tlcli import reports
    from tlcli.commands.data.divide import divide

    with console.progress_bar(verbosity < 0) as progress:
        division = divide(config_of(DivideConfig, values), progress)
    console.result(division.to_json(), reports.division_text, as_json)
