"""export: the current round as a file that other programs use."""

from dataclasses import asdict, dataclass
from typing import Any

from tlcli import files, heads, runs
from tlcli.config import ExportConfig
from tlcli.errors import StorageError, UsageError
from tlcli.stages import publishing, rounds
from tlcli.stages.lenses import Lens

SUFFIXES = {"keras": ".keras"}
"""The formats, and how their files are named."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    run: str
    round: int
    format: str
    path: str
    classes: tuple[str, ...]
    bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """The object that `export --json` prints."""
        return asdict(self)


def export(config: ExportConfig) -> Exported:
    """Write backbone and head of the current round as one model; a file of that name is replaced.

    Raises:
        UsageError: there is no such format, or the name does not fit it.
        RunError: the run is damaged.
        StorageError: the file cannot be written.
    """
    _require_fitting_name(config)
    run = runs.open_run(config.run)
    current = run.round()
    rounds.require_classes(current)
    lens = Lens.of_round(run, current, "auto")
    lens.stored.verify()
    head = heads.load(current.file("head.h5"))
    publishing.write_model(lens, head, config.out)
    return Exported(
        str(config.run),
        current.number,
        config.format,
        str(config.out),
        head.classes,
        config.out.stat().st_size,
        files.sha256(config.out),
    )


def _require_fitting_name(config: ExportConfig) -> None:
    if config.format not in SUFFIXES:
        raise UsageError(
            f"Expected a format: {', '.join(SUFFIXES)}. Received: format={config.format!r}. "
            "Choose one of these."
        )
    if not config.out.parent.is_dir():
        raise StorageError(
            f"Expected a folder for the file. Received: {config.out.parent} is none. "
            "Make it, or choose another --out."
        )
    if config.out.suffix != SUFFIXES[config.format]:
        raise UsageError(
            f"Expected a name that ends in {SUFFIXES[config.format]}. Received: {config.out}. "
            "Rename --out."
        )
