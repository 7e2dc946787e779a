"""The command line of `tlcli compare`."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.headings import Command, Heading, heading
from tlcli.cli.options import (
    Names,
    config_of,
    data_argument,
    engine_option,
    json_option,
    max_bad_option,
    option,
    table_options,
)
from tlcli.cli.paths import Here
from tlcli.config import CompareConfig


@click.command(cls=Command)
@data_argument
@heading(Heading.ROUNDS)
@option(
    CompareConfig,
    "--rounds",
    metavar="SIZES",
    help="Classes a round, like `5+1+1`; `5+1...` goes on with 1 until all are used.  [default: "
    "half of the classes, then up to five rounds]",
)
@option(
    CompareConfig,
    "--rounds-file",
    type=Here(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A CSV file with the columns class,round instead.",
)
@option(
    CompareConfig,
    "--class-order",
    type=click.IntRange(min=0, max=2**32 - 1),
    metavar="SEED",
    help="Shuffle the classes before they are cut into rounds.  [default: sorted]",
)
@heading(Heading.CANDIDATES)
@option(
    CompareConfig,
    "--strategies",
    type=Names(),
    metavar="NAMES",
    help="Among `merge`, `joint`, `freeze-old`, `lwf`, `replay`, `naive`.  [default: all]",
)
@option(
    CompareConfig,
    "--heads",
    type=Names(),
    metavar="NAMES",
    help="With merge `lda`, `ridge`, `rp-ridge`, `ncm`, `ncm-cosine`; with joint `softmax`, `svm`; "
    "with the others `softmax`.  [default: lda,ridge,ncm,softmax,svm]",
)
@option(
    CompareConfig,
    "--backbones",
    type=Names(),
    metavar="NAMES",
    help="Rows of `tlcli backbones`.  [default: EfficientNetLite0, or that of --weights RUN]",
)
@option(
    CompareConfig,
    "--weights",
    metavar="SOURCE",
    help="`imagenet`, a file (.h5, .weights.h5, .keras), or a RUN.",
)
@option(
    CompareConfig,
    "--image-size",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Images are drawn to this square.  [default: each backbone's own]",
)
@option(
    CompareConfig,
    "--layers",
    type=Names(),
    metavar="NAMES",
    help="Among `last`, `blocks`, `blocks+rms`, see `tlcli pretrain`: each is tried with every "
    "backbone.  [default: last, or that of --weights RUN]",
)
@option(
    CompareConfig,
    "--views",
    type=Names(click.IntRange(min=1, max=2)),
    metavar="NUMBERS",
    help="1, 2 or `1,2`: the image alone, or the mean over it and its mirror image, which takes "
    "twice as long.  [default: 1, or that of --weights RUN]",
)
@heading(Heading.IMAGES)
@option(
    CompareConfig,
    "--folds",
    type=click.IntRange(min=2),
    metavar="K",
    help="Parts of the images; each is tested once, after learning the others.",
)
@heading(Heading.CANDIDATES)
@option(
    CompareConfig,
    "--exemplars-per-class",
    type=click.IntRange(min=1),
    metavar="K",
    help="Old images of each class that replay may use.",
)
@heading(Heading.OUTPUT)
@option(
    CompareConfig,
    "--report",
    type=Here(path_type=Path),
    metavar="FILE",
    help="An HTML file with the table and plots; needs `pip install 'tlcli[report]'`.",
)
@max_bad_option
@table_options
@engine_option
@json_option
@click.pass_obj
def compare(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """Find out which way of adding classes is best on the images in DATA.

    Learns the classes in rounds, under several strategies and heads, and tests each by
    cross-validation. Prints one table; nothing is written but the report.

    \b
    Examples:
      tlcli compare photos
      tlcli compare photos --rounds 40+10+1 --report comparison.html
      tlcli compare photos --strategies merge,freeze-old --backbones EfficientNetLite0,MobileNetV2
      tlcli compare photos --heads lda,ridge --layers last,blocks,blocks+rms --views 1,2
    """
    from tlcli.commands.compare import compare as stage
    from tlcli.reports import comparison_text

    with console.progress_bar(verbosity < 0) as progress:
        result = stage(config_of(CompareConfig, options), progress)
    console.result(result.to_json(), comparison_text, as_json)
