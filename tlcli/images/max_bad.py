"""--max-bad: the share of bad images that data may have."""

from collections.abc import Sequence

from tlcli.errors import DataError
from tlcli.images.missing_files import Lost
from tlcli.images.scanning import Skipped


def reject_bad(
    listing_total: int, skipped: Sequence[Skipped], max_bad: float, lost: Lost | None = None
) -> None:
    """Refuse data of which too large a share is bad.

    Args:
        listing_total: images and skipped files together, see `Listing.total`.
        skipped: all bad files.
        max_bad: largest acceptable share, 0 to 1.
        lost: what to say of paths that lead nowhere, see `Listing.lost`.

    Raises:
        DataError: more than `max_bad` of the files are bad.
    """
    share = len(skipped) / max(listing_total, len(skipped), 1)
    if share <= max_bad:
        return
    first = skipped[0]
    where = "" if lost is None else f"{lost.to_text()} "
    raise DataError(
        f"Expected at most {max_bad:.2%} bad images. Received: {len(skipped)} of {listing_total} "
        f"({share:.2%}), the first of them {first.path}: {first.reason}. {where}Repair or "
        "remove them, or raise the limit with --max-bad SHARE."
    )
