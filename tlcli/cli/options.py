"""Options that several commands share; defaults come from the config dataclasses alone."""

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tlcli.cli.datasets import DATA, TESTED, VALIDATED, Images
from tlcli.cli.headings import Decorator, Heading, heading
from tlcli.cli.paths import Here
from tlcli.config import (
    AUTO,
    Columns,
    DataOptions,
    DrawingOptions,
    HeadOptions,
    MemoryOptions,
    ReadingOptions,
    RunsOn,
    TrainingOptions,
    WatchOptions,
)

C = TypeVar("C")


class Names(click.ParamType[tuple[Any, ...]]):
    """Names with commas between; a config file may have a list of them."""

    name = "names"

    def __init__(self, kind: click.ParamType[Any] = click.STRING) -> None:
        self._kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """The names, at least one."""
        parts = value if isinstance(value, tuple) else str(value).split(",")
        names = tuple(str(part).strip() for part in parts)
        if not names or not all(names):
            self.fail(f"{value!r} is not a list like lda,ridge", param, ctx)
        return tuple(self._kind.convert(name, param, ctx) for name in names)


class Share(click.ParamType[float]):
    """A share: 0.05 or 5%."""

    name = "share"

    def __init__(self, most: float = 1.0) -> None:
        self._most = most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """A number from 0 to the largest share."""
        text = str(value).strip()
        try:
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            share = -1.0
        if not 0 <= share <= self._most:
            limits = f"from 0 to {self._most:g}, or 0% to {self._most:.0%}"
            self.fail(f"{value!r} is not a share {limits}", param, ctx)
        return share


