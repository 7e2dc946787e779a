"""The command line of `tlcli triage`."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.datasets import VALIDATED, Images
from tlcli.cli.headings import Command, Heading, heading
from tlcli.cli.options import (
    Share,
    config_of,
    engine_option,
    json_option,
    option,
    run_argument,
    table_options,
)
from tlcli.cli.paths import Here
from tlcli.config import TriageConfig


@click.command(cls=Command)
@run_argument
@click.argument("paths", nargs=-1, required=True)
@heading(Heading.IMAGES)
@click.option(
    "--known",
    type=Images(VALIDATED),
    metavar="DATA",
    help="Images of known classes to set the limit on.  [default: those that were learned, from "
    "the run or the cache]",
)
@table_options
@heading(Heading.ANSWERS)
@option(
    TriageConfig,
    "--false-alarms",
    type=Share(),
    metavar="RATE",
    help="Share of images of known classes that may be called novel.",
)
@option(
    TriageConfig,
    "--min-images",
    type=click.IntRange(min=1),
    metavar="N",
    help="Fewest images of a candidate; novel images in smaller groups are listed apart.",
)
@heading(Heading.OUTPUT)
@click.option(
    "--report",
    type=Here(path_type=Path),
    metavar="FILE.html",
    help="Write a page with the images of each candidate.",
)
@click.option(
    "--copy-into",
    type=Here(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Copy each candidate into a folder of DIR, to be renamed and given to `extend-classes`.",
)
@engine_option
@json_option
@click.pass_obj
def triage(verbosity: int, /, report: Path | None, as_json: bool, **options: Any) -> None:
    """Find images that fit no known class, grouped into candidates for new classes.

    Looks at files, folders, patterns, or - for paths on standard input, and learns nothing. An
    image is novel where its score, made of its angle to the means of the known classes and of its
    distances from them, exceeds a limit that at most --false-alarms of their images do.

    \b
    Examples:
      tlcli triage run inbox --report inbox.html
      tlcli triage run inbox --false-alarms 1% --copy-into new && mv new/candidate-01 new/otter
    """
    from tlcli import reports
    from tlcli.commands.triage import triage as stage

    if report is not None:
        reports.require_page(report)
    with console.progress_bar(verbosity < 0) as progress:
        content = stage(config_of(TriageConfig, options), progress).to_json()
    if report is not None:
        reports.write_triage(content, report)
    console.result(content, reports.triage_text, as_json)
