"""Options that several commands share; defaults come from the config dataclasses alone."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tlcli.config import DataOptions, HeadOptions, MemoryOptions, TrainingOptions

C = TypeVar("C")
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Share(click.ParamType[float]):
    """A share: 0.05 or 5%."""

    name = "share"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """A number from 0 to 1."""
        text = str(value).strip()
        try:
            share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            self.fail(f"{value!r} is not a share from 0 to 1, or 0% to 100%", param, ctx)
        return share


def finite(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """A callback that refuses nan and infinity."""
    if value is not None and not math.isfinite(value):
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


run_argument = click.argument("run", type=click.Path(path_type=Path))
data_argument = click.argument("data")
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object instead of text."
)
max_bad_option = option(
    DataOptions,
    "--max-bad",
    type=Share(),
    help="Share of unusable images above which the command stops, like 0.05 or 5%.",
)
wait_option = click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="How long to wait for another process that is writing to the run.",
)
keras_model_option = click.option(
    "--keras-model/--no-keras-model",
    default=True,
    show_default=True,
    help="Whether the round holds `model.keras`; `tlcli export` can write it later.",
)
test_option = click.option(
    "--test",
    metavar="DATA",
    help="Images set aside for the validation figures; they are not learned.",
)


def engine_option(config: type) -> Decorator:
    """What runs the backbone."""
    return option(
        config,
        "--engine",
        metavar="NAME",
        help="What runs the backbone: `keras`, `openvino`, or `auto` (Keras on a GPU, else "
        "OpenVINO).",
    )


def head_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What head is solved, and how."""
    for flag, metavar, text in (
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
            "Of the covariance: `auto` is D/(D + n), `oas`, or a number from 0 to 1 (lda).  "
            "[default: auto]",
        ),
        (
            "--head",
            "NAME",
            "Solved from moments: `lda`, `ridge`, `rp-ridge`, `ncm`, `ncm-cosine`; from images: "
            "`softmax`, `svm`; `auto` at `pretrain` takes the best in cross-validation.  "
            "[default: lda, or the run's]",
        ),
    ):
        command = option(HeadOptions, flag, metavar=metavar, help=text)(command)
    return command


def memory_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What the run remembers."""
    command = option(
        MemoryOptions,
        "--exemplars-per-class",
        type=click.IntRange(min=1),
        metavar="K",
        help="Images kept of each class with --memory exemplars.  [default: 20]",
    )(command)
    return option(
        MemoryOptions,
        "--memory",
        metavar="NAME",
        help="What the run keeps of its images: `none`, `moments`, `features` of every image, or "
        "`exemplars` (some images of each class).  [default: moments, or as before]",
    )(command)


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of gradient training."""
    positive = click.IntRange(min=1)
    above_zero = click.FloatRange(min=0, min_open=True)
    for flag, kind, text in (
        ("--seed", click.INT, "Seed of the order of images and of random weights."),
        ("--patience", positive, "Epochs without progress on held-out images before it ends."),
        ("--batch-size", positive, "Images a step."),
        ("--backbone-lr-factor", above_zero, "The backbone learns with this share of --lr."),
        ("--lr", above_zero, "Learning rate of the head."),
        ("--epochs", positive, "Most times every image is seen."),
    ):
        command = option(TrainingOptions, flag, type=kind, help=text)(command)
    return command
