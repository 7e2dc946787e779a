"""The command line of `tlcli adopt`."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli.console import run_stage
from tlcli.cli.datasets import Images
from tlcli.cli.headings import Command, Heading, heading
from tlcli.cli.options import (
    config_of,
    drawing_options,
    engine_option,
    json_option,
    keras_model_option,
    max_bad_option,
    memory_options,
    option,
    table_options,
    test_option,
    wait_option,
)
from tlcli.cli.paths import Here
from tlcli.config import AdoptConfig


@click.command(cls=Command)
@click.argument("model")
@heading(Heading.OUTPUT)
@click.option("--out", required=True, type=Here(path_type=Path), metavar="RUN", help="The new run.")
@heading(Heading.MODEL)
@option(
    AdoptConfig,
    "--classes",
    type=Here(path_type=Path),
    metavar="FILE",
    help="Names of the classes in the order of the columns: one a line, or Keras' class_indices as "
    ".json.  [default: those in the model, or the sorted folders of --data or --test]",
)
@option(
    AdoptConfig,
    "--scaling",
    metavar="NAME",
    help="What the model wants pixels to look like. `none`: 0 to 255 as they are; `0-1`: divided "
    "by 255; `-1-1`: divided by 127.5, less 1; `caffe`: BGR less the ImageNet mean; `torch`: 0 to "
    "1, less the ImageNet mean, by its deviation.  [default: the model scales them itself, or all "
    "are tried on --data or --test]",
)
@option(
    AdoptConfig,
    "--image-size",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Side of the images of a model that takes any.",
)
@drawing_options(of_weights=False)
@heading(Heading.BACKBONE)
@option(
    AdoptConfig,
    "--backbone",
    metavar="NAME",
    help="Of `imagenet`: a row of `tlcli backbones`.  [default: EfficientNetLite0]",
)
@option(
    AdoptConfig,
    "--weights",
    metavar="FILE",
    help="Of `imagenet`: weights with the top (.h5, .weights.h5, .keras).  [default: those "
    "of its package, or Keras' download]",
)
@heading(Heading.IMAGES)
@click.option(
    "--data",
    type=Images(),
    metavar="DATA",
    help="The images that the model was trained on, of every class: later rounds are then exact.",
)
@option(
    AdoptConfig,
    "--sample",
    metavar="DIR",
    help="In place of --data some unlabelled images of the usual kind, like 50: what they look "
    "like on average is remembered, and new classes are told from it.",
)
@test_option
@max_bad_option
@table_options
@memory_options("moments with --data, else none")
@engine_option
@keras_model_option
@wait_option
@json_option
@click.pass_obj
def adopt(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """Make a run of a classifier that exists: its own answers are round 1.

    MODEL is a whole Keras model (.keras, .h5, a folder of Keras 2) that ends in a Dense layer or a
    1×1 convolution with softmax, sigmoid or nothing behind it; or `imagenet`, a backbone with its
    own 1000 classes. The model is cut below that layer, whose columns become the head, and the
    answers of both are compared. `tlcli extend-classes` then adds classes, without the old images.

    \b
    Examples:
      tlcli adopt pets.keras --classes names.txt --out run
      tlcli adopt vgg.h5 --test photos --out run      (scalings of pixels are tried on photos)
      tlcli adopt pets.keras --data photos --out run  (later rounds equal joint training)
      tlcli adopt pets.keras --classes names.txt --sample photos-of-last-week --out run
      tlcli adopt imagenet --out run
    """
    from tlcli.commands.adopt import adopt as stage

    run_stage(stage, config_of(AdoptConfig, options), verbosity, as_json)
