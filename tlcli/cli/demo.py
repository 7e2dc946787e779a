"""The command line of `tlcli demo`."""

from pathlib import Path

import click

from tlcli.cli import console
from tlcli.cli.headings import Command, Heading, heading
from tlcli.cli.options import json_option
from tlcli.cli.paths import Here


@click.command(cls=Command)
@heading(Heading.OUTPUT)
@click.option(
    "--out",
    type=Here(path_type=Path, file_okay=False),
    default="tlcli-demo",
    show_default=True,
    metavar="DIR",
    help="Where images and runs are kept.",
)
@json_option
@click.pass_obj
def demo(verbosity: int, /, out: Path, as_json: bool) -> None:
    """Show the whole story on embedded data: handwritten digits, two minutes, no download.

    Learns seven digits, then 7, 8 and 9 in rounds of their own without the old images, and shows
    the accuracy after each round for merge beside naive retraining, which forgets.

    \b
    Examples:
      tlcli demo
      tlcli demo --out /tmp/demo --json
    """
    from tlcli.commands.demo import demo as stage
    from tlcli.reports import demo_text

    with console.progress_bar(verbosity < 0) as progress:
        result = stage(out, progress)
    console.result(result.to_json(), demo_text, as_json)
