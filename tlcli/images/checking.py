"""DATA → DataReport: everything worth knowing about a data folder before training on it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import median
from typing import Any, TextIO

from PIL import Image

from tlcli.config import Columns
from tlcli.errors import BadImage, DataError
from tlcli.images.decoding import draw, opened
from tlcli.images.missing_files import Lost
from tlcli.images.near_copies import NO_COPIES, NearCopies, near_copies, perceptual
from tlcli.images.passed_over import PassedOver
from tlcli.images.reading import map_ahead
from tlcli.images.scanning import IMAGE_SUFFIXES, Listing, Progress, Skipped, listed
from tlcli.images.sources import USUAL
from tlcli.images.square import Square
from tlcli.images.tones import FEW_LEVELS
from tlcli.urls import Place

SMALL_PIXELS = 32
ELONGATED = 2
"""The longer side is at least so many times the shorter."""

FEW_IMAGES = 5
UNBALANCED = 10
WORKERS = 2
AHEAD = 64

# MPO is JPEG with several pictures, and carries the same suffix.
JPEGS = {"MPO": "JPEG"}
DICOM = dict.fromkeys((".dcm", ".dicom"), "DICOM")


@dataclass(frozen=True)
class Extent:
    """Smallest, median and largest of one measure in pixels."""

    minimum: int
    median: float
    maximum: int


@dataclass(frozen=True)
class Reason:
    """Why files cannot be used."""

    reason: str
    files: int
    first: str

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


@dataclass(frozen=True)
class DataReport:
    """What is in a data source and what is wrong with it; pixels as stored, before rotation."""

    images: int
    """Usable images: unique, readable, decoded."""
    classes: dict[str, int]
    """Usable images of every class that is named, also where there are none."""
    empty_classes: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    duplicates: int
    conflicts: int
    passed_over: tuple[PassedOver, ...]
    """Files that are no images by their suffix."""
    formats: dict[str, int]
    modes: dict[str, int]
    width: Extent | None
    height: Extent | None
    small_images: int
    """Images with a side under 32 pixels."""
    wrong_suffixes: int
    """Images whose content is another format than their suffix says."""
    parts: tuple[str, ...] = ()
    """Names like train and test of folders in every class folder."""
    few_levels: int = 0
    """Images that use fewer than 32 of 256 levels from dark to bright."""
    one_colour: int = 0
    """Of these, images of one colour throughout."""
    elongated: int = 0
    """Images with one side at least twice the other: `--fit` decides what becomes of them."""
    lost: Lost | None = None
    """Paths of a table that lead nowhere."""
    near_copies: NearCopies = NO_COPIES

    @property
    def ignored(self) -> int:
        """How many files were passed over."""
        return sum(entry.files for entry in self.passed_over)

    @property
    def smallest_class(self) -> str:
        """The name of the class with the fewest usable images."""
        return min(self.classes, key=self.classes.__getitem__)

    @property
    def largest_class(self) -> str:
        """The name of the class with the most usable images."""
        return max(self.classes, key=self.classes.__getitem__)

    def classes_below(self, minimum: int) -> list[str]:
        """Return the names of the classes with fewer usable images than `minimum`."""
        return [name for name, count in self.classes.items() if count < minimum]

    @property
    def problems(self) -> list[str]:
        """Plain sentences, the most important first; empty when nothing is wrong."""
        return [*_class_problems(self), *_file_problems(self)]

    @property
    def reasons(self) -> list[Reason]:
        """Why files cannot be used, the most frequent reason first."""
        first: dict[str, str] = {}
        for skip in self.skipped:
            first.setdefault(skip.reason, skip.path)
        counted = Counter(skip.reason for skip in self.skipped)
        return [Reason(text, count, first[text]) for text, count in counted.most_common()]

    def require_usable(self) -> None:
        """Raise DataError, with the most frequent reason, where no image can be used."""
        if not self.images:
            worst = self.reasons[0]
            raise DataError(
                f"Expected usable images. Received: none; {worst.files} of {len(self.skipped)} "
                f"cannot be used, as {worst.first}: {worst.reason}. Repair what is listed above."
            )

    def to_json(self) -> dict[str, Any]:
        """Return the report with JSON's types only."""
        plain = asdict(replace(self, near_copies=NO_COPIES))
        return plain | {
            "smallest_class": self.smallest_class,
            "largest_class": self.largest_class,
            "classes_below_2": self.classes_below(2),
            "classes_below_5": self.classes_below(FEW_IMAGES),
            "empty_classes": list(self.empty_classes),
            "skipped": [skip.to_json() for skip in self.skipped],
            "parts": list(self.parts),
            "ignored": self.ignored,
            "lost": None if self.lost is None else self.lost.to_json(),
            "near_copies": self.near_copies.to_json(),
            "hints": self.near_copies.hints,
            "passed_over": [entry.to_json() for entry in self.passed_over],
            "reasons": [reason.to_json() for reason in self.reasons],
            "problems": self.problems,
        }


