"""The pieces of text: tables, shares, bytes, counts, times."""

import io
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

Cell = str | int | float | None


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], title: str | None = None) -> str:
    """A plain table; numbers to the right, shares as per cent, what is unknown as –."""
    drawn = Table(box=SIMPLE, title=title, title_justify="left", pad_edge=False, show_edge=False)
    for index, name in enumerate(columns):
        numeric = all(not isinstance(row[index], str) for row in rows)
        drawn.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell_text(value)) for value in row))
    console = Console(file=io.StringIO(), width=_width(), color_system=None)
    console.print(drawn)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def _width() -> int:
    return max(shutil.get_terminal_size((160, 24)).columns, 60)


def cell_text(value: Cell) -> str:
    """What stands in a cell: shares as per cent, – for what is unknown."""
    if value is None:
        return "–"
    return percent(value) if isinstance(value, float) else str(value)


def percent(share: float | None) -> str:
    """A share from 0 to 1 as per cent with one decimal; unknown where it is None."""
    return "unknown" if share is None else f"{100 * share:.1f} %"


def byte_text(count: int) -> str:
    """Bytes for people, in powers of 1000."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def counted(count: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{count} {one if count == 1 else many}"


def skipped_texts(skipped: Sequence[Mapping[str, Any]], most: int = 3) -> list[str]:
    """The first images that were left out, with the reason, and how many more there are."""
    texts = [f"{entry['path']}: {entry['reason']}" for entry in skipped[:most]]
    more = len(skipped) - most
    return [*texts, f"{more} more, which --json names"] if more > 0 else texts


def time_text(created: str) -> str:
    """A moment in ISO 8601 for people, in UTC to the minute."""
    return f"{datetime.fromisoformat(created).astimezone(UTC):%Y-%m-%d %H:%M}"
