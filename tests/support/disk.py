"""What lies on the disk, and a disk that is full, without one."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tlcli.images import ImageFile


@contextmanager
def largest_file(byte_count: int) -> Iterator[None]:
    """Writing beyond this size fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (byte_count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def on_disk(image: ImageFile) -> Path:
    """The path of an image that is not in a store of objects."""
    assert isinstance(image.path, Path)
    return image.path
