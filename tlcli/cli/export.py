"""The command line of `tlcli export`."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.datasets import VALIDATED, Images
from tlcli.cli.headings import Command, Heading, heading
from tlcli.cli.options import (
    config_of,
    json_option,
    option,
    run_argument,
    table_options,
)
from tlcli.cli.paths import Here
from tlcli.config import ExportConfig


@click.command(cls=Command)
@run_argument
@heading(Heading.MODEL)
@option(
    ExportConfig,
    "--format",
    metavar="NAME",
    help="`keras` (.keras), `savedmodel` (a folder), `litert` (.tflite), `onnx` (.onnx), or "
    "`openvino` (.xml and .bin).",
)
@heading(Heading.OUTPUT)
@click.option(
    "--out",
    required=True,
    type=Here(path_type=Path),
    metavar="PATH",
    help="Where to; an earlier export that is there is replaced.",
)
@heading(Heading.MODEL)
@click.option(
    "--int8",
    is_flag=True,
    help="Weights and activations in 8 bits: a third of the size (litert).",
)
@option(
    ExportConfig,
    "--calibrate",
    type=Images(VALIDATED),
    metavar="DATA",
    help="Images for --int8, up to 500 of a folder or table; with labels, the accuracy is "
    "reported.",
)
@table_options
@json_option
@click.pass_obj
def export(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """Write the current round as a model that runs without tlcli.

    Raw RGB images (float32, 0 to 255, at the model's size) go in, class probabilities come out;
    the class names are in the file. Before it gets its name, the file is run by its own runtime
    and compared with the run: exit code 4 when they differ. See docs/export.md.

    \b
    Examples:
      tlcli export run --out flowers.keras
      tlcli export run --format litert --int8 --calibrate photos --out flowers.tflite --json
    """
    from tlcli.commands.export import export as stage
    from tlcli.reports import export_text

    with console.progress_bar(verbosity < 0) as progress:
        exported = stage(config_of(ExportConfig, options), progress)
    console.result(exported.to_json(), export_text, as_json)
