"""What became of the images that a command was given."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tlcli import images
from tlcli.config import Columns, Progress
from tlcli.errors import DataError, UsageError
from tlcli.features import Features
from tlcli.images import LabelledImage, Listing, PassedOver, Skipped, Tones
from tlcli.manifest import RegisteredClass
from tlcli.rounds.names import perhaps, said_of
from tlcli.runs import Round

log = logging.getLogger(__name__)

NO_NAMES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Intake:
    """What became of the images that a command was given."""

    used: int
    from_cache: int
    already_learned: int
    duplicates: int
    skipped: tuple[Skipped, ...]
    known_classes: tuple[str, ...] = ()
    """Classes among the used images that an earlier round introduced."""
    removed: int = 0
    """Images that were learned before and are forgotten now."""
    passed_over: tuple[PassedOver, ...] = ()
    """Files in folders that are no images by their suffix."""

    @staticmethod
    def of(
        listing: Listing, found: Features[LabelledImage], skipped: tuple[Skipped, ...]
    ) -> "Intake":
        """Of DATA all of whose images were new."""
        return Intake(
            used=len(found.images),
            from_cache=found.from_cache,
            already_learned=0,
            duplicates=listing.duplicates,
            skipped=skipped,
            passed_over=listing.passed_over,
        )


NOTHING = Intake(0, 0, 0, 0, ())
"""Where no image was given, or none was looked at."""


def listed(data: str, columns: Columns, progress: Progress) -> Listing:
    """What DATA holds, class folders without images too.

    Args:
        data: a folder, a table or "-".
        columns: of a table.
        progress: told the phase "reading".

    Raises:
        UsageError, DataError: see `images.scan`.
    """
    return images.scan(
        data, columns=columns, progress=lambda done, total: progress("reading", done, total)
    )


def scan(data: str, columns: Columns, progress: Progress) -> Listing:
    """The same, where a class folder without images is an error, and what is odd is said.

    Args:
        data: as for `listed`.
        columns: as for `listed`.
        progress: as for `listed`.

    Raises:
        UsageError, DataError: see `images.scan`.
    """
    listing = listed(data, columns, progress)
    if listing.empty_classes:
        raise DataError(
            f"Expected images in every class folder of {data}. Received: no image in "
            f"{named(listing.empty_classes)}. Add images, or remove the folder."
        )
    if listing.passed_over:
        log.warning(
            "%d files in %s are no images by their suffix and were passed over: %s",
            listing.ignored,
            data,
            images.passed_text(listing.passed_over),
        )
    if listing.parts:
        log.warning(
            "every class folder of %s is divided into %s, which are read together",
            data,
            named(listing.parts),
        )
    return listing


def unlearned(
    listing: Listing, ledger: Mapping[str, str]
) -> tuple[list[LabelledImage], list[Skipped]]:
    """The images that the run has not learned, and those it learned under another label."""
    unknown = [image for image in listing.images if image.sha256 not in ledger]
    refused = [
        Skipped(str(image.path), f"it was learned before as {ledger[image.sha256]!r}")
        for image in listing.images
        if ledger.get(image.sha256, image.label) != image.label
    ]
    return unknown, refused


def named(names: Collection[str], most: int = 10) -> str:
    """Class names for a message, shortened when there are many."""
    shown = ", ".join(repr(name) for name in sorted(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def readable(
    listing: Listing, found: Features[LabelledImage], refused: Sequence[Skipped], max_bad: float
) -> tuple[Skipped, ...]:
    """The images of DATA that were left out, if they are few enough to go on.

    Args:
        listing: what DATA holds.
        found: the features of its images.
        refused: images that were not looked at, because the run knows them under another label.
        max_bad: largest share of left out images.

    Raises:
        DataError: there are more, or nothing is left of a class.
    """
    skipped = (*listing.skipped, *refused, *found.skipped)
    warn_of_tones(found.tones)
    images.reject_bad(listing.total, skipped, max_bad, listing.lost)
    left_out = {entry.path for entry in skipped}
    usable = {image.label for image in listing.images if str(image.path) not in left_out}
    if lost := set(listing.named_classes) - usable:
        raise DataError(
            f"Expected readable images in every class. Received: none left in {named(lost)}; the "
            f"first that was left out is {skipped[0].path} ({skipped[0].reason}). "
            "Repair the files, or remove the class."
        )
    return skipped


def warn_of_tones(tones: Tones) -> None:
    """Warn of images that are hardly more than one colour, as far as they were decoded."""
    if tones.warning:
        log.warning("%s", tones.warning)


def registered(
    parent: Sequence[RegisteredClass], labels: Collection[str], number: int
) -> tuple[RegisteredClass, ...]:
    """The registry with the classes that are new, in sorted order, behind the known ones."""
    known = {entry.name for entry in parent}
    new = sorted(set(labels) - known)
    return (*parent, *(RegisteredClass(name, number) for name in new))


def require_testable(
    test: str | None,
    columns: Columns,
    classes: Collection[str],
    progress: Progress,
    renamed: Mapping[str, str] = NO_NAMES,
) -> None:
    """Refuse, before anything takes long, images set aside that could not be tested.

    Standard input can be read once alone: what it holds is seen when it is tested.

    Raises:
        UsageError, DataError: there are none, or they are of other classes.
    """
    if test not in (None, "-"):
        listing = scan(test, columns, progress)
        require_known_classes(listing, classes, "Leave them out of --test.", renamed)


def require_test(
    test: str | None,
    columns: Columns,
    classes: Collection[str],
    progress: Progress,
    renamed: Mapping[str, str] = NO_NAMES,
) -> None:
    """As `require_testable`, before a training: standard input is refused too.

    Raises:
        UsageError, DataError: as there.
    """
    if test == "-":
        raise UsageError(
            "Expected a folder or a table for --test where the backbone is trained. "
            "Received: test='-'. Write the lines to a file."
        )
    require_testable(test, columns, classes, progress, renamed)


def require_outside(out: Path, data: str | None) -> None:
    """Raise UsageError where a new run would lie in DATA, and be a class the next time."""
    if data is None or not Path(data).is_dir():
        return
    if out.resolve().is_relative_to(Path(data).resolve()):
        raise UsageError(
            f"Expected a run outside of DATA, whose folders are classes. Received: {out}, which is "
            f"in {data}. Choose another --out."
        )


def require_classes(current: Round) -> None:
    """Raise UsageError where a round knows no class yet."""
    if not current.classes:
        run = current.folder.parent.parent
        raise UsageError(
            f"Expected a run that knows classes. Received: {run}, which was trained without "
            f"labels. Give it some with `tlcli extend-classes {run} DATA`."
        )


def require_known_classes(
    listing: Listing, known: Collection[str], advice: str, renamed: Mapping[str, str] = NO_NAMES
) -> None:
    """Raise DataError naming the classes of DATA that the run does not know.

    Args:
        listing: of DATA.
        known: class names.
        advice: what to do.
        renamed: names that classes had before → what they are called now.
    """
    if unknown := set(listing.classes) - set(known):
        raise DataError(
            f"Expected classes that the run knows. Received: {named(unknown)}. "
            f"{said_of(unknown, renamed)}{perhaps(unknown - renamed.keys(), known)}{advice}"
        )
