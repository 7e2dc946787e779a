"""The commands that show what is there."""

from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.options import data_argument, json_option, run_argument
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
@json_option
def backbones(as_json: bool) -> None:
    """List the backbones that can be used, and where their weights are.

    \b
    Examples:
      tlcli backbones
      tlcli backbones --json
    """
    from tlcli import reports
    from tlcli.backbones import BACKBONES, weights_here

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
@json_option
@click.pass_obj
def check_data(verbosity: int, /, data: str, as_json: bool) -> None:
    """Say what is in DATA and what is wrong with it.

    \b
    Examples:
      tlcli data check photos
      tlcli data check labels.csv --json
    """
    from tlcli import images, reports

    with console.progress_bar(verbosity < 0) as progress:
        report = images.check(data, progress=lambda done, total: progress("images", done, total))
    console.result(report.to_json(), lambda _: reports.data_text(report), as_json)
