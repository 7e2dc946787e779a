"""What the commands that look after runs and images can be told."""

from dataclasses import dataclass
from pathlib import Path

from tlcli.config.options import Columns


@dataclass(frozen=True)
class RollbackConfig:
    """A round whose content is that of an earlier one."""

    run: Path
    to: int | None = None
    """None: the round that the current one came from."""
    wait: float = 0.0


@dataclass(frozen=True)
class PruneConfig:
    """Old rounds go."""

    run: Path
    keep: int
    """How many of the newest rounds stay."""
    wait: float = 0.0


@dataclass(frozen=True)
class SheetConfig:
    """A contact sheet of augmented images."""

    data: str
    sheet: Path
    """A PNG file."""
    augment: str = "standard"
    """A preset, see `training.PRESETS`."""
    seed: int = 0
    columns: Columns = Columns()


@dataclass(frozen=True)
class DivideConfig:
    """What of DATA is learned, and what is kept for tests."""

    data: str
    run: Path | None = None
    """What it has learned is not new."""
    test: str | None = None
    """What it holds is not learned."""
    hold_out: float = 0.2
    """Share of each class's new images that is set apart for tests, 0 to 0.5."""
    out: Path | None = None
    """A new folder for tables."""
    move_into: Path | None = None
    """A folder that gets the images that are not to be learned."""
    columns: Columns = Columns()
