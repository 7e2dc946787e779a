"""The command line of `tlcli extend-classes`."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli.console import run_stage
from tlcli.cli.datasets import Images
from tlcli.cli.headings import Command, Heading, heading
from tlcli.cli.options import (
    Share,
    config_of,
    engine_option,
    finite,
    head_options,
    json_option,
    keras_model_option,
    max_bad_option,
    memory_options,
    option,
    run_argument,
    table_options,
    test_option,
    wait_option,
)
from tlcli.cli.paths import Here
from tlcli.config import ExtendConfig, StrategyOptions


@click.command("extend-classes", cls=Command)
@run_argument
@click.argument("data", type=Images(), required=False)
@heading(Heading.IMAGES)
@option(
    ExtendConfig,
    "--moments",
    multiple=True,
    type=Here(path_type=Path, exists=True),
    metavar="FILE",
    help="A file of `tlcli moments`, or a folder of them; may be given again.",
)
@option(
    ExtendConfig,
    "--partial",
    is_flag=True,
    help="Learn shards although others of their DATA are not given.",
)
@heading(Heading.STRATEGY)
@option(
    StrategyOptions,
    "--strategy",
    metavar="NAME",
    help="`merge`: equals joint training, from moments alone; `joint`: joint training, from the "
    "features of all images; `freeze-old`: old logits keep their bits; `lwf`: distillation; "
    "`replay`: with kept images; `naive`: new images alone, forgets.  "
    "[default: merge; for a head without moments joint if it can be, else freeze-old]",
)
@option(
    StrategyOptions,
    "--distillation-weight",
    type=click.FloatRange(min=0),
    callback=finite,
    metavar="λ",
    help="Of lwf, against the loss on the new images.  [default: share of old classes]",
)
@option(
    StrategyOptions,
    "--distillation-temperature",
    type=click.FloatRange(min=0, min_open=True),
    callback=finite,
    metavar="T",
    help="Of lwf: by which logits are divided before they are compared.  [default: 2]",
)
@option(
    StrategyOptions,
    "--bias-correction",
    type=click.Choice(["none", "wa", "bic"]),
    help="Of replay: `wa` aligns the norms of new columns, `bic` fits a bias layer.  [default: wa]",
)
@head_options("the run's", auto="the best in cross-validation, where all features are at hand")
@memory_options("as before")
@heading(Heading.IMAGES)
@option(
    ExtendConfig,
    "--old-data",
    type=Images(),
    metavar="DATA",
    help="Images that were learned before, for a strategy or a memory that needs them.",
)
@option(
    ExtendConfig,
    "--sample",
    metavar="DIR",
    help="Some unlabelled images of the usual kind, like 50: freeze-old, lwf and replay learn from "
    "them what is old, and the round says how many of them it takes for new.",
)
@heading(Heading.GATES)
@option(
    ExtendConfig,
    "--max-regression",
    type=Share(),
    help="Publish nothing (exit 4) when the accuracy on old classes falls by more; needs --test "
    "or a run with --memory features.",
)
@test_option
@max_bad_option
@table_options
@engine_option
@keras_model_option
@wait_option
@json_option
@click.pass_obj
def extend_classes(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """Add new classes, or more images of known ones, without the old images.

    Images that were learned before are recognised by their content and left out: the same inbox
    twice is no new round. A class that is known gets more images.

    \b
    Examples:
      tlcli extend-classes run new-photos
      tlcli extend-classes run new-photos --test test-photos --max-regression 1%
      tlcli extend-classes run --moments site-a.h5 --moments site-b.h5
      tlcli extend-classes run new-photos --strategy freeze-old --sample photos-of-last-week
    """
    from tlcli.commands.extend_classes import extend_classes as stage

    if options["data"] is None and not options["moments"]:
        raise click.UsageError("Expected DATA or --moments FILE. Received: neither.")

    run_stage(stage, config_of(ExtendConfig, options), verbosity, as_json)
