"""The command line of `tlcli merge`."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli.console import run_stage
from tlcli.cli.headings import Command, Heading, heading
from tlcli.cli.options import (
    config_of,
    engine_option,
    head_options,
    json_option,
    keras_model_option,
    table_options,
    test_option,
    wait_option,
)
from tlcli.cli.paths import Here
from tlcli.config import MergeConfig


@click.command(cls=Command)
@click.argument("run_a", type=Here(path_type=Path))
@click.argument("run_b", type=Here(path_type=Path))
@heading(Heading.OUTPUT)
@click.option("--out", required=True, type=Here(path_type=Path), metavar="RUN", help="The new run.")
@head_options("that of RUN_A")
@test_option
@table_options
@engine_option
@keras_model_option
@wait_option
@json_option
@click.pass_obj
def merge(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """Make one run of two on the same backbone: two sites, two days, two machines.

    Classes of one name are one class. The result is that of one run on all images.

    \b
    Examples:
      tlcli merge run-a run-b --out both
      tlcli merge monday tuesday --out week --head ridge
    """
    from tlcli.commands.merge import merge as stage

    run_stage(stage, config_of(MergeConfig, options), verbosity, as_json)
