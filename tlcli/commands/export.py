"""export: the current round as a file that other programs use."""

import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tlcli import backbones, files, formats, heads, runs, signals
from tlcli.commands.export_int8 import Quantised, Samples, calibration_samples
from tlcli.config import ExportConfig, Progress, RunsOn, no_progress
from tlcli.errors import GateFailed, UsageError
from tlcli.extractor import Extractor
from tlcli.features import Projected, Vectors
from tlcli.formats import Format, Source
from tlcli.heads import LinearHead
from tlcli.rounds.intake import require_classes
from tlcli.rounds.publication import write_model

log = logging.getLogger(__name__)

_PROBES = 16


@dataclass(frozen=True)
class Check:
    """How close a file in float32 is to the run, on 16 images that every backbone is tried on."""

    deviation: float
    """Largest difference of centred logits."""
    limit: float
    """Above which nothing would have been written."""
    grid: float | None
    """With a projection: how far its grid of features, which the file has not, moves the run's own
    logits."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    run: str
    round: int
    format: str
    precision: str
    """float32 or int8."""
    path: str
    image_size: int
    """Images are float32 (n, image_size, image_size, 3), raw RGB in 0..255."""
    classes: tuple[str, ...]
    """In the order of the probabilities."""
    bytes: int
    sha256: str
    """Of the file; of several, over the lines that `sha256sum` prints of them, sorted by name."""
    check: Check | None
    """None in int8."""
    int8: Quantised | None
    """None in float32."""

    def to_json(self) -> dict[str, Any]:
        """The object that `export --json` prints."""
        return asdict(self)


def export(config: ExportConfig, progress: Progress = no_progress) -> Exported:
    """Write backbone and head of the current round as one model; an earlier export is replaced.

    The file is run by its own runtime, and compared with the run, before it gets its name.

    Raises:
        UsageError: it cannot be meant, a package is missing, or the format cannot express it.
        GateFailed: the file does not answer as the run does.
        DataError: the images for int8 cannot be used.
        RunError: the run is damaged.
        StorageError: the file cannot be written.
    """
    chosen = formats.format_of(config.format)
    _require_fitting_options(config, chosen)
    _require_fitting_name(config, chosen)
    chosen.require_packages()
    run = runs.open_run(config.run)
    require_classes(current := run.round())
    extractor = Extractor.of_round(run, current, RunsOn())
    extractor.stored.verify()
    head = heads.load(current.file("head.h5"))
    samples = calibration_samples(config, current, extractor, progress)
    progress("converting", 0, 0)
    with _staging(config.out) as folder:
        draft = folder / config.out.name
        _write(config.format, draft, extractor, head, samples)
        check = None if samples else _checked(config.format, draft, extractor, head)
        int8 = samples.compared(config.format, draft) if samples else None
        _publish(draft, config.out, chosen)
    return Exported(
        run=str(config.run),
        round=current.number,
        format=config.format,
        precision="int8" if config.int8 else "float32",
        path=str(config.out),
        image_size=extractor.stored.image_size,
        classes=head.classes,
        bytes=sum(path.stat().st_size for path in _files_of(config.out, chosen)),
        sha256=_digest(_files_of(config.out, chosen)),
        check=check,
        int8=int8,
    )


def _write(
    name: str, draft: Path, extractor: Extractor, head: LinearHead, samples: Samples | None
) -> None:
    archive = draft.with_name("classifier of the run.keras")
    write_model(extractor, head, archive)
    pixels = None if samples is None else samples.pixels
    formats.write(name, Source(archive, head.classes, pixels), draft)


def _checked(name: str, draft: Path, extractor: Extractor, head: LinearHead) -> Check:
    """How close the file is to the run; raises GateFailed where it is not close enough."""
    images = backbones.probe_images(extractor.stored.image_size, _PROBES)
    features, projection = _in_float32(extractor).features_of_pixels(images), extractor.projection
    plain = features if projection is None else Vectors.of(projection.without_grid(features[:]))
    expected = head.probabilities(plain)
    parity = formats.compare(expected, formats.run(name, draft, images))
    if not parity.fine:
        raise GateFailed(
            f"Expected logits within {parity.limit:.2g} of the run's. Received: {name} deviates "
            f"by {parity.deviation:.2g}. Nothing was written: choose another --format."
        )
    if projection is None:
        return Check(parity.deviation, parity.limit, None)
    on_grid = head.probabilities(Projected(features, projection))
    grid = formats.compare(on_grid, expected).deviation
    return Check(parity.deviation, parity.limit, grid)


def _in_float32(extractor: Extractor) -> Extractor:
    """The one that files can be compared with: they compute in float32, whatever the run does."""
    if extractor.stored.in_float32:
        return extractor
    log.warning(
        "the run computes features in %s and the file in float32, with which it was compared: "
        "measure the accuracy of the file",
        extractor.stored.precision,
    )
    stored = replace(extractor.stored, precision=backbones.DEFAULT_PRECISION)
    return Extractor.of(stored, RunsOn("keras"), extractor.projection)


def _require_fitting_options(config: ExportConfig, chosen: Format) -> None:
    if config.int8 and not chosen.int8:
        able = " or ".join(name for name, row in formats.FORMATS.items() if row.int8)
        raise UsageError(
            f"Expected --format {able} for --int8. Received: format={config.format!r}. "
            f"Leave --int8 out, or choose {able}."
        )
    if config.int8 and config.calibrate is None:
        raise UsageError(
            "Expected images for --int8, which show what values occur. Received: no --calibrate. "
            "Add --calibrate DATA with some hundred images like those that will come."
        )
    if config.calibrate is not None and not config.int8:
        raise UsageError(
            "Expected --int8 with --calibrate. Received: --calibrate alone. Add --int8, or leave "
            "--calibrate out."
        )


def _require_fitting_name(config: ExportConfig, chosen: Format) -> None:
    out = config.out
    if not out.name:
        raise UsageError(f"Expected a name for the export. Received: --out {out}. Choose one.")
    files.require_folder(out, "--out")
    if chosen.suffix:
        if out.suffix != chosen.suffix:
            raise UsageError(
                f"Expected a name that ends in {chosen.suffix}. Received: {out}. Rename --out."
            )
        for path in _names(out, chosen):
            if path.is_dir():
                raise UsageError(
                    f"Expected a file, or nothing, at {path}. Received: a folder. Rename --out."
                )
        if any(path.exists() for path in _names(out, chosen)[:-1]) and not out.exists():
            raise UsageError(
                f"Expected both files of an earlier export, or none. Received: only "
                f"{_names(out, chosen)[0]}. Remove it, or rename --out."
            )
        return
    if out.suffix in {entry.suffix for entry in formats.FORMATS.values() if entry.suffix}:
        raise UsageError(
            f"Expected the name of a folder. Received: {out}, which is named like a file. "
            "Rename --out."
        )
    if os.path.lexists(out) and not _is_earlier_folder(out):
        raise UsageError(
            f"Expected nothing, or an earlier export, at {out}. Received: something else, which "
            "is not replaced. Remove it, or choose another --out."
        )


def _is_earlier_folder(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    return not names or (
        names <= set(formats.ENTRIES) and (path / "assets.extra" / formats.LABELS).is_file()
    )


def _names(out: Path, chosen: Format) -> list[Path]:
    """The file, or both, in the order in which they get their names."""
    second = [] if chosen.second_suffix is None else [out.with_suffix(chosen.second_suffix)]
    return [*second, out]


def _files_of(out: Path, chosen: Format) -> list[Path]:
    if chosen.suffix:
        return _names(out, chosen)
    return [path for path in out.rglob("*") if path.is_file()]


def _digest(paths: list[Path]) -> str:
    if len(paths) == 1:
        return files.sha256(paths[0])
    top = Path(os.path.commonpath([path.parent for path in paths]))
    lines = [f"{files.sha256(path)}  {path.relative_to(top)}\n" for path in paths]
    return hashlib.sha256("".join(sorted(lines, key=lambda line: line[66:])).encode()).hexdigest()


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A folder beside the target, gone afterwards: what lies in it becomes the export by name."""
    folder = out.with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with files.saving(out):
            folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(draft: Path, out: Path, chosen: Format) -> None:
    """Give the draft its name, in one step where it is one file or a folder.

    Of two files neither is of use with another export's: the one that names the other goes first
    and comes last, so that a kill in between leaves no pair that does not belong together.
    """
    if not chosen.suffix:
        files.replace_folder(draft, out)
        return
    with signals.held(), files.saving(out):
        for path in _names(draft, chosen):
            files.sync(path)
        if chosen.second_suffix is not None:
            out.unlink(missing_ok=True)
        for path in _names(draft, chosen):
            path.replace(out.with_name(path.name))
        files.sync(out.parent)
