"""The commands that publish a round."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.options import (
    Share,
    config_of,
    data_argument,
    engine_option,
    finite,
    head_options,
    json_option,
    keras_model_option,
    max_bad_option,
    memory_options,
    option,
    run_argument,
    test_option,
    training_options,
    wait_option,
    watch_options,
)
from tlcli.config import ExtendConfig, FinetuneConfig, PretrainConfig, StrategyOptions


@click.command()
@data_argument
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), metavar="RUN", help="The new run."
)
@option(
    PretrainConfig,
    "--backbone",
    metavar="NAME",
    help="A row of `tlcli backbones`.  [default: EfficientNetLite0, or that of --weights RUN]",
)
@option(
    PretrainConfig,
    "--weights",
    metavar="SOURCE",
    help="`imagenet`, `none` (random, the whole network is trained), a file (.h5, .weights.h5, "
    ".keras), or another RUN.",
)
@option(
    PretrainConfig,
    "--image-size",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Images are drawn to this square.  [default: the backbone's own]",
)
@option(
    PretrainConfig,
    "--precision",
    metavar="NAME",
    help="`f32`, or `bf16`: nearly twice as fast on processors that have it, and slightly "
    "different features for the life of the run.  [default: f32, or that of --weights RUN]",
)
@head_options
@option(
    PretrainConfig,
    "--projection",
    type=click.IntRange(min=1),
    metavar="WIDTH",
    help="Random projection of the features to this width, for the life of the run.  [default: "
    "none; 2048 for rp-ridge]",
)
@memory_options
@test_option
@max_bad_option
@option(
    PretrainConfig,
    "--objective",
    metavar="NAME",
    help="`supervised`, or `simclr`: images without labels teach the backbone, and classes come "
    "later with `extend-classes`.",
)
@training_options
@watch_options
@engine_option(PretrainConfig)
@keras_model_option
@wait_option
@json_option
@click.pass_obj
def pretrain(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """Make a run: round 1, a classifier for the classes in DATA.

    Takes a pretrained backbone, cuts its top, computes the features of every image once, and
    solves a softmax head on them. With --weights none the whole network is trained instead, and
    with --objective simclr the whole network without labels, starting from --weights; the options
    from --epochs to --resume are for these two.

    \b
    Examples:
      tlcli pretrain photos --out run
      tlcli pretrain photos --out run --weights none --image-size 64 --epochs 30
      tlcli pretrain unlabelled --out run --objective simclr --weights none --image-size 64
      tlcli pretrain photos --out run --backbone MobileNetV2 --weights mobilenet_v2.weights.h5
    """
    from tlcli.stages.pretraining import pretrain as stage

    run_stage(stage, config_of(PretrainConfig, options), verbosity, as_json)


@click.command("extend-classes")
@run_argument
@click.argument("data", required=False)
@option(
    ExtendConfig,
    "--moments",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="A file of `tlcli moments`; more than one may be given.",
)
@option(
    StrategyOptions,
    "--strategy",
    metavar="NAME",
    help="`merge` and `joint` equal joint training; `freeze-old`: old logits keep their bits; "
    "`lwf`: distillation; `replay`: with kept images; `naive`: new images alone, forgets.  "
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
@head_options
@memory_options
@option(
    ExtendConfig,
    "--old-data",
    metavar="DATA",
    help="Images that were learned before, for a strategy or a memory that needs them.",
)
@option(
    ExtendConfig,
    "--max-regression",
    type=Share(),
    help="Publish nothing (exit 4) when the accuracy on old classes falls by more; needs --test "
    "or a run with --memory features.",
)
@test_option
@max_bad_option
@engine_option(ExtendConfig)
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
      tlcli extend-classes run new-photos --strategy freeze-old
    """
    from tlcli.stages.extending import extend_classes as stage

    if options["data"] is None and not options["moments"]:
        raise click.UsageError("Expected DATA or --moments FILE. Received: neither.")

    run_stage(stage, config_of(ExtendConfig, options), verbosity, as_json)


@click.command()
@run_argument
@data_argument
@option(
    FinetuneConfig,
    "--unfreeze",
    metavar="WHAT",
    help="Number of blocks from the output, `all`, or the beginning of a layer's name; `tlcli "
    "backbones --blocks NAME` lists them.",
)
@option(
    FinetuneConfig,
    "--old-data",
    metavar="DATA",
    help="Images that were learned before and are not in DATA.",
)
@option(
    FinetuneConfig,
    "--require-exact",
    is_flag=True,
    help="Refuse (exit 3) where learned images are missing, rather than carry over what the run "
    "remembers of them by an estimate.",
)
@option(
    FinetuneConfig,
    "--distillation-weight",
    type=click.FloatRange(min=0),
    callback=finite,
    metavar="λ",
    help="How much the old answers are held.  [default: share of the classes without images]",
)
@option(
    FinetuneConfig,
    "--train-batch-norm",
    is_flag=True,
    help="Let BatchNormalization move in the layers that learn.",
)
@test_option
@max_bad_option
@training_options
@watch_options
@engine_option(FinetuneConfig)
@keras_model_option
@wait_option
@json_option
@click.pass_obj
def finetune(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """Train the top of the backbone, then rebuild what depended on it.

    DATA is best all images learned so far. Where some are missing, exemplars and --old-data stand
    in; old answers are held by distillation, and what the run remembers of images that are gone is
    carried over by an estimate. The head learns with --lr, the backbone ten times slower, and
    BatchNormalization stays as it is. Stopped by a signal, the same command with --resume goes on.

    \b
    Examples:
      tlcli finetune run photos --unfreeze all --epochs 20
      tlcli finetune run photos --unfreeze 5 --lr auto --augment strong --resume
    """
    from tlcli.stages.finetuning import finetune as stage

    run_stage(stage, config_of(FinetuneConfig, options), verbosity, as_json)


def run_stage(stage: Any, config: Any, verbosity: int, as_json: bool) -> None:
    """Run a stage that publishes a round, and print its result."""
    from tlcli.reports import round_text

    with console.progress_bar(verbosity < 0) as progress:
        result = stage(config, progress)
    console.result(result.to_json(), round_text, as_json)
