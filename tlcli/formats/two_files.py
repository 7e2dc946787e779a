"""An export of two files: old or new at any instant, though they get their names one by one.

The first file names places in the second. So the second can hold what two versions of the first
want of it, the old at its beginning and the new behind it:

    step   second file   first file
    0      old           old
    1      old new       old
    2      old new       new, with places behind the old
    3      new new       the same
    4      new new       new
    5      new           new

Every step is a rename that is flushed before the next one.
"""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from tlcli import files

_BLOCK = 4096
"""Places move by a multiple of these bytes, so that what is aligned stays so."""

Moved = Callable[[bytes, int], bytes]
"""The content of the first file when the places it names in the second move by some bytes."""

Step = tuple[Path, Path]
"""What is renamed, and to what."""


def publish(draft: Path, out: Path, second_suffix: str, moved: Moved) -> None:
    """Rename both files of a draft into place.

    Args:
        draft: the first file; what is made on the way lies beside it, too.
        out: the name of the first file.
        second_suffix: of both second files, which have the stems of the first.
        moved: see `Moved`.

    Raises:
        OSError: the old pair is as it was, or the new one in place.
    """
    second, place = draft.with_suffix(second_suffix), out.with_suffix(second_suffix)
    if out.exists() and place.exists():
        _take(_over_an_earlier_pair(draft, out, second, place, moved))
        return
    # Without its second file the first one is of no use, and would not be the new one's.
    out.unlink(missing_ok=True)
    try:
        _take([(second, place), (draft, out)])
    except OSError:
        for path in (out, place):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise


def settle(left: Path, out: Path, second_suffix: str) -> None:
    """Remove the second file that a killed first export has left without the first.

    Args:
        left: the folder of its draft.
        out: the name of the first file.
        second_suffix: see `publish`.
    """
    place = out.with_suffix(second_suffix)
    was_moved = (left / out.name).is_file() and not (left / place.name).exists()
    if was_moved and not out.exists():
        place.unlink(missing_ok=True)


def _over_an_earlier_pair(
    draft: Path, out: Path, second: Path, place: Path, moved: Moved
) -> list[Step]:
    sizes = (place.stat().st_size, second.stat().st_size)
    offset = -(-max(sizes) // _BLOCK) * _BLOCK
    steps = [
        (_joined(place, second, offset, draft.with_name("old new")), place),
        (draft.with_name("moved"), out),
        (_joined(second, second, offset, draft.with_name("new new")), place),
        (draft, out),
        (second, place),
    ]
    draft.with_name("moved").write_bytes(moved(draft.read_bytes(), offset))
    return steps


def _joined(first: Path, second: Path, offset: int, target: Path) -> Path:
    """A file with one at its beginning and another from `offset` on."""
    with target.open("wb") as stream:
        for path, start in ((first, 0), (second, offset)):
            stream.seek(start)
            with path.open("rb") as source:
                shutil.copyfileobj(source, stream)
    return target


def _take(steps: list[Step]) -> None:
    for source, _ in steps:
        files.sync(source)
    # The draft tells after a kill that the second file belongs to it.
    for folder in (steps[0][0].parent, steps[0][1].parent):
        files.sync(folder)
    for source, target in steps:
        source.replace(target)
        files.sync(target.parent)
