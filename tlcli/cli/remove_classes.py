"""The command line of `tlcli remove-classes`."""

from typing import Any

import click

from tlcli.cli.console import run_stage
from tlcli.cli.datasets import Images
from tlcli.cli.headings import Command, Heading, heading
from tlcli.cli.options import (
    config_of,
    engine_option,
    json_option,
    keras_model_option,
    option,
    run_argument,
    table_options,
    test_option,
    wait_option,
)
from tlcli.config import RemoveConfig


@click.command("remove-classes", cls=Command)
@run_argument
@click.argument("names", nargs=-1, metavar="[NAME]...")
@heading(Heading.IMAGES)
@option(
    RemoveConfig,
    "--images",
    "images_of",
    multiple=True,
    metavar="PATH",
    help="Forget these images, whatever their class: a file or a folder; may be given again.",
)
@option(
    RemoveConfig,
    "--data",
    type=Images(),
    metavar="DATA",
    help="The images of the classes, where neither the run nor the cache knows their features.",
)
@heading(Heading.MEMORY)
@click.option(
    "--approximate",
    is_flag=True,
    help="Estimate what images of unknown features added to the moments; `exact` becomes false.",
)
@test_option
@table_options
@engine_option
@keras_model_option
@wait_option
@json_option
@click.pass_obj
def remove_classes(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """Forget classes, or images, as if they had never been learned.

    The next round has the `memory_sha256` of a run that never saw them. Earlier rounds stay on
    disk as they are.

    \b
    Examples:
      tlcli remove-classes run "old product"
      tlcli remove-classes run --images complaints/photo-17.jpg
    """
    from tlcli.commands.remove_classes import remove_classes as stage

    if not options["names"] and not options["images_of"]:
        raise click.UsageError("Expected NAME or --images PATH. Received: neither.")
    run_stage(stage, config_of(RemoveConfig, options), verbosity, as_json)
