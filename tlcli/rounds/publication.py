"""A round that is ready → a committed round."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlcli import backbones, files, heads, memory, reports
from tlcli.extractor import Extractor
from tlcli.features import Differences
from tlcli.heads import LinearHead
from tlcli.manifest import Manifest
from tlcli.memory import Memory
from tlcli.rounds.intake import Intake
from tlcli.rounds.result import REPORT, Phases, RoundResult, options_of
from tlcli.rounds.solution import Examined
from tlcli.rounds.training import Summary
from tlcli.rounds.usual_images import Usual
from tlcli.runs import Round, Writer
from tlcli.training import METRICS

log = logging.getLogger(__name__)

CURVES = "curves.png"

KERAS_MODEL = "model.keras"

_LIBRARIES = ("tlcli", "keras", "tensorflow", "openvino", "numpy", "scipy", "pillow", "h5py")


@dataclass(frozen=True, eq=False)
class Draft:
    """A round that is ready to be written."""

    command: str
    strategy: str | None
    examined: Examined
    memory: Memory
    anew: bool
    """Whether the head was solved anew from all images that the run knows."""
    config: Any
    """What the command was told, which the round records."""
    intake: Intake
    choice: tuple[dict[str, Any], ...] = ()
    """What `--head auto` chose from, the best first."""
    readings: tuple[dict[str, Any], ...] = ()
    """What `--layers auto` chose from, the best first."""
    training: Summary | None = None
    """How the backbone was trained, where it was."""
    adoption: dict[str, Any] | None = None
    """What was adopted, where the round began so."""
    usual: Usual | None = None
    """What is known of old images, where old columns were not solved anew."""

    @property
    def exact(self) -> bool:
        """Whether the round equals joint training, which one machine could have done."""
        return self.anew and self.memory.as_jointly


def publish(writer: Writer, draft: Draft, phases: Phases) -> RoundResult:
    """Write a round's files and commit it.

    Raises:
        StorageError: it cannot be saved; the run is as it was.
    """
    _warn_of_mixture(draft)
    _warn_of_few_images(draft)
    manifest, solution = _manifest(writer, draft), draft.examined.solution
    result = RoundResult(
        run=writer.run.path,
        manifest=manifest,
        new_classes=tuple(
            entry.name for entry in solution.registry if entry.introduced_in_round == manifest.round
        ),
        intake=draft.intake,
        validation=draft.examined.validation,
        seconds=phases.seconds,
        calibration=draft.examined.calibration,
        choice=draft.choice,
        readings=draft.readings,
        training=draft.training.content if draft.training else None,
        adoption=draft.adoption,
        usual=draft.usual.to_json() if draft.usual else None,
    )
    with phases.phase("save"):
        committed = commit(writer, manifest, result.to_json(), lambda staged: _write(draft, staged))
    return replace(result, manifest=committed.manifest, seconds=phases.total())


def commit(
    writer: Writer, manifest: Manifest, report: dict[str, Any], write: Callable[[Path], None]
) -> Round:
    """Publish a round: its files, its report, its manifest.

    Args:
        writer: holds the run.
        manifest: of the round, without its files.
        report: what the command answers; how long it took is left out.
        write: puts the files into an empty folder.

    Raises:
        StorageError: it cannot be saved; the run is as it was.
    """
    with files.saving(writer.run.path), writer.staging() as staged:
        write(staged)
        kept = {key: value for key, value in report.items() if key != "seconds"}
        files.write_json(staged / REPORT, kept)
        committed = writer.commit(staged, manifest)
    _remove_training(writer, committed)
    return committed


def _write(draft: Draft, staged: Path) -> None:
    solution = draft.examined.solution
    heads.save(solution.head, staged / "head.h5")
    memory.save(draft.memory, staged)
    if draft.config.keras_model and solution.head.classes:
        write_model(solution.extractor, solution.head, staged / KERAS_MODEL)
    if draft.training is not None:
        _write_training(draft.training, staged)


def _remove_training(writer: Writer, committed: Round) -> None:
    """No state of a training is of use once the round that it started from is not the last one."""
    folder = writer.run.training_folder
    if not folder.exists():
        return
    if METRICS not in committed.manifest.files:
        log.warning(
            "the interrupted training in %s cannot go on from the new round: it is removed", folder
        )
    shutil.rmtree(folder, ignore_errors=True)


def _write_training(summary: Summary, staged: Path) -> None:
    """The figures of each epoch, and their curves where matplotlib is installed."""
    with files.written(staged / METRICS) as stream:
        stream.write(summary.metrics)
    if summary.curves_from is None:
        return
    epochs = [json.loads(line) for line in summary.metrics.splitlines()]
    drawn = reports.curves(epochs, summary.curves_from)
    if drawn is not None:
        with files.written(staged / CURVES) as stream:
            stream.write(drawn)


def write_model(extractor: Extractor, head: LinearHead, path: Path) -> None:
    """Write backbone, projection and head as one Keras model."""
    plain = head.calibrated().summable()
    projection = None
    if extractor.projection is not None:
        projection = extractor.projection.matrix(extractor.stored.width)
    backbones.write_classifier(
        extractor.stored,
        plain.weights,
        plain.bias,
        plain.classes,
        path,
        projection,
        extractor.square.to_json(),
    )


def versions() -> dict[str, str]:
    """Of the libraries that a round depends on."""
    return backbones.versions(_LIBRARIES)


def _warn_of_mixture(draft: Draft) -> None:
    if draft.anew and draft.memory.exact and not draft.exact:
        log.warning(
            "this run holds features of %s: it is not, bit for bit, what "
            "training on all images in one place gives. Give all images to `tlcli extend-classes`, "
            "as DATA and --old-data, to compute them here%s",
            Differences.of(draft.memory.kinds).counted,
            "" if draft.memory.kept is None else ", after --memory moments: kept features stay",
        )


def _warn_of_few_images(draft: Draft) -> None:
    """Say which head fits so few images better than the one that was solved."""
    head, classes = draft.examined.solution.recipe.head, draft.examined.solution.head.classes
    images, enough = len(draft.memory.ledger), heads.HEADS[head].enough_images
    if draft.anew and images < enough * len(classes):
        log.warning(
            "%d images for %d classes are few: --head %s is right more often than %s with fewer "
            "than %d images a class",
            images,
            len(classes),
            heads.FOR_FEW,
            head,
            enough,
        )


def _manifest(writer: Writer, draft: Draft) -> Manifest:
    number, solution = writer.next_number, draft.examined.solution
    extractor, differences = solution.extractor, Differences.of(draft.memory.kinds)
    return Manifest(
        round=number,
        parent=number - 1 if number > 1 else None,
        command=draft.command,
        strategy=draft.strategy,
        head=solution.recipe.head,
        head_options=solution.recipe.options(),
        backbone=extractor.stored.name,
        backbone_fingerprint=extractor.stored.fingerprint,
        projection=asdict(extractor.projection) if extractor.projection else None,
        classes=solution.registry,
        memory=draft.memory.setting,
        memory_sha256=draft.memory.digest,
        arithmetic=differences.arithmetic,
        decoder=differences.decoder,
        exact=draft.exact,
        config=options_of(draft.config),
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        drawing=extractor.square.to_json(),
        learned_projection=extractor.learned,
    )
