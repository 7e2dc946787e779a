"""The commands that take classes away, and that bring what was learned elsewhere together."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.learning import run_stage
from tlcli.cli.options import (
    config_of,
    data_argument,
    engine_option,
    head_options,
    json_option,
    keras_model_option,
    max_bad_option,
    option,
    run_argument,
    test_option,
    wait_option,
)
from tlcli.config import MergeConfig, MomentsConfig, RemoveConfig


@click.command("remove-classes")
@run_argument
@click.argument("names", nargs=-1, metavar="[NAME]...")
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
    metavar="DATA",
    help="The images of the classes, where neither the run nor the cache knows their features.",
)
@click.option(
    "--approximate",
    is_flag=True,
    help="Estimate what images of unknown features added to the moments; `exact` becomes false.",
)
@test_option
@engine_option(RemoveConfig)
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
    from tlcli.stages.removing import remove_classes as stage

    if not options["names"] and not options["images_of"]:
        raise click.UsageError("Expected NAME or --images PATH. Received: neither.")
    run_stage(stage, config_of(RemoveConfig, options), verbosity, as_json)


@click.command()
@click.argument("run_a", type=click.Path(path_type=Path))
@click.argument("run_b", type=click.Path(path_type=Path))
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="RUN", help="The new run."
)
@head_options
@test_option
@engine_option(MergeConfig)
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
    from tlcli.stages.merging import merge as stage

    run_stage(stage, config_of(MergeConfig, options), verbosity, as_json)


class Shard(click.ParamType[tuple[int, int]]):
    """A part of several: 2/8."""

    name = "shard"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """The part's number, from 1, and how many there are."""
        number, _, count = str(value).partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            self.fail(f"{value!r} is not a part like 2/8", param, ctx)
        return int(number), int(count)


@click.command()
@run_argument
@data_argument
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where to; a file that is there is replaced.",
)
@click.option(
    "--shard", type=Shard(), metavar="I/N", help="Only part I of N; a content hash decides."
)
@max_bad_option
@engine_option(MomentsConfig)
@json_option
@click.pass_obj
def moments(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """Write what DATA would teach a run as one small file, so that images stay where they are.

    The run is only read. `tlcli extend-classes RUN --moments FILE` takes the file in, with the
    result that the images themselves would have given.

    \b
    Examples:
      tlcli moments run site-a-photos --out site-a.h5
      tlcli moments run photos --shard 2/8 --out part2.h5
    """
    from tlcli.reports import moments_text
    from tlcli.stages.collecting import collect

    with console.progress_bar(verbosity < 0) as progress:
        result = collect(config_of(MomentsConfig, options), progress)
    console.result(result.to_json(), moments_text, as_json)
