"""The parts of a run, which have to lie in its folder."""

import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tlcli import files
from tlcli.errors import RunError

FINGERPRINT = re.compile(r"[0-9a-f]{64}")

BUILDING = ".building-"

TRAINING = "training"

LOCK = "lock"


@contextmanager
def looking_at(path: Path) -> Iterator[None]:
    """Turn the failures of a disk, or of permissions, into a RunError that names the run."""
    try:
        yield
    except OSError as error:
        files.require_resources(error, path)
        raise RunError(
            f"Expected a run that can be read. Received: {error.filename or path}, "
            f"{error.strerror or error}. Check the disk and the permissions."
        ) from error


def require_own(path: Path, is_kind: Callable[[int], bool] = stat.S_ISDIR) -> None:
    """Refuse a part of a run that lies elsewhere, or is something else; it may be missing.

    Raises:
        RunError: it does, or is.
    """
    with looking_at(path), suppress(FileNotFoundError, NotADirectoryError):
        if not is_kind(mode := path.lstat().st_mode):
            found = "a symbolic link" if stat.S_ISLNK(mode) else "something else"
            raise RunError(
                f"Expected a run whose parts lie in it. Received: {path} is {found}. "
                "Put in its place what belongs there."
            )


def rounds_folder(path: Path) -> Path:
    """Where the committed rounds of a run are."""
    return path / "rounds"


def projections_folder(path: Path) -> Path:
    """Where the learned projections of a run are, each named by its content."""
    return path / "projections"


def backbones_folder(path: Path) -> Path:
    """Where the backbones of a run are."""
    return path / "backbones"
