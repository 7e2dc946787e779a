"""Regular files alone: no pipe that waits forever, no device, no folder."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from tlcli.strict.values import Malformed


@contextmanager
def opened(path: Path, *, links: bool = False) -> Iterator[BufferedReader]:
    """Open a regular file for reading.

    Args:
        path: of the file.
        links: whether it may be a symbolic link, as where a user names it.

    Raises:
        OSError: there is none, or it is a link, a folder, a pipe, a socket or a device.
    """
    with os.fdopen(_descriptor(path, links), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError("it is not a regular file")
        yield stream


def _descriptor(path: Path, links: bool) -> int:
    follow = 0 if links else os.O_NOFOLLOW
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | follow)
    except OSError as error:
        if error.errno == errno.ELOOP and not links:
            raise OSError("it is a symbolic link") from error
        raise


def content_of(path: Path, most_bytes: int, *, links: bool = False) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: see `opened`.
        Malformed: there are more than `most_bytes`.
    """
    with opened(path, links=links) as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise Malformed(f"it is longer than {most_bytes} bytes")
    return content
