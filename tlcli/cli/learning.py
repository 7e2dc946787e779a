"""The commands that publish a round."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.options import (
    config_of,
    data_argument,
    engine_option,
    json_option,
    keras_model_option,
    max_bad_option,
    option,
    run_argument,
    test_option,
    training_options,
    wait_option,
)
from tlcli.config import ExtendConfig, FinetuneConfig, PretrainConfig


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
@option(PretrainConfig, "--head", metavar="NAME", help="`lda` or `softmax`.")
@test_option
@max_bad_option
@training_options
@engine_option(PretrainConfig)
@keras_model_option
@wait_option
@json_option
@click.pass_obj
def pretrain(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """Make a run: round 1, a classifier for the classes in DATA.

    Takes a pretrained backbone, cuts its top, computes the features of every image once, and
    solves a softmax head on them. With --weights none the whole network is trained instead, with
    the options of gradient training.

    \b
    Examples:
      tlcli pretrain photos --out run
      tlcli pretrain photos --out run --backbone MobileNetV2 --weights mobilenet_v2.weights.h5
    """
    from tlcli.stages.pretraining import pretrain as stage

    _run_stage(stage, config_of(PretrainConfig, options), verbosity, as_json)


@click.command("extend-classes")
@run_argument
@data_argument
@option(
    ExtendConfig,
    "--strategy",
    metavar="NAME",
    help="`merge` (equals joint training), `freeze-old` (old logits keep their bits), or `naive` "
    "(new images alone; forgets).  [default: merge, or freeze-old for a head without moments]",
)
@option(ExtendConfig, "--head", metavar="NAME", help="`lda` or `softmax`.  [default: the run's]")
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
    twice is no new round.

    \b
    Examples:
      tlcli extend-classes run new-photos
      tlcli extend-classes run new-photos --strategy freeze-old --test test-photos
    """
    from tlcli.stages.extending import extend_classes as stage

    _run_stage(stage, config_of(ExtendConfig, options), verbosity, as_json)


@click.command()
@run_argument
@data_argument
@option(
    FinetuneConfig,
    "--unfreeze",
    metavar="WHAT",
    help="Number of blocks from the output, `all`, or the beginning of a layer's name.",
)
@test_option
@max_bad_option
@training_options
@engine_option(FinetuneConfig)
@keras_model_option
@wait_option
@json_option
@click.pass_obj
def finetune(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """Train the top of the backbone on DATA, which holds images of every class.

    The head learns with --lr, the backbone ten times slower. BatchNormalization keeps its
    statistics. Features, moments and head are rebuilt from DATA afterwards.

    \b
    Examples:
      tlcli finetune run photos
      tlcli finetune run photos --unfreeze 5 --epochs 20 --lr 0.0005
    """
    from tlcli.stages.finetuning import finetune as stage

    _run_stage(stage, config_of(FinetuneConfig, options), verbosity, as_json)


def _run_stage(stage: Any, config: Any, verbosity: int, as_json: bool) -> None:
    from tlcli.reports import round_text

    with console.progress_bar(verbosity < 0) as progress:
        result = stage(config, progress)
    console.result(result.to_json(), round_text, as_json)
