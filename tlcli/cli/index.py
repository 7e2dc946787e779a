"""The command line of `tlcli index`: add, remove, search, duplicates, check, stats, optimize."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.headings import Group, Heading, heading
from tlcli.cli.options import (
    config_of,
    data_argument,
    engine_option,
    flag_option,
    json_option,
    max_bad_option,
    option,
    run_argument,
    table_options,
    wait_option,
)
from tlcli.cli.paths import Here
from tlcli.config import DuplicatesConfig, IndexAddConfig, IndexRemoveConfig, IndexSearchConfig
from tlcli.errors import GateFailed, NoImage, UsageError


@click.group(cls=Group)
def index() -> None:
    """Find images by what they look like; a class of one image is known at once.

    The index lies in the run's folder and holds a descriptor of each image that was added. No
    round is made, and nothing is trained.
    """


@index.command("add")
@run_argument
@data_argument
@heading(Heading.IMAGES)
@option(
    IndexAddConfig,
    "--descriptor",
    metavar="NAME",
    help="What describes an image, for an index that is still empty. `plain`: the features as "
    "they are; `whitened`: differences weighed by how rare they are within classes; `learned`: a "
    "projection that `tlcli finetune --objective` has trained.  [default: whitened where the run "
    "keeps moments]",
)
@max_bad_option
@table_options
@engine_option
@wait_option
@json_option
@click.pass_obj
def index_add(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """Add the images of DATA, each content once, with their classes.

    \b
    Examples:
      tlcli index add run covers
      tlcli index add run new-today --json
    """
    from tlcli.commands.index import add
    from tlcli.reports import index_changed_text

    with console.progress_bar(verbosity < 0) as progress:
        changed = add(config_of(IndexAddConfig, options), progress)
    console.result(changed.to_json(), index_changed_text, as_json)


@index.command("remove")
@run_argument
@click.argument("names", nargs=-1)
@heading(Heading.IMAGES)
@click.option(
    "--images",
    "images_of",
    type=Here(),
    multiple=True,
    metavar="PATH",
    help="A file, folder or pattern of images to remove, whatever their class; may be given again.",
)
@wait_option
@json_option
@click.pass_obj
def index_remove(verbosity: int, /, as_json: bool, names: tuple[str, ...], **options: Any) -> None:
    """Remove classes, or single images; they are not found any more.

    \b
    Examples:
      tlcli index remove run 'sold out'
      tlcli index remove run --images returned/
    """
    from tlcli.commands.index import remove
    from tlcli.reports import index_changed_text

    if not names and not options["images_of"]:
        raise UsageError("Expected classes or --images. Received: neither. Name what is to go.")
    with console.progress_bar(verbosity < 0) as progress:
        changed = remove(config_of(IndexRemoveConfig, {"names": names} | options), progress)
    console.result(changed.to_json(), index_changed_text, as_json)


@index.command("search")
@run_argument
@click.argument("paths", nargs=-1, required=True)
@heading(Heading.ANSWERS)
@click.option(
    "-k",
    "count",
    type=click.IntRange(min=1),
    default=IndexSearchConfig.count,
    show_default=True,
    metavar="K",
    help="How many images are named for each.",
)
@option(
    IndexSearchConfig,
    "--min-similarity",
    type=click.FloatRange(min=-1, max=1),
    metavar="SIMILARITY",
    help="Name no image that is less similar, from -1 to 1.",
)
@option(
    IndexSearchConfig,
    "--exact",
    is_flag=True,
    help="Compare with every image, even where there is an approximate index.",
)
@engine_option
@flag_option(
    "-0",
    "zeros",
    "Print nothing but the paths of the images that were found, each with a NUL behind it.",
)
@flag_option("--json", "as_json", "Print one JSON object a line and image.")
@click.pass_obj
def index_search(verbosity: int, /, as_json: bool, zeros: bool, **options: Any) -> None:
    """Find the images most like others: files, folders, patterns, or - for paths on standard input.

    Prints a line an image that was found: similarity, class, its path, the path it is like.

    \b
    Examples:
      tlcli index search run photo.jpg
      find inbox -name '*.jpg' | tlcli index search run - -k 1 --json
      tlcli index search run photo.jpg -0 | xargs -0 open
    """
    from tlcli.commands.index import search
    from tlcli.reports import FOUND_LINES

    if as_json and zeros:
        raise UsageError("Expected -0 or --json. Received: both. Leave one out.")
    lines = FOUND_LINES["zeros" if zeros else "json" if as_json else "text"]
    answered = 0
    with console.progress_bar(verbosity < 0) as progress:
        for found in search(config_of(IndexSearchConfig, options), progress):
            answered += found.error is None
            console.put(lines(found.to_json()), newline=False)
    if not answered:
        raise NoImage(options["paths"])


@index.command("duplicates")
@run_argument
@heading(Heading.ANSWERS)
@option(
    DuplicatesConfig,
    "--min-similarity",
    type=click.FloatRange(min=-1, max=1),
    metavar="SIMILARITY",
    help="Name pairs that are at least so similar, from -1 to 1.",
)
@flag_option("--json", "as_json", "Print one JSON object a line and pair.")
@click.pass_obj
def index_duplicates(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """List pairs of images that are nearly the same.

    \b
    Examples:
      tlcli index duplicates run
      tlcli index duplicates run --min-similarity 0.95 --json
    """
    from tlcli.commands.index import duplicates
    from tlcli.reports import PAIR_LINES

    with console.progress_bar(verbosity < 0) as progress:
        for pair in duplicates(config_of(DuplicatesConfig, options), progress):
            console.put(PAIR_LINES["json" if as_json else "text"](pair.to_json()), newline=False)


@index.command("check")
@run_argument
@json_option
@click.pass_obj
def index_check(verbosity: int, /, run: Path, as_json: bool) -> None:
    """Read every row, and measure how many true neighbours the approximate index finds.

    Exit code 4 where something is damaged, or fewer than 95 % of the ten nearest are found.

    \b
    Examples:
      tlcli index check run
      tlcli index check run --json
    """
    from tlcli.commands.index import check
    from tlcli.reports import index_checked_text

    with console.progress_bar(verbosity < 0) as progress:
        checked = check(run, progress)
    console.result(checked.to_json(), index_checked_text, as_json)
    if not checked.passed:
        raise GateFailed(
            "Expected an intact index that finds its images. Received: the above. "
            f"Run `tlcli index optimize {run}`."
        )


@index.command("stats")
@run_argument
@json_option
def index_stats(run: Path, as_json: bool) -> None:
    """Show what the index holds.

    \b
    Examples:
      tlcli index stats run
      tlcli index stats run --json
    """
    from tlcli.commands.index import stats
    from tlcli.reports import index_stats_text

    console.result(stats(run).to_json(), index_stats_text, as_json)


@index.command("optimize")
@run_argument
@wait_option
@json_option
@click.pass_obj
def index_optimize(verbosity: int, /, run: Path, wait: float, as_json: bool) -> None:
    """Drop the rows of removed images, and build the approximate index of a large one.

    `add` and `remove` do it by themselves where it pays; above 200,000 images faiss is used
    (`pip install 'tlcli[index]'`).

    \b
    Examples:
      tlcli index optimize run
      tlcli index optimize run --json
    """
    from tlcli.commands.index import optimize
    from tlcli.reports import index_changed_text

    with console.progress_bar(verbosity < 0) as progress:
        changed = optimize(run, wait, progress)
    console.result(changed.to_json(), index_changed_text, as_json)
