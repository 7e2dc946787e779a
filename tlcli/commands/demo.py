"""demo: the whole story on scikit-learn's handwritten digits."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tlcli import files, runs
from tlcli.commands.evaluate import evaluate
from tlcli.commands.extend_classes import extend_classes
from tlcli.commands.pretrain import pretrain
from tlcli.config import (
    EvaluateConfig,
    ExtendConfig,
    PretrainConfig,
    Progress,
    StrategyOptions,
    no_progress,
)
from tlcli.errors import UsageError
from tlcli.evaluation import Report

IMAGE_SIZE = 96

ROUNDS = {"first-seven": range(7), "seven": [7], "eight": [8], "nine": [9]}

STRATEGIES = ("merge", "naive")


@dataclass(frozen=True)
class Step:
    """Accuracy on the test images after a round, under one strategy."""

    round: int
    strategy: str
    accuracy: float
    """On all digits known so far."""
    first_seven: float
    """On the digits of round 1."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo showed."""

    folder: str
    steps: tuple[Step, ...]
    equals_joint_training: bool
    """Whether the memory of the four rounds is that of one training on all ten digits."""

    def to_json(self) -> dict[str, Any]:
        """The object that `demo --json` prints."""
        return asdict(self)


def demo(folder: Path, progress: Progress = no_progress) -> DemoResult:
    """Learn seven digits, then 7, 8 and 9 in rounds of their own without the old images.

    Merge stands beside naive retraining, and at the end beside joint training. Everything is kept
    in `folder`; a second call finds it done.

    Raises:
        UsageError: the folder holds something else.
        StorageError: it cannot be written.
    """
    data = folder / "digits"
    _require_free(folder)
    with files.saving(folder):
        _draw(data)
    steps = [step for name in STRATEGIES for step in _story(folder, data, name, progress)]
    joint = pretrain(_first(data / "all", folder / "joint"), progress)
    merged = runs.open_run(folder / "merge").round()
    return DemoResult(
        str(folder),
        tuple(sorted(steps, key=lambda step: step.round)),
        joint.manifest.memory_sha256 == merged.manifest.memory_sha256,
    )


def _require_free(folder: Path) -> None:
    if folder.exists() and not (folder / "digits").is_dir() and any(folder.iterdir()):
        raise UsageError(
            f"Expected a new folder, or one of an earlier demo. Received: {folder} holds something "
            "else. Choose another --out."
        )


def _first(data: Path, out: Path) -> PretrainConfig:
    return PretrainConfig(data=str(data), out=out, image_size=IMAGE_SIZE)


def _story(folder: Path, data: Path, strategy: str, progress: Progress) -> Iterator[Step]:
    run = folder / strategy
    pretrain(_first(data / "first-seven", run), progress)
    for name in list(ROUNDS)[1:]:
        learning = StrategyOptions(strategy=strategy)
        extend_classes(ExtendConfig(run, str(data / name), learning=learning), progress)
    report = evaluate(EvaluateConfig(run, str(data / "test")), progress)
    yield from _steps(report, strategy)


def _steps(report: Report, strategy: str) -> Iterator[Step]:
    for entry in report.rounds:
        first = entry.accuracy_by_introduction[1]
        yield Step(entry.round, strategy, entry.accuracy or 0.0, first or 0.0)


def _draw(data: Path) -> None:
    """Draw the digits into class folders, once: two thirds to learn, a third to test."""
    if data.exists():
        return
    from sklearn.datasets import load_digits

    with files.saving(data):
        files.make_folders(data.parent)
    files.sweep(data)
    digits = load_digits()
    with files.staging(data) as staged:
        draft = staged / data.name
        for index, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
            _save(_enlarged(pixels), draft, index, int(digit))
        files.place_folder(draft, data)


def _save(image: Image.Image, data: Path, index: int, digit: int) -> None:
    """Write an image into each of its class folders."""
    for part in _parts(index, digit):
        path = data / part / str(digit) / f"{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)


def _parts(index: int, digit: int) -> list[str]:
    """The folders in which an image belongs."""
    if index % 3 == 0:
        return ["test"]
    return ["all", *(name for name, members in ROUNDS.items() if digit in members)]


def _enlarged(pixels: NDArray[np.float64]) -> Image.Image:
    """Dark ink on white, (8, 8) values 0 to 16 → IMAGE_SIZE square."""
    grey = Image.fromarray((255 - pixels * (255 / 16)).astype(np.uint8))
    return grey.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
