"""rounds: list, show, verify, rollback, prune."""

import logging
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlcli import files, runs
from tlcli.config import PruneConfig, RollbackConfig
from tlcli.errors import RunError, UsageError
from tlcli.extractor import backbone_of, learned_projection
from tlcli.manifest import MANIFEST, Manifest
from tlcli.memory import bytes_by_part
from tlcli.rounds.indexed import warn_of_index
from tlcli.rounds.publication import commit, versions
from tlcli.rounds.result import REPORT, report_of
from tlcli.runs import Round, Run, Writer

UNKNOWN = "unknown"
"""Whether a round is intact, where its files were not compared with their hashes."""

log = logging.getLogger(__name__)

Json = dict[str, Any]


@dataclass(frozen=True)
class RolledBack:
    """The round that counts now, and what it was made of."""

    run: Path
    source: int
    report: dict[str, Any]
    """What the command that made the source answered, as far as it still holds."""
    manifest: Manifest
    forgotten: tuple[str, ...]
    """Classes of the round before that are not known any more."""
    returned: tuple[str, ...]
    """Classes that the round before did not know."""
    changed: bool = True
    """False when the current round has this content already and none was added."""

    def to_json(self) -> dict[str, Any]:
        """The object that `rounds rollback --json` prints."""
        return self.report | {
            "run": str(self.run),
            "round": self.manifest.round,
            "command": self.manifest.command,
            "source": self.source,
            "new_classes": list(self.returned),
            "renamed_classes": {},
            "forgotten_classes": list(self.forgotten),
            "images": {"used": 0, "from_cache": 0, "already_learned": 0, "duplicates": 0}
            | {"skipped": [], "known_classes": [], "removed": 0},
            "changed": self.changed,
        }


def rollback(config: RollbackConfig) -> RolledBack:
    """Commit a round whose content is that of an earlier one; nothing, if it is so already.

    Raises:
        UsageError: there is no such round.
        RunError: it, or its backbone, is damaged; the run is as it was.
    """
    with runs.extending(config.run, config.wait) as writer:
        current = writer.run.round()
        source = writer.run.round(_number(config, current))
        _require_intact(writer.run, source)
        result = RolledBack(
            config.run,
            source.number,
            report_of(source),
            current.manifest,
            tuple(name for name in current.classes if name not in source.classes),
            tuple(name for name in source.classes if name not in current.classes),
        )
        if _content(current.manifest) == _content(source.manifest):
            return replace(result, changed=False)
        warn_of_index(config.run, result.forgotten)
        return _publish(writer, source, result)


def _number(config: RollbackConfig, current: Round) -> int:
    """Of the round to go back to."""
    number = current.manifest.parent if config.to is None else config.to
    if number is None:
        raise UsageError(
            f"Expected a run with an earlier round. Received: {config.run}, whose round "
            f"{current.number} came from no other. Name one with --to N."
        )
    return number


def _require_intact(run: Run, source: Round) -> None:
    if damages := source.damages():
        raise RunError(
            f"Expected an intact round to go back to. Received: {'; '.join(damages)}. "
            "Choose another with --to N."
        )
    backbone_of(run, source.manifest).verify()
    learned_projection(run, source)


def _content(manifest: Manifest) -> Manifest:
    """The manifest without what says when and how the round came about."""
    kept = {name: sha256 for name, sha256 in manifest.files.items() if name != REPORT}
    return replace(
        manifest, round=0, parent=None, command="", config={}, versions={}, created="", files=kept
    )


def _publish(writer: Writer, source: Round, result: RolledBack) -> RolledBack:
    """Commit the files of the source, linked, under a manifest that names it."""
    manifest = _manifest(source, writer.next_number)
    result = replace(result, manifest=manifest)

    def link(staged: Path) -> None:
        for name in source.manifest.files.keys() - {REPORT}:
            files.link(source.file(name), staged / name)

    committed = commit(writer, manifest, result.to_json(), link)
    return replace(result, manifest=committed.manifest)


def _manifest(source: Round, number: int) -> Manifest:
    """Of a round of this number with the source's content, without the files."""
    return replace(
        source.manifest,
        round=number,
        parent=source.number,
        command="rollback",
        config={"to": source.number},
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files={},
    )


