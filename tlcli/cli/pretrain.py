"""The command line of `tlcli pretrain`."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli.console import run_stage
from tlcli.cli.headings import Command, Heading, heading
from tlcli.cli.options import (
    config_of,
    data_argument,
    drawing_options,
    engine_option,
    head_options,
    json_option,
    keras_model_option,
    max_bad_option,
    memory_options,
    option,
    reading_options,
    table_options,
    test_option,
    training_options,
    wait_option,
    watch_options,
)
from tlcli.cli.paths import Here
from tlcli.config import WIDEST, PretrainConfig


@click.command(cls=Command)
@data_argument
@heading(Heading.OUTPUT)
@click.option("--out", required=True, type=Here(path_type=Path), metavar="RUN", help="The new run.")
@heading(Heading.BACKBONE)
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
@drawing_options(of_weights=True)
@reading_options
@head_options("lda", auto="the best in cross-validation")
@option(
    PretrainConfig,
    "--projection",
    type=click.IntRange(min=1, max=WIDEST),
    metavar="WIDTH",
    help="Random projection of the features to this width, for the life of the run.  [default: "
    "none; 2048 for rp-ridge]",
)
@memory_options("moments")
@test_option
@max_bad_option
@table_options
@heading(Heading.TRAINING)
@option(
    PretrainConfig,
    "--objective",
    metavar="NAME",
    help="`supervised`: images with labels; `simclr`: images without labels teach the backbone, "
    "and classes come later with `extend-classes`.",
)
@training_options
@watch_options
@engine_option
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
    from tlcli.commands.pretrain import pretrain as stage

    run_stage(stage, config_of(PretrainConfig, options), verbosity, as_json)
