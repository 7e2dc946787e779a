"""index check, stats: what an index holds, and whether it can be relied on."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tlcli import retrieval, runs
from tlcli.config import Progress, no_progress
from tlcli.retrieval import Index


@dataclass(frozen=True)
class IndexUse:
    """What an index holds."""

    run: str
    images: int
    classes: dict[str, int]
    descriptor: str
    width: int
    segments: int
    removed: int
    """Rows of removed images, which `optimize` drops."""
    approximate: bool
    """Whether there is a usable approximate index."""
    stale: float | None
    """Share of images removed from it, or added since."""
    recall: float | None
    """Measured when it was built."""
    bytes: int

    def to_json(self) -> dict[str, Any]:
        """The object that `index stats --json` prints."""
        return asdict(self)


def stats(run: Path) -> IndexUse:
    """What the index of a run holds.

    Raises:
        TlcliError: see errors.py.
    """
    runs.open_run(run)
    with retrieval.open_index(run) as index:
        approximate = retrieval.load(index)
        return IndexUse(
            run=str(run),
            images=len(index),
            classes=index.records.labels(),
            descriptor=index.descriptor.name,
            width=index.descriptor.width,
            segments=len(index.rows),
            removed=sum(int((~rows.live).sum()) for rows in index.rows),
            approximate=approximate is not None,
            stale=None if approximate is None else approximate.stale,
            recall=float(index.facts["approximate_recall"]) if approximate else None,
            bytes=sum(path.stat().st_size for path in index.folder.iterdir()),
        )


@dataclass(frozen=True)
class Checked:
    """Whether an index is intact, and how much of the truth it finds."""

    run: str
    images: int
    problems: tuple[str, ...]
    recall: float | None
    """Of the approximate index, measured now; None where images are compared one by one."""
    least_recall: float

    @property
    def passed(self) -> bool:
        """Whether it is intact, and finds enough."""
        return not self.problems and (self.recall is None or self.recall >= self.least_recall)

    def to_json(self) -> dict[str, Any]:
        """The object that `index check --json` prints."""
        return asdict(self) | {"passed": self.passed}


def check(run: Path, progress: Progress = no_progress) -> Checked:
    """Read everything, and compare approximate answers with exact ones.

    Raises:
        TlcliError: it cannot be opened; see errors.py.
    """
    runs.open_run(run)
    with retrieval.open_index(run) as index:
        problems = (*index.records.complaints(), *_misplaced(index))
        approximate = retrieval.load(index)
        recall = None if approximate is None else retrieval.measured_recall(approximate)
        return Checked(str(run), len(index), problems, recall, retrieval.LEAST_RECALL)


def _misplaced(index: Index) -> list[str]:
    """Images whose row is not there, or is another image's."""
    keys = {rows.id: (rows.live, rows.hashes()) for rows in index.rows}
    found = []
    for entry in index.records.entries():
        live, hashes = keys.get(entry.file, ((), ()))
        if entry.row >= len(live) or not live[entry.row] or hashes[entry.row] != entry.sha256:
            found.append(f"{entry.path} has no row")
    return found
