"""The command line of `tlcli finetune`."""

from typing import Any

import click

from tlcli.cli.console import run_stage
from tlcli.cli.datasets import Images
from tlcli.cli.headings import Command, Heading, heading
from tlcli.cli.options import (
    config_of,
    data_argument,
    engine_option,
    finite,
    json_option,
    keras_model_option,
    max_bad_option,
    option,
    run_argument,
    table_options,
    test_option,
    training_options,
    wait_option,
    watch_options,
)
from tlcli.config import FinetuneConfig


@click.command(cls=Command)
@run_argument
@data_argument
@heading(Heading.TRAINING)
@option(
    FinetuneConfig,
    "--objective",
    metavar="NAME",
    help="`supervised`: images with labels teach the top of the backbone and the head. The "
    "others train a projection of the features. `triplet`: each image is nearer to those of its "
    "class than to others by a margin, learned from semi-hard triplets; `multi-similarity`: the "
    "same from all pairs of a batch, the harder the more; `proxy-anchor`: images are drawn to a "
    "learned vector of their class, and vectors push others away; `softmax-margin`: a softmax of "
    "the similarities with such vectors, that of the own class less a margin.",
)
@option(
    FinetuneConfig,
    "--into-backbone",
    is_flag=True,
    help="The projection becomes the end of the backbone, and heads and memory stand on it: all "
    "learned images are read once more. Without it, it is for descriptors alone (`tlcli index "
    "--descriptor learned`), and backbone, memory and head stay as they are.",
)
@option(
    FinetuneConfig,
    "--unfreeze",
    metavar="WHAT",
    help="Number of blocks from the output, `all`, or the beginning of a layer's name; `tlcli "
    "backbones --blocks NAME` lists them. With --into-backbone they learn together with a "
    "projection.  [default: 3; none where a projection is trained]",
)
@heading(Heading.IMAGES)
@option(
    FinetuneConfig,
    "--old-data",
    type=Images(),
    metavar="DATA",
    help="Images that were learned before and are not in DATA.",
)
@heading(Heading.MEMORY)
@option(
    FinetuneConfig,
    "--require-exact",
    is_flag=True,
    help="Refuse (exit 3) where learned images are missing, rather than carry over what the run "
    "remembers of them by an estimate.",
)
@heading(Heading.TRAINING)
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
    "--cached-views",
    type=click.IntRange(min=0),
    metavar="K",
    help="The frozen layers run on K random views of each image, which the epochs see in turn; 0: "
    "every epoch sees new views.",
)
@option(
    FinetuneConfig,
    "--cached-gb",
    type=click.FloatRange(min=0),
    callback=finite,
    metavar="GB",
    help="Most disk space for what the frozen layers gave of these views, while training runs.",
)
@option(
    FinetuneConfig,
    "--train-batch-norm",
    is_flag=True,
    help="Let BatchNormalization move in the layers that learn.",
)
@option(
    FinetuneConfig,
    "--distribute",
    metavar="DEVICES",
    help="What shares the steps. `none`: one device; `mirrored`: all GPUs of this machine; "
    "`multiworker`: the processes that TF_CONFIG names, one or more machines.",
)
@test_option
@max_bad_option
@table_options
@training_options
@watch_options
@engine_option
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
      tlcli finetune run photos --objective triplet --into-backbone
    """
    from tlcli.commands.finetune import finetune as stage

    run_stage(stage, config_of(FinetuneConfig, options), verbosity, as_json)
