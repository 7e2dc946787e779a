"""A round that is ready → a committed round."""

import json
import logging
import shutil
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlcli import backbones, files, heads, memory, reports
from tlcli.evaluation import Validation
from tlcli.extractor import Extractor
from tlcli.heads import LinearHead
from tlcli.memory import Memory
from tlcli.rounds.intake import Intake
from tlcli.rounds.recall import listed
from tlcli.rounds.result import Clock, RoundResult, options_of
from tlcli.rounds.solution import Calibration, Solution
from tlcli.rounds.training import Summary
from tlcli.runs import Manifest, Writer
from tlcli.training import METRICS

log = logging.getLogger(__name__)

CURVES = "curves.png"

_LIBRARIES = ("tlcli", "keras", "tensorflow", "openvino", "numpy", "scipy", "pillow", "h5py")


@dataclass(frozen=True, eq=False)
class Draft:
    """A round that is ready to be written."""

    command: str
    strategy: str | None
    solution: Solution
    memory: Memory
    exact: bool
    config: Any
    intake: Intake
    validation: Validation | None
    calibration: Calibration
    choice: tuple[dict[str, Any], ...] = ()
    """What `--head auto` chose from, the best first."""
    training: Summary | None = None
    """How the backbone was trained, where it was."""


def publish(writer: Writer, draft: Draft, clock: Clock) -> RoundResult:
    """Write a round's files and commit it.

    Raises:
        StorageError: it cannot be saved; the run is as it was.
    """
    manifest = _manifest(writer, draft)
    result = RoundResult(
        run=writer.run.path,
        manifest=manifest,
        new_classes=tuple(
            entry.name
            for entry in draft.solution.registry
            if entry.introduced_in_round == manifest.round
        ),
        intake=draft.intake,
        validation=draft.validation,
        seconds=clock.seconds,
        calibration=draft.calibration,
        choice=draft.choice,
        training=draft.training.content if draft.training else None,
    )
    with clock.phase("save"), files.saving(writer.run.path), writer.staging() as staged:
        head, extractor = draft.solution.head, draft.solution.extractor
        heads.save(head, staged / "head.h5")
        memory.save(draft.memory, staged)
        if draft.config.keras_model and head.classes:
            write_model(extractor, head, staged / "model.keras")
        if draft.training is not None:
            _write_training(draft.training, staged)
        report = {key: value for key, value in result.to_json().items() if key != "seconds"}
        files.write_json(staged / "report.json", report)
        committed = writer.commit(staged, manifest)
    _remove_training(writer, draft)
    return replace(result, manifest=committed.manifest, seconds=clock.total())


def _remove_training(writer: Writer, draft: Draft) -> None:
    """No state of a training is of use once the round that it started from is not the last one."""
    if writer.run.training_folder.exists():
        if draft.training is None:
            log.warning(
                "the interrupted training in %s cannot go on from the new round: it is removed",
                writer.run.training_folder,
            )
        shutil.rmtree(writer.run.training_folder, ignore_errors=True)


def _write_training(summary: Summary, staged: Path) -> None:
    """The figures of each epoch, and their curves where matplotlib is installed."""
    with files.written(staged / METRICS) as stream:
        stream.write(summary.metrics)
    epochs = [json.loads(line) for line in summary.metrics.splitlines()]
    drawn = reports.curves(epochs, summary.content["validation_accuracy_before"])
    if drawn is not None:
        with files.written(staged / CURVES) as stream:
            stream.write(drawn)


def write_model(extractor: Extractor, head: LinearHead, path: Path) -> None:
    """Write backbone, projection and head as one Keras model."""
    plain = head.calibrated()
    projection = None
    if extractor.projection is not None:
        projection = extractor.projection.matrix(extractor.stored.width)
    backbones.write_classifier(
        extractor.stored, plain.weights, plain.bias, plain.classes, path, projection
    )


def versions() -> dict[str, str]:
    """Of the libraries that a round depends on."""
    return backbones.versions(_LIBRARIES)


def _is_exact(draft: Draft) -> bool:
    """Whether the round equals joint training, which one machine could have done."""
    kinds = draft.memory.arithmetic
    if draft.exact and len(kinds) > 1:
        log.warning(
            "this run holds features of %d kinds of arithmetic (%s): it is not, bit for bit, what "
            "training on all images in one place gives. Give the old images with --old-data to "
            "compute all of them here",
            len(kinds),
            listed(kinds),
        )
    return draft.exact and len(kinds) < 2


def _manifest(writer: Writer, draft: Draft) -> Manifest:
    number, extractor = writer.next_number, draft.solution.extractor
    return Manifest(
        round=number,
        parent=number - 1 if number > 1 else None,
        command=draft.command,
        strategy=draft.strategy,
        head=draft.solution.recipe.head,
        head_options=draft.solution.recipe.options(),
        backbone=extractor.stored.name,
        backbone_fingerprint=extractor.stored.fingerprint,
        projection=asdict(extractor.projection) if extractor.projection else None,
        classes=draft.solution.registry,
        memory=draft.memory.setting,
        memory_sha256=draft.memory.digest,
        arithmetic=tuple(sorted(draft.memory.arithmetic)),
        exact=_is_exact(draft),
        config=options_of(draft.config),
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
