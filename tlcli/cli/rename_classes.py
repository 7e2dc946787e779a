"""The command line of `tlcli rename-classes`."""

from typing import Any

import click

from tlcli.cli.console import run_stage
from tlcli.cli.headings import Command
from tlcli.cli.options import (
    config_of,
    engine_option,
    json_option,
    keras_model_option,
    run_argument,
    table_options,
    test_option,
    wait_option,
)
from tlcli.config import RenameConfig


@click.command("rename-classes", cls=Command)
@run_argument
@click.argument("renames", nargs=-1, required=True, metavar="OLD=NEW...")
@test_option
@table_options
@engine_option
@keras_model_option
@wait_option
@json_option
@click.pass_obj
def rename_classes(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """Give classes other names, or make one class of several.

    A class keeps its column, bit for bit. Classes that come to have one name are united, as if
    their images had always been of one class: exactly, from the moments, without an image.

    \b
    Examples:
      tlcli rename-classes run "IMG new"=bicycle
      tlcli rename-classes run tabby=cat siamese=cat
      tlcli rename-classes run left=right right=left
    """
    from tlcli.commands.rename_classes import pairs
    from tlcli.commands.rename_classes import rename_classes as stage

    options["renames"] = pairs(options["run"], options["renames"])
    run_stage(stage, config_of(RenameConfig, options), verbosity, as_json)