def finite(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """A callback that refuses nan and infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a finite number", context, parameter)
    return value


def option(config: type, *flags: str, **attributes: Any) -> Decorator:
    """A click option whose default is the one of the config's field of the same name."""
    name = flags[-1].lstrip("-").replace("-", "_")
    default = {field.name: field.default for field in dataclasses.fields(config)}[name]
    if default is not dataclasses.MISSING and default is not None:
        attributes = {"default": default, "show_default": True} | attributes
    return click.option(*flags, **attributes)


def config_of(config: type[C], values: dict[str, Any]) -> C:
    """Build a config, and the option groups inside it, from a command's parameters."""
    arguments = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        if dataclasses.is_dataclass(field.default):
            arguments[field.name] = config_of(type(field.default), values)
        elif field.name in values:
            arguments[field.name] = values[field.name]
    return config(**arguments)


class NamedByFlag(click.Option):
    """An option whose environment variable is named after its flag, not after its parameter."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """The value that the environment gives."""
        name = self.opts[-1].lstrip("-").replace("-", "_").upper()
        found = super().resolve_envvar_value(ctx)
        return found or os.environ.get(f"{ctx.auto_envvar_prefix}_{name}") or None


def flag_option(flag: str, parameter: str, text: str) -> Decorator:
    """An option without a value."""
    return click.option(flag, parameter, is_flag=True, help=text, cls=NamedByFlag)


def table_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What the columns of tables are called."""
    for flag, text in (
        (
            "--group-column",
            "Column of the groups of images that belong together, as a scene or a patient: in "
            "tests and validation they stay together.  [default: group, where there is one]",
        ),
        ("--label-column", "Column of the labels.  [default: label, or another usual name]"),
        (
            "--path-column",
            "Column of the paths, in every table that is given.  [default: path, or another usual "
            "name]",
        ),
    ):
        command = option(Columns, flag, metavar="NAME", help=text)(command)
    return heading(Heading.IMAGES)(command)


def drawing_options(*, of_weights: bool) -> Decorator:
    """How images are drawn, where the run of `--weights` may say so too."""
    source = ", or that of --weights RUN" if of_weights else ""
    fit = option(
        DrawingOptions,
        "--fit",
        metavar="NAME",
        help="How an image that is no square becomes one, for the life of the run. `squash`: the "
        "whole image, its proportions lost; `pad`: the whole image in its proportions, with grey "
        f"bars; `crop`: the square in its middle.  [default: squash{source}]",
    )
    white_level = option(
        DrawingOptions,
        "--white-level",
        type=click.IntRange(min=1, max=65535),
        metavar="VALUE",
        help="The value of 16-bit grey that is white, in files that do not say so: 4095 for 12 "
        f"bits.  [default: 65535{source}]",
    )
    return lambda command: fit(white_level(command))


def reading_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What of a backbone's network becomes the feature vector."""
    command = option(
        ReadingOptions,
        "--views",
        type=click.IntRange(min=1, max=2),
        metavar="N",
        help="2: the mean over the image and its mirror image, which takes twice as long for every "
        "image; not where left and right differ, as in writing.  [default: 1, or that of --weights "
        "RUN]",
    )(command)
    return option(
        ReadingOptions,
        "--layers",
        metavar="NAME",
        help="Of which outputs of the network features are made, for the life of the run. `last`: "
        "the network's own output; `blocks`: and the means of the outputs of earlier blocks; "
        "`blocks+rms`: and their root mean squares too. More take as long to compute, and more "
        "memory. `auto`: the best in cross-validation.  [default: last, or that of --weights RUN]",
    )(command)


run_argument = click.argument("run", type=Here(path_type=Path))
data_argument = click.argument(DATA, type=Images())
test_argument = click.argument(DATA, type=Images(TESTED))
json_option = heading(
    Heading.OUTPUT, flag_option("--json", "as_json", "Print one JSON object instead of text.")
)
max_bad_option = heading(
    Heading.IMAGES,
    option(
        DataOptions,
        "--max-bad",
        type=Share(),
        help="Share of unusable images above which the command stops, like 0.05 or 5%.",
    ),
)
wait_option = heading(
    Heading.OUTPUT,
    click.option(
        "--wait",
        type=click.FloatRange(min=0),
        default=0.0,
        metavar="SECONDS",
        help="How long to wait for another process that is writing to the run, before exit code "
        "75.  [default: 0]",
    ),
)
keras_model_option = heading(
    Heading.OUTPUT,
    click.option(
        "--keras-model/--no-keras-model",
        default=True,
        show_default=True,
        help="Whether the round holds `model.keras`; `tlcli export` can write it later.",
    ),
)
test_option = heading(
    Heading.IMAGES,
    click.option(
        "--test",
        type=Images(VALIDATED),
        metavar="DATA",
        help="Images set aside for the validation figures; they are not learned.",
    ),
)


by_option = heading(
    Heading.ANSWERS,
    click.option(
        "--by",
        metavar="NAME",
        help="Answer from the images of `tlcli index`, and not from the head. `neighbours`: the "
        "ten most similar images vote; `means`: the class with the most similar mean.",
    ),
)
engine_option = heading(
    Heading.OUTPUT,
    option(
        RunsOn,
        "--engine",
        metavar="NAME",
        help="What runs the backbone: `keras`, `openvino`, or `auto` (Keras on a GPU, else "
        "OpenVINO).",
    ),
    option(
        RunsOn,
        "--cluster",
        metavar="ADDRESS",
        help="Compute features on a Dask cluster: the address of its scheduler, or `local:N` for "
        "N processes here. Images are read where the workers are.",
    ),
)


def head_options(default: str, auto: str = "") -> Decorator:
    """What head is solved, and how.

    Args:
        default: which without the option.
        auto: what `auto` does, where the command takes it.
    """
    return lambda command: _head_options(default, auto, command)


def _head_options(default: str, auto: str, command: Callable[..., Any]) -> Callable[..., Any]:
    for flag, metavar, text in (
        (
            "--c",
            "C",
            "What an error costs against the size of the weights (softmax, svm): a number; "
            "smaller ones overfit less; `auto`: the best in cross-validation.  [default: auto]",
        ),
        (
            "--class-weights",
            "NAME",
            "`none`, or `balanced`: every class weighs the same (softmax, svm).  [default: none]",
        ),
        (
            "--priors",
            "NAME",
            "`uniform`, or `frequency`: how often a class is to be expected (lda).  "
            "[default: uniform]",
        ),
        (
            "--shrinkage",
            "HOW",
            "How far the covariance is shrunk: `auto` is D/(D + n), `oas`, or a number from 0 to 1 "
            "(lda).  [default: auto]",
        ),
        (
            "--head",
            "NAME",
            "Solved from moments: `lda`, `ridge`, `rp-ridge`, `ncm`, `ncm-cosine`; from images: "
            f"`softmax`, `svm`{auto and f'; `auto`: {auto}'}.  [default: {default}]",
        ),
    ):
        command = option(HeadOptions, flag, metavar=metavar, help=text)(command)
    return heading(Heading.HEAD)(command)


def memory_options(default: str) -> Decorator:
    """What the run remembers; `default` says what without the option."""
    return lambda command: _memory_options(default, command)


def _memory_options(default: str, command: Callable[..., Any]) -> Callable[..., Any]:
    command = option(
        MemoryOptions,
        "--exemplars-per-class",
        type=click.IntRange(min=1),
        metavar="K",
        help="Images kept of each class with --memory exemplars.  [default: 20]",
    )(command)
    command = option(
        MemoryOptions,
        "--memory",
        metavar="NAME",
        help="What the run keeps of its images. `none`: nothing; `moments`: sums and products of "
        "features; `features`: moments and the features of every image; `exemplars`: moments and "
        f"some images of each class.  [default: {default}]",
    )(command)
    return heading(Heading.MEMORY)(command)


class LearningRate(click.ParamType[float | None]):
    """A positive number, or `auto`."""

    name = "learning rate"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        """The number; None where it is to be found."""
        if value == AUTO:
            return None
        try:
            rate = float(value)
        except ValueError:
            rate = 0.0
        if not 0 < rate < math.inf:
            self.fail(f"{value!r} is neither a positive number nor `auto`", param, ctx)
        return rate


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of gradient training."""
    positive = click.IntRange(min=1)
    above_zero = click.FloatRange(min=0, min_open=True)
    share = click.FloatRange(min=0, max=1, max_open=True)
    rows: tuple[tuple[str, Any, str | None, str], ...] = (
        ("--seed", click.IntRange(min=0), "N", "Seed of the order of images, of their random "
         "changes, and of random weights."),
        ("--patience", positive, "N", "End after so many epochs without progress on "
         "held-out images."),
        ("--batch-size", positive, "N", "Images a step.  [default: 32; 128 with --objective "
         "simclr; 4 of each of 16 classes where a projection is trained]"),
        ("--augment", click.STRING, "PRESET", "Random changes of training images. `none`: the "
         "images as they are; `light`: flip, small shifts; `standard`: flip, rotation, shift, "
         "zoom, brightness, contrast; `strong`: more of all that, colours, erased patches, MixUp "
         "and CutMix. `tlcli data check DATA --augment PRESET --sheet FILE.png` shows them."),
        ("--mixed-precision", click.Choice(["auto", "on", "off"]), None, "Compute in bfloat16 with "
         "float32 weights; `auto`: where a GPU gains from it."),
        ("--clip-norm", above_zero, "NORM", "Largest norm of all gradients together."),
        ("--label-smoothing", share, "SHARE", "Share of the label that goes to all classes alike."),
        ("--weight-decay", click.FloatRange(min=0), "DECAY", "Weight decay of AdamW."),
        ("--layer-decay", click.FloatRange(min=0, max=1, min_open=True), "FACTOR", "Each block "
         "learns with this share of the rate of the block above it."),
        ("--backbone-lr-factor", above_zero, "FACTOR", "The last block learns with this share of "
         "--lr."),
        ("--lr", LearningRate(), "RATE", "Learning rate of the head, or `auto`: found by a range "
         "test of 100 steps."),
        ("--epochs", positive, "N", "How many times every image is seen at most."),
    )  # fmt: skip
    for flag, kind, metavar, text in rows:
        command = option(
            TrainingOptions, flag, type=kind, metavar=metavar, callback=finite, help=text
        )(command)
    return heading(Heading.TRAINING)(command)


def watch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a training is continued and watched."""
    command = option(
        WatchOptions,
        "--tensorboard",
        type=Here(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Write the figures of every epoch for TensorBoard.",
    )(command)
    command = option(
        WatchOptions,
        "--resume",
        is_flag=True,
        help="Continue where this command was interrupted, bit for bit; --epochs may be raised.",
    )(command)
    return heading(Heading.TRAINING)(command)