@dataclass(frozen=True)
class _Probe:
    """What one image that decodes is like."""

    label: str
    format: str
    mode: str
    width: int
    height: int
    wrong_suffix: bool
    levels: int = 0
    """See `Drawn.levels`."""
    perceptual: int | None = None
    """See `near_copies.perceptual`."""


def check(
    data: str | Place,
    *,
    stdin: TextIO | None = None,
    columns: Columns = USUAL,
    decode_size: int = 64,
    progress: Progress | None = None,
) -> DataReport:
    """Scan a data source, decode every image, and report what is there and what is wrong.

    Args:
        data: as for `scan`.
        stdin: as for `scan`.
        columns: as for `scan`.
        decode_size: side in pixels to which images are decoded as a trial.
        progress: called with (done, in all) for every file hashed, then for every image decoded.

    Raises:
        UsageError: `data` does not exist.
        DataError: it holds no labelled images, may not be read, or is malformed.
    """
    listing = listed(data, stdin=stdin, columns=columns, progress=progress)
    results: list[_Probe | Skipped] = []
    for result in _probe_all(listing, decode_size):
        results.append(result)
        if progress is not None:
            progress(len(results), len(listing.images))
    report = _report(
        listing,
        probes=[result for result in results if isinstance(result, _Probe)],
        undecodable=[result for result in results if isinstance(result, Skipped)],
    )
    hashes = [None if isinstance(result, Skipped) else result.perceptual for result in results]
    return replace(report, near_copies=near_copies(listing.images, hashes))


def _probe_all(listing: Listing, size: int) -> Iterator[_Probe | Skipped]:
    jobs = zip(listing.paths, listing.labels, strict=True)
    return map_ahead(partial(_probe, size=size), jobs, WORKERS, AHEAD)


def _probe(job: tuple[Place, str], size: int) -> _Probe | Skipped:
    path, label = job
    try:
        with opened(path) as image:
            probe = _facts(image, path, label)
            drawn = draw(image, Square(size))
    except BadImage as error:
        return Skipped(str(path), str(error))
    return replace(probe, levels=drawn.levels, perceptual=perceptual(drawn.pixels))


def _facts(image: Image.Image, path: Place, label: str) -> _Probe:
    name = image.format or "unknown"
    return _Probe(label, name, image.mode, *image.size, _is_wrong_suffix(path, name))


def _is_wrong_suffix(path: Place, name: str) -> bool:
    """Whether a suffix of images says another format; other suffixes say nothing."""
    suffix = path.suffix.lower()
    expected = DICOM.get(suffix) or Image.EXTENSION.get(suffix, "")
    return suffix in IMAGE_SUFFIXES and JPEGS.get(expected, expected) != JPEGS.get(name, name)


