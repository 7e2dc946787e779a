"""export: the current round as a file that other programs use."""

import hashlib
import logging
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tlcli import backbones, files, formats, runs, signals
from tlcli.commands.export_int8 import Quantised, Samples, calibration_samples
from tlcli.config import ExportConfig, Progress, RunsOn, no_progress
from tlcli.errors import GateFailed, UsageError
from tlcli.extractor import Extractor
from tlcli.features import Projected, Vectors
from tlcli.formats import Format, Parity, Source
from tlcli.heads import LinearHead
from tlcli.rounds.intake import require_classes
from tlcli.rounds.parent import head_of
from tlcli.rounds.publication import write_model
from tlcli.runs import Round, Run

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
    fit: str
    """How whoever calls the file makes an image that square, see `images.FITS`."""
    white_level: int | None
    """The value of 16-bit grey that is white; None: 65535."""
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
    _sweep(config.out, chosen)
    _require_fitting_name(config, chosen)
    chosen.require_packages()
    opened = _Opened.of(config.run)
    samples = calibration_samples(config, opened.round, opened.extractor, progress)
    progress("converting", 0, 0)
    with files.staging(config.out) as folder:
        draft = folder / config.out.name
        _write(config.format, draft, opened, samples)
        check = None if samples else _checked(config.format, draft, opened)
        int8 = samples.compared(config.format, draft) if samples else None
        _publish(draft, config.out, chosen)
    return _exported(config, _files_of(config.out, chosen), opened, check, int8)


@dataclass(frozen=True, eq=False)
class _Opened:
    """A round, its intact backbone, its head."""

    round: Round
    extractor: Extractor
    head: LinearHead

    @staticmethod
    def of(path: Path) -> "_Opened":
        """The current round of a run; raises RunError where its backbone is damaged."""
        run = runs.open_run(path)
        return run.steadily(lambda: _Opened._of_round(run, run.round()))

    @staticmethod
    def _of_round(run: Run, current: Round) -> "_Opened":
        require_classes(current)
        extractor = Extractor.of_round(run, current, RunsOn())
        extractor.stored.verify()
        return _Opened(current, extractor, head_of(current, extractor))


def _exported(
    config: ExportConfig,
    written: list[Path],
    opened: _Opened,
    check: Check | None,
    int8: Quantised | None,
) -> Exported:
    return Exported(
        run=str(config.run),
        round=opened.round.number,
        format=config.format,
        precision="int8" if config.int8 else "float32",
        path=str(config.out),
        image_size=opened.extractor.square.size,
        fit=opened.extractor.square.fit,
        white_level=opened.extractor.square.white_level,
        classes=opened.head.classes,
        bytes=sum(path.stat().st_size for path in written),
        sha256=_digest(written),
        check=check,
        int8=int8,
    )


def _write(name: str, draft: Path, opened: _Opened, samples: Samples | None) -> None:
    archive = draft.with_name("classifier of the run.keras")
    write_model(opened.extractor, opened.head, archive)
    pixels = None if samples is None else samples.pixels
    square = opened.extractor.square.to_json()
    formats.write(name, Source(archive, opened.head.classes, square, pixels), draft)


def _checked(name: str, draft: Path, opened: _Opened) -> Check:
    """How close the file is to the run; raises GateFailed where it is not close enough."""
    extractor, head = opened.extractor, opened.head
    images = backbones.probe_images(extractor.stored.image_size, _PROBES)
    features, projection = _in_float32(extractor).features_of_pixels(images), extractor.projection
    plain = features if projection is None else Vectors.of(projection.without_grid(features[:]))
    expected = head.probabilities(plain)
    parity = formats.compare(expected, formats.run(name, draft, images))
    _require_close(name, parity)
    if projection is None:
        return Check(parity.deviation, parity.limit, None)
    on_grid = head.probabilities(Projected(features, projection))
    grid = formats.compare(on_grid, expected).deviation
    return Check(parity.deviation, parity.limit, grid)


def _require_close(name: str, parity: Parity) -> None:
    if not parity.fine:
        raise GateFailed(
            f"Expected logits within {parity.limit:.2g} of the run's. Received: {name} deviates "
            f"by {parity.deviation:.2g}. Nothing was written: choose another --format."
        )


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
    if config.int8:
        _require_int8(config, chosen)
    elif config.calibrate is not None:
        raise UsageError(
            "Expected --int8 with --calibrate. Received: --calibrate alone. Add --int8, or leave "
            "--calibrate out."
        )


def _require_int8(config: ExportConfig, chosen: Format) -> None:
    """Refuse int8 in a format that has none, or without images to calibrate it on."""
    if not chosen.int8:
        able = " or ".join(name for name, row in formats.FORMATS.items() if row.int8)
        raise UsageError(
            f"Expected --format {able} for --int8. Received: format={config.format!r}. "
            f"Leave --int8 out, or choose {able}."
        )
    if config.calibrate is None:
        raise UsageError(
            "Expected images for --int8, which show what values occur. Received: no --calibrate. "
            "Add --calibrate DATA with some hundred images like those that will come."
        )


def _require_fitting_name(config: ExportConfig, chosen: Format) -> None:
    out = config.out
    if not out.name:
        raise UsageError(f"Expected a name for the export. Received: --out {out}. Choose one.")
    files.require_folder(out, "--out")
    if chosen.suffix:
        _require_name_of_file(out, chosen)
    else:
        _require_name_of_folder(out)


def _advice(suffix: str) -> str:
    """What to do about a file with the suffix of another format, or of none."""
    for name, row in formats.FORMATS.items():
        if suffix and row.suffix == suffix:
            return f"Add --format {name}, or rename --out."
    return "Rename --out."


def _require_name_of_file(out: Path, chosen: Format) -> None:
    """Refuse another suffix, and whatever is there but a complete earlier export."""
    if out.suffix != chosen.suffix:
        raise UsageError(
            f"Expected a name that ends in {chosen.suffix}. Received: {out}. {_advice(out.suffix)}"
        )
    names = _names(out, chosen)
    if folder := next((path for path in names if path.is_dir()), None):
        raise UsageError(
            f"Expected a file, or nothing, at {folder}. Received: a folder. Rename --out."
        )
    if any(path.exists() for path in names[:-1]) and not out.exists():
        raise UsageError(
            f"Expected both files of an earlier export, or none. Received: only {names[0]}. "
            "Remove it, or rename --out."
        )


def _require_name_of_folder(out: Path) -> None:
    """Refuse the suffix of a file, and whatever is there but an earlier export."""
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
    listing = "".join(sorted(lines, key=lambda line: line[66:]))
    return hashlib.sha256(os.fsencode(listing)).hexdigest()


def _sweep(out: Path, chosen: Format) -> None:
    """Remove what killed exports have left beside the target."""

    def settle(left: Path) -> None:
        if chosen.second_suffix is not None:
            formats.two_files.settle(left, out, chosen.second_suffix)

    if out.name:
        files.sweep(out, settle)


def _publish(draft: Path, out: Path, chosen: Format) -> None:
    """Give the draft its name: at any instant the old export is there, or the new one."""
    with signals.held(), files.saving(out):
        if not chosen.suffix:
            files.replace_folder(draft, out)
            return
        if chosen.second_suffix is not None and chosen.moved is not None:
            formats.two_files.publish(draft, out, chosen.second_suffix, chosen.moved)
            return
        files.sync(draft)
        draft.replace(out)
        files.sync(out.parent)
