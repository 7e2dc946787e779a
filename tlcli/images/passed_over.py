"""Files that are no images by their suffix: counted, and named in a message."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tlcli.urls import Place

SUFFIXES_SHOWN = 5


@dataclass(frozen=True)
class PassedOver:
    """Files of one suffix that are no images by it."""

    suffix: str
    """In lower case, with its dot; empty where they have none and are no images by content."""
    files: int
    first: str

    def to_text(self) -> str:
        """Like "3 .txt"."""
        return f"{self.files} {self.suffix or 'without a suffix'}"

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def passed_over(paths: Sequence[Place]) -> tuple[PassedOver, ...]:
    """Return what the suffixes of files are, the most frequent first."""
    first: dict[str, Place] = {}
    for path in paths:
        first.setdefault(path.suffix.lower(), path)
    counted = Counter(path.suffix.lower() for path in paths)
    rows = sorted(counted.items(), key=lambda row: (-row[1], row[0]))
    return tuple(PassedOver(suffix, count, str(first[suffix])) for suffix, count in rows)


def passed_text(rows: Sequence[PassedOver]) -> str:
    """Return suffixes with how many files have them, for a message."""
    shown = [entry.to_text() for entry in rows[:SUFFIXES_SHOWN]]
    rest = sum(entry.files for entry in rows[SUFFIXES_SHOWN:])
    return ", ".join([*shown, f"{rest} others"] if rest else shown)
