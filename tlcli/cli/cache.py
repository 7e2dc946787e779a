"""The command line of `tlcli cache`: stats, clear."""

import click

from tlcli.cli import console
from tlcli.cli.headings import Group, Heading, heading
from tlcli.cli.options import json_option


@click.group(cls=Group)
def cache() -> None:
    """What is kept so that no image is computed twice; it can be deleted at any time.

    TLCLI_CACHE_DIR says where it is, TLCLI_CACHE_LIMIT how large it may get, like 500MB
    (20GB unless it is set); what was not used for longest goes first.
    """


@cache.command("stats")
@json_option
def cache_stats(as_json: bool) -> None:
    """Show what the cache holds, and when it was last used.

    \b
    Examples:
      tlcli cache stats
      tlcli cache stats --json
    """
    from tlcli import reports
    from tlcli.commands.cache import stats

    console.result(stats().to_json(), reports.cache_text, as_json)


@cache.command("clear")
@heading(Heading.OUTPUT)
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="DAYS",
    help="Delete only what was not used for so long.  [default: everything]",
)
@json_option
def clear_cache(older_than: float, as_json: bool) -> None:
    """Delete what the cache holds, and no file that it has not made.

    Commands that run meanwhile go on, and results stay what they are: features are computed again
    when they are needed.

    \b
    Examples:
      tlcli cache clear
      tlcli cache clear --older-than 30
    """
    from tlcli import reports
    from tlcli.commands.cache import clear

    console.result(clear(older_than).to_json(), reports.cleared_text, as_json)
