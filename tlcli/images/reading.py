"""Files: of those on disk only regular ones are opened, hashed in blocks, mapped by threads."""

import hashlib
import io
import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from tlcli import files, urls
from tlcli.errors import BadImage
from tlcli.urls import Place, Url

BLOCK_BYTES = 1 << 20

MISSING = "the file does not exist"

PROCESSORS = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)
"""How many this process may use."""

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def reading(path: Place) -> Iterator[BinaryIO]:
    """Open a regular file for reading; links are followed. What is at a URL is there as a whole.

    The kind of file is looked at before it is opened: opening a FIFO would wait forever for a
    writer, opening a device may do anything.

    Raises:
        BadImage: the file is missing, not regular, not permitted, or fails while it is read.
    """
    try:
        if isinstance(path, Url):
            yield io.BytesIO(urls.read(path)[0])
            return
        _require_regular(path)
        with path.open("rb") as file:
            yield file
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        files.require_resources(error, path)
        raise BadImage(readable(error)) from error


def readable(error: OSError | ValueError) -> str:
    """Return a system error as a short phrase without the path."""
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MISSING
    if isinstance(error, PermissionError):
        return "no permission to read the file"
    if isinstance(error, OSError) and error.strerror:
        return f"the file cannot be read ({error.strerror})"
    return f"the file cannot be read ({error})"


def digest(file: BinaryIO) -> str:
    """Return the SHA-256 of a stream's bytes as 64 hexadecimal digits."""
    running = hashlib.sha256()
    while block := file.read(BLOCK_BYTES):
        running.update(block)
    return running.hexdigest()


def map_ahead(
    function: Callable[[T], R], items: Iterable[T], workers: int, ahead: int
) -> Generator[R, None, None]:
    """Yield `function(item)` in input order, worked out by threads.

    At most `ahead` results wait at a time. Closing the generator (or an exception, such as
    Ctrl-C, in the loop that reads it) drops what has not begun and waits for what has.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="images")
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _require_regular(path: Path) -> None:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise BadImage("a folder, not a file")
    if not stat.S_ISREG(mode):
        raise BadImage("not a regular file (a pipe, socket or device)")
