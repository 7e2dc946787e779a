"""Writing and running a format, with one kind of error for whatever a converter raises."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones, files
from tlcli.errors import StorageError, UsageError
from tlcli.formats.source import Source
from tlcli.formats.table import FORMATS


def write(name: str, source: Source, path: Path) -> None:
    """Write a classifier in a format of `FORMATS` to a path that is not there.

    Raises:
        UsageError: the format cannot express it.
        StorageError: the disk is full or the folder may not be written.
    """
    size = source.archive.stat().st_size
    try:
        with backbones.quiet():
            FORMATS[name].write(source, path)
    except Exception as error:
        if reason := files.why_full(error, path.parent, size):
            raise StorageError(
                f"Expected to be able to write {path.name}. Received: {reason}. "
                "Free space, or choose another --out."
            ) from error
        raise _refused(error, name, "express") from error


def run(name: str, path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The probabilities (n, C) that the format's own runtime gives for images (n, S, S, 3).

    Raises:
        UsageError: the runtime cannot run the file.
    """
    try:
        with backbones.quiet():
            return FORMATS[name].run(path, images.astype(np.float32))
    except Exception as error:
        raise _refused(error, name, "run") from error


def _refused(error: Exception, name: str, verb: str) -> UsageError:
    return UsageError(
        f"Expected a network that {name} can {verb}. Received: "
        f"{backbones.one_line(error).rstrip('.')}. Nothing was written: choose another --format."
    )