@dataclass(frozen=True)
class Pruned:
    """Which rounds are left, and what the others took."""

    run: str
    rounds: tuple[int, ...]
    removed: tuple[int, ...]
    removed_backbones: tuple[str, ...]
    """Fingerprints."""
    freed_bytes: int

    def to_json(self) -> dict[str, Any]:
        """The object that `rounds prune --json` prints."""
        return asdict(self)


def prune(config: PruneConfig) -> Pruned:
    """Remove all but the newest rounds, and the backbones that none of these uses.

    Raises:
        UsageError, RunError: the folder is not a run, or a round of it is damaged.
        StorageError: a round cannot be removed.
    """
    with runs.extending(config.run, config.wait) as writer:
        run = writer.run
        old = run.numbers()[: -config.keep]
        before, bytes_before = _fingerprints(run), _bytes(config.run)
        writer.drop(old)
        gone = before - _fingerprints(run)
        return Pruned(
            str(config.run),
            tuple(run.numbers()),
            tuple(old),
            tuple(sorted(gone)),
            bytes_before - _bytes(config.run),
        )


def _fingerprints(run: Run) -> set[str]:
    return {entry.manifest.backbone_fingerprint for entry in run.rounds()}


def _bytes(folder: Path) -> int:
    """Of all files below; a file under several names counts once."""
    found = (path.stat() for path in folder.rglob("*") if path.is_file())
    return sum({status.st_ino: status.st_size for status in found}.values())


@dataclass(frozen=True)
class Verification:
    """What was looked at, and one sentence for each damage."""

    run: str
    rounds: tuple[int, ...]
    damages: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The object that `rounds verify --json` prints."""
        return asdict(self) | {"intact": not self.damages}


def verify(path: Path) -> Verification:
    """Check all rounds and the backbones they use, but for rounds that are pruned meanwhile.

    Raises:
        UsageError, RunError: the folder is not a run.
    """
    run = runs.require_run(path)
    while True:
        found = run.steadily(lambda: _verified(run))
        if set(found.rounds) <= set(run.numbers()):
            return found


def _verified(run: Run) -> Verification:
    numbers = run.numbers()
    damages: list[str] = []
    used: dict[tuple[str, str], Manifest] = {}
    for number in numbers:
        try:
            entry = run.round(number)
        except RunError as error:
            damages.append(str(error))
            continue
        damages += entry.damages()
        manifest = entry.manifest
        used[manifest.backbone_fingerprint, manifest.backbone] = manifest
        damages += _damages_of_projection(run, entry)
    for key in sorted(used):
        damages += _damages_of_backbone(run, used[key])
    return Verification(str(run.path), tuple(numbers), tuple(dict.fromkeys(damages)))


def _damages_of_projection(run: Run, entry: Round) -> list[str]:
    try:
        learned_projection(run, entry)
    except RunError as error:
        return [str(error)]
    return []


def _damages_of_backbone(run: Run, manifest: Manifest) -> list[str]:
    try:
        return backbone_of(run, manifest).damages()
    except RunError as error:
        return [str(error)]


def round_summaries(run: Run) -> list[Json]:
    """What `rounds list` says, oldest first."""
    return run.steadily(lambda: [_summary(entry) for entry in run.rounds()])


def _summary(entry: Round) -> Json:
    manifest = entry.manifest
    introduced = [c.name for c in manifest.classes if c.introduced_in_round == manifest.round]
    return {
        "round": manifest.round,
        "created": manifest.created,
        "command": manifest.command,
        "strategy": manifest.strategy,
        "head": manifest.head,
        "backbone": manifest.backbone,
        "classes": len(manifest.classes),
        "new_classes": introduced,
        "exact": manifest.exact,
        "memory": manifest.memory,
        "memory_sha256": manifest.memory_sha256,
        "bytes": sum(map(entry.bytes_of, (MANIFEST, *manifest.files))),
        "bytes_by_part": bytes_by_part(entry),
        "intact": UNKNOWN,
    }


def round_details(run: Run, number: int | None) -> Json:
    """What `rounds show` says of a round, or the current one: its manifest, and its report."""
    return run.steadily(lambda: _details(run.round(number)))


def _details(entry: Round) -> Json:
    classes = [known.to_json() for known in entry.manifest.classes]
    manifest = asdict(entry.manifest) | {"classes": classes}
    report = report_of(entry)
    parts = ("images", "validation", "calibration", "training", "adoption")
    measured = {name: report[name] for name in parts}
    return {**manifest, **measured, "bytes_by_part": bytes_by_part(entry)}