def _report(listing: Listing, probes: list[_Probe], undecodable: list[Skipped]) -> DataReport:
    found = Counter(probe.label for probe in probes)
    return DataReport(
        images=len(probes),
        classes={name: found[name] for name in listing.named_classes},
        empty_classes=listing.empty_classes,
        skipped=tuple(sorted([*listing.skipped, *undecodable], key=lambda skip: skip.path)),
        duplicates=listing.duplicates,
        conflicts=listing.conflicts,
        passed_over=listing.passed_over,
        formats=_histogram(probe.format for probe in probes),
        modes=_histogram(probe.mode for probe in probes),
        width=_extent([probe.width for probe in probes]),
        height=_extent([probe.height for probe in probes]),
        small_images=sum(min(probe.width, probe.height) < SMALL_PIXELS for probe in probes),
        wrong_suffixes=sum(probe.wrong_suffix for probe in probes),
        parts=listing.parts,
        few_levels=sum(probe.levels < FEW_LEVELS for probe in probes),
        one_colour=sum(probe.levels == 0 for probe in probes),
        elongated=sum(_is_elongated(probe) for probe in probes),
        lost=listing.lost,
    )


def _is_elongated(probe: _Probe) -> bool:
    return max(probe.width, probe.height) >= ELONGATED * min(probe.width, probe.height)


def _histogram(values: Iterable[str]) -> dict[str, int]:
    """Return how often each value occurs, the most frequent first."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _extent(pixels: list[int]) -> Extent | None:
    return Extent(min(pixels), median(pixels), max(pixels)) if pixels else None


def _class_problems(report: DataReport) -> list[str]:
    """Return what makes the classes hard or impossible to learn."""
    lone = [name for name in report.classes_below(2) if report.classes[name]]
    few = [name for name in report.classes_below(FEW_IMAGES) if report.classes[name] > 1]
    without = report.classes_below(1)
    most, least = report.classes[report.largest_class], report.classes[report.smallest_class]
    sentences = (
        (report.images == 0, "No image can be used."),
        (len(report.classes) == 1, f"There is only one class: {_names(list(report.classes))}."),
        (without, f"Without a usable image: {_names(without)}."),
        (lone, f"With a single image, too few to test on: {_names(lone)}."),
        (few, f"With fewer than {FEW_IMAGES} images: {_names(few)}."),
        (
            report.parts,
            f"Every class folder is divided into {_names(list(report.parts))}, which are read "
            "together.",
        ),
        (
            0 < least * UNBALANCED < most,
            f"The classes are unbalanced: {most} images of {report.largest_class!r}, {least} of "
            f"{report.smallest_class!r}.",
        ),
    )
    return [sentence for applies, sentence in sentences if applies]


def _file_problems(report: DataReport) -> list[str]:
    """Return what is wrong with single files."""
    counts = (
        ("In two classes at once, all copies left out", report.conflicts),
        ("Cannot be used", len(report.skipped) - report.conflicts),
        ("Further copies of an image, counted once", report.duplicates),
        (f"With a side under {SMALL_PIXELS} pixels", report.small_images),
        ("Of one colour throughout", report.one_colour),
        (
            f"With fewer than {FEW_LEVELS} of 256 levels from dark to bright (in 16-bit grey see "
            "--white-level of `tlcli pretrain`)",
            report.few_levels - report.one_colour,
        ),
        (
            "With one side at least twice the other (see --fit of `tlcli pretrain`)",
            report.elongated,
        ),
        ("Of another format than the suffix says, which does no harm here", report.wrong_suffixes),
        ("No images by their suffix, ignored", report.ignored),
    )
    found = [f"{what}: {count} file{'s' * (count != 1)}." for what, count in counts if count]
    return found if report.lost is None else [report.lost.to_text(), *found]


def _names(names: list[str]) -> str:
    """Return up to eight names as a list to read."""
    rest = [f"and {len(names) - 8} more"] if len(names) > 8 else []
    return ", ".join([*map(repr, names[:8]), *rest])
