"""rounds verify: every file of a run against the hash it was saved with."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tlcli import backbones, runs
from tlcli.errors import RunError


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
    """Check all rounds and the backbones they use.

    Raises:
        UsageError, RunError: the folder is not a run.
    """
    run = runs.require_run(path)
    damages: list[str] = []
    fingerprints = set()
    for number in run.numbers():
        try:
            entry = run.round(number)
        except RunError as error:
            damages.append(str(error))
            continue
        damages += entry.damages()
        fingerprints.add(entry.manifest.backbone_fingerprint)
    for fingerprint in sorted(fingerprints):
        try:
            backbones.load_stored(run.backbone_folder(fingerprint)).verify()
        except RunError as error:
            damages.append(str(error))
    return Verification(str(path), tuple(run.numbers()), tuple(damages))
