"""What a command that makes a round answers."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tlcli import files, heads, strict
from tlcli.config import ONE_DEVICE, Columns, Progress, ReadingOptions
from tlcli.evaluation import Validation
from tlcli.manifest import Manifest
from tlcli.rounds.intake import Intake
from tlcli.rounds.solution import Calibration
from tlcli.runs import Round, open_run

REPORT = "report.json"

_MOST_BYTES = 2**28
"""Of `report.json`, which names every image that was left out."""


@dataclass(frozen=True)
class RoundResult:
    """What pretrain, extend-classes and finetune answer."""

    run: Path
    manifest: Manifest
    new_classes: tuple[str, ...]
    intake: Intake
    validation: Validation | None
    seconds: dict[str, float]
    calibration: Calibration | None = None
    choice: tuple[dict[str, Any], ...] = ()
    """What `--head auto` chose from, the best first."""
    readings: tuple[dict[str, Any], ...] = ()
    """What `--layers auto` chose from, the best first."""
    training: dict[str, Any] | None = None
    """How the backbone was trained, where it was."""
    adoption: dict[str, Any] | None = None
    """What was adopted, where the round began so."""
    usual: dict[str, Any] | None = None
    """What is known of old images, where old columns were not solved anew."""
    changed: bool = True
    """False when there was nothing to do and no round was added."""

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        manifest = self.manifest
        return {
            "run": str(self.run),
            "round": manifest.round,
            "command": manifest.command,
            "strategy": manifest.strategy,
            "head": manifest.head,
            "head_options": manifest.head_options,
            "backbone": manifest.backbone,
            "backbone_fingerprint": manifest.backbone_fingerprint,
            "classes": list(manifest.class_names),
            "new_classes": list(self.new_classes),
            "renamed_classes": manifest.renames if self.changed else {},
            "images": asdict(self.intake),
            "memory": manifest.memory,
            "memory_sha256": manifest.memory_sha256,
            "arithmetic": list(manifest.arithmetic),
            "decoder": list(manifest.decoder),
            "exact": manifest.exact,
            "validation": asdict(self.validation) if self.validation else None,
            "calibration": asdict(self.calibration) if self.calibration else None,
            "head_choice": list(self.choice),
            "layers_choice": list(self.readings),
            "training": self.training,
            "adoption": self.adoption,
            "usual": self.usual,
            "changed": self.changed,
            "seconds": self.seconds,
        }


@dataclass
class Phases:
    """The phases of a command: how long each takes, and who is told how far it is."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)
    _start: float = field(default_factory=time.perf_counter)
    _watch: heads.Watch = field(init=False)

    def __post_init__(self) -> None:
        self._watch = heads.Watch(self.progress)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a phase; a head that is solved there says how far it is."""
        start = time.perf_counter()
        try:
            with heads.watched(self._watch):
                yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def total(self) -> dict[str, float]:
        """The seconds of all phases, to milliseconds, and those since the command began."""
        phases = {name: self.seconds.get(name, 0.0) for name in ("features", "head", "save")}
        phases |= self.seconds | {"total": time.perf_counter() - self._start}
        return {name: round(value, 3) for name, value in phases.items()}


def options_of(config: Any) -> dict[str, Any]:
    """A config as JSON values, without what the result does not depend on."""
    left_out = ("run", "out", "wait", "watching")
    values = {name: value for name, value in asdict(config).items() if name not in left_out}
    if values.get("images", {}).get("columns") == asdict(Columns()):
        # As in rounds that were made before there was the option.
        values["images"] = {"max_bad": values["images"]["max_bad"]}
    if values.get("solver", {}).get("c", "") is None:
        del values["solver"]["c"]
    if values.get("distribute") == ONE_DEVICE:
        del values["distribute"]
    if values.get("into_backbone") is False:
        del values["into_backbone"]
    if values.get("reading") == asdict(ReadingOptions()):
        del values["reading"]
    return dict(json.loads(json.dumps(values, default=str)))


def report_of(entry: Round) -> dict[str, Any]:
    """What the command that made a round answered.

    Raises:
        RunError: it is damaged.
    """
    path = entry.file(REPORT)
    with files.parsing(path):
        content = _TABLE(strict.json_of(strict.content_of(path, _MOST_BYTES)))
        return _REPORT({"training": None, "adoption": None, **content})


_COUNT = strict.whole(0, 2**62)

_TABLE = strict.mapping(strict.NAME, strict.anything)

_REPORT = strict.at_least(
    head=strict.NAME,
    backbone=strict.NAME,
    classes=strict.listing(strict.NAME),
    images=strict.at_least(
        used=_COUNT,
        skipped=strict.listing(strict.at_least(path=strict.any_text, reason=strict.any_text)),
    ),
    memory=strict.NAME,
    memory_sha256=strict.optional(strict.HEX_DIGEST),
    validation=strict.optional(_TABLE),
    calibration=strict.optional(_TABLE),
    training=strict.optional(_TABLE),
    adoption=strict.optional(_TABLE),
)


@dataclass(frozen=True)
class FollowedResult:
    """What another process answered that committed a round."""

    content: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return self.content


def following(answer: RoundResult) -> RoundResult | FollowedResult:
    """The answer of a process that works for another one, which may have committed a round.

    Args:
        answer: with the round that was there before.
    """
    current = open_run(answer.run).round()
    if current.number == answer.manifest.round:
        return answer
    return FollowedResult(report_of(current) | {"seconds": answer.seconds})


def unchanged(run: Path, current: Round, intake: Intake, phases: Phases) -> RoundResult:
    """The answer of a command that had nothing to do."""
    return RoundResult(run, current.manifest, (), intake, None, phases.total(), changed=False)
