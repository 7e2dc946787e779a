"""The command line of `tlcli predict`."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.headings import Command, Heading, heading
from tlcli.cli.options import (
    Share,
    by_option,
    config_of,
    engine_option,
    flag_option,
    option,
    run_argument,
)
from tlcli.cli.paths import Here
from tlcli.config import PredictConfig
from tlcli.errors import NoImage, UsageError


@click.command(cls=Command)
@run_argument
@click.argument("paths", nargs=-1, required=True)
@heading(Heading.ROUNDS)
@click.option(
    "--round",
    type=click.IntRange(min=1),
    metavar="N",
    help="The round to ask.  [default: the current one]",
)
@heading(Heading.ANSWERS)
@option(
    PredictConfig,
    "--top",
    type=click.IntRange(min=1),
    metavar="K",
    help="How many classes an answer of --json lists.",
)
@option(
    PredictConfig,
    "--threshold",
    type=Share(),
    help="Answer `unknown` where the best class is less probable.",
)
@option(
    PredictConfig,
    "--unknown-at",
    type=Share(),
    metavar="RATE",
    help="Answer `unknown` where an image is further from every known class than all but this "
    "share of their images, as `tlcli triage` finds it.",
)
@by_option
@option(
    PredictConfig,
    "--copy-into",
    type=Here(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Copy each image into DIR/its class; no file is replaced.",
)
@engine_option
@flag_option(
    "--csv",
    "as_csv",
    "Print CSV with a header; ./ stands before a path that a spreadsheet would take for a formula.",
)
@flag_option("--json", "as_json", "Print one JSON object a line and image.")
@click.pass_obj
def predict(verbosity: int, /, as_csv: bool, as_json: bool, **options: Any) -> None:
    """Label images: files, folders, patterns, or - for paths on standard input.

    Prints a line an image as soon as it is known: label, probability, path, with tabs between.
    Probabilities are calibrated. A file that is no image is answered with its error; exit code 3
    when there was no image at all.

    \b
    Examples:
      tlcli predict run photo.jpg holiday/
      find inbox -name '*.jpg' | tlcli predict run - --json
      tlcli predict run inbox --threshold 0.8 --copy-into sorted
    """
    from tlcli.commands.predict import predict as stage
    from tlcli.reports import PREDICTION_LINES

    if as_csv and as_json:
        raise UsageError("Expected --csv or --json. Received: both. Leave one out.")
    header, line = PREDICTION_LINES["csv" if as_csv else "json" if as_json else "text"]
    answered = 0
    with console.progress_bar(verbosity < 0) as progress:
        answers = stage(config_of(PredictConfig, options), progress)
        for number, prediction in enumerate(answers):
            for text in header if number == 0 else ():
                console.put(text)
            answered += prediction.error is None
            console.put(line(prediction.to_json()))
    if not answered:
        raise NoImage(options["paths"])
