"""The command line of `tlcli rounds`: list, show, verify, rollback, prune."""

from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.headings import Group, Heading, heading
from tlcli.cli.options import NamedByFlag, config_of, json_option, option, run_argument, wait_option
from tlcli.config import PruneConfig, RollbackConfig
from tlcli.errors import RunError


@click.group(cls=Group)
def rounds() -> None:
    """The history of a run on disk."""


@rounds.command("list")
@run_argument
@json_option
def list_rounds(run: Any, as_json: bool) -> None:
    """List the rounds of a run.

    \b
    Examples:
      tlcli rounds list run
      tlcli rounds list run --json
    """
    from tlcli import reports, runs
    from tlcli.commands.rounds import round_summaries

    rows = round_summaries(runs.open_run(run))
    content = {"run": str(run), "rounds": rows}
    console.result(content, lambda _: reports.rounds_text(rows), as_json)


@rounds.command("show")
@run_argument
@heading(Heading.ROUNDS)
@click.option(
    "--round",
    "number",
    cls=NamedByFlag,
    type=click.IntRange(min=1),
    metavar="N",
    help="The round to show.  [default: the current one]",
)
@json_option
def show_round(run: Any, number: int | None, as_json: bool) -> None:
    """Show what a round is and how it came about.

    \b
    Examples:
      tlcli rounds show run
      tlcli rounds show run --round 1 --json
    """
    from tlcli import reports, runs
    from tlcli.commands.rounds import round_details

    content = round_details(runs.open_run(run), number)
    console.result(content, reports.details_text, as_json)


@rounds.command("verify")
@run_argument
@json_option
def verify_rounds(run: Any, as_json: bool) -> None:
    """Compare every file of a run with the hash it was saved with; exit 5 on damage.

    \b
    Examples:
      tlcli rounds verify run
      tlcli rounds verify run --json
    """
    from tlcli import reports
    from tlcli.commands.rounds import verify

    result = verify(run)
    console.result(result.to_json(), reports.verification_text, as_json)
    if result.damages:
        raise RunError(f"Expected an intact run. Received: {'; '.join(result.damages)}.")


@rounds.command("rollback")
@run_argument
@heading(Heading.ROUNDS)
@option(
    RollbackConfig,
    "--to",
    type=click.IntRange(min=1),
    metavar="N",
    help="The round to go back to.  [default: the one that the current round came from]",
)
@wait_option
@json_option
def rollback_round(as_json: bool, **options: Any) -> None:
    """Make a new round whose content is that of an earlier one.

    The rounds between stay on disk. Images that were learned only there can be learned again.

    \b
    Examples:
      tlcli rounds rollback run
      tlcli rounds rollback run --to 1 --json
    """
    from tlcli import reports
    from tlcli.commands.rounds import rollback

    result = rollback(config_of(RollbackConfig, options))
    console.result(result.to_json(), reports.rollback_text, as_json)


@rounds.command("prune")
@run_argument
@heading(Heading.ROUNDS)
@option(
    PruneConfig,
    "--keep",
    required=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="How many of the newest rounds stay.",
)
@wait_option
@json_option
def prune_rounds(as_json: bool, **options: Any) -> None:
    """Remove old rounds from disk, and the backbones that only they used.

    Every round is complete in itself: the rounds that stay work as before. `tlcli evaluate` can
    no longer measure those that went.

    \b
    Examples:
      tlcli rounds prune run --keep 10
      tlcli rounds prune run --keep 1 --json
    """
    from tlcli import reports
    from tlcli.commands.rounds import prune

    result = prune(config_of(PruneConfig, options))
    console.result(result.to_json(), reports.pruned_text, as_json)
