"""The command line of `tlcli moments`."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.headings import Command, Heading, heading
from tlcli.cli.options import (
    config_of,
    data_argument,
    engine_option,
    json_option,
    max_bad_option,
    run_argument,
    table_options,
)
from tlcli.cli.paths import Here
from tlcli.config import MomentsConfig


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


@click.command(cls=Command)
@run_argument
@data_argument
@heading(Heading.OUTPUT)
@click.option(
    "--out",
    required=True,
    type=Here(path_type=Path),
    metavar="FILE",
    help="Where to; a file that is there is replaced.",
)
@heading(Heading.IMAGES)
@click.option(
    "--shard", type=Shard(), metavar="I/N", help="Only part I of N; a content hash decides."
)
@max_bad_option
@table_options
@engine_option
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
    from tlcli.commands.moments import collect
    from tlcli.reports import moments_text

    with console.progress_bar(verbosity < 0) as progress:
        result = collect(config_of(MomentsConfig, options), progress)
    console.result(result.to_json(), moments_text, as_json)
