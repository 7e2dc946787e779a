"""The commands that show what is there."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.options import data_argument, json_option, option, run_argument
from tlcli.config import SheetConfig
from tlcli.errors import RunError


@click.group()
def rounds() -> None:
    """The history of a run on disk."""


@rounds.command("list")
@run_argument
@json_option
def list_rounds(run: Any, as_json: bool) -> None:
    """List the rounds of a run.

    \b
    Examples:
      tlcli rounds list run
      tlcli rounds list run --json
    """
    from tlcli import reports, runs

    rows = [reports.round_summary(entry) for entry in runs.open_run(run).rounds()]
    content = {"run": str(run), "rounds": rows}
    console.result(content, lambda _: reports.rounds_text(rows), as_json)


@rounds.command("show")
@run_argument
@click.option("--round", "number", type=click.IntRange(min=1), help="[default: the current one]")
@json_option
def show_round(run: Any, number: int | None, as_json: bool) -> None:
    """Show what a round is and how it came about.

    \b
    Examples:
      tlcli rounds show run
      tlcli rounds show run --round 1 --json
    """
    from tlcli import reports, runs

    chosen = runs.open_run(run).round(number)
    content = reports.round_details(chosen)
    console.result(content, reports.details_text, as_json)


@rounds.command("verify")
@run_argument
@json_option
def verify_rounds(run: Any, as_json: bool) -> None:
    """Compare every file of a run with the hash it was saved with; exit 5 on damage.

    \b
    Examples:
      tlcli rounds verify run
      tlcli rounds verify run --json
    """
    from tlcli import reports
    from tlcli.stages.verifying import verify

    result = verify(run)
    console.result(result.to_json(), reports.verification_text, as_json)
    if result.damages:
        raise RunError(f"Expected an intact run. Received: {'; '.join(result.damages)}.")


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
