"""Files of moments: what a process learned of its share of images, for the run that takes it in."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tlcli import files, strict
from tlcli.errors import RunError
from tlcli.memory.state import Memory
from tlcli.memory.storage import FORMAT, content_of, memory_from
from tlcli.strict import Malformed
from tlcli.strict.arrays import ArrayFile, array_file

MOST_SHARDS = 10**6

_CHECKSUM_BYTES = 32

_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class Shard:
    """Which part of which DATA a file of moments has."""

    number: int
    """From 1."""
    count: int
    data: str
    """SHA-256 of all that DATA holds."""


def save_file(memory: Memory, path: Path, shard: Shard | None = None) -> None:
    """Write moments and ledger as one file that needs no round: HDF5 and its SHA-256.

    Args:
        memory: with moments.
        path: a file that is there is replaced.
        shard: None where the file has all of DATA.

    Raises:
        StorageError: it cannot be written.
    """
    assert memory.moments is not None
    alone = Memory(
        "moments",
        memory.ledger,
        memory.moments,
        memory.exact,
        memory.kinds,
        groups=memory.groups,
    )
    arrays, attributes = content_of(alone)
    if shard is not None:
        attributes |= {"shard": shard.number, "shards": shard.count, "data": shard.data}
    content = files.pack_arrays(arrays, attributes)
    with files.published(path) as stream:
        stream.write(content + hashlib.sha256(content).digest())


def load_file(path: Path) -> Memory:
    """Read what `save_file` wrote, after all its bytes were compared with its checksum.

    Raises:
        RunError: the file is damaged, newer than this program, or something else.
    """
    with _file_of_moments(path) as file:
        memory = memory_from(file)
        if not memory.keeps.moments or memory.keeps.rows:
            raise Malformed(f"it is a memory {memory.setting!r}")
        if memory.classes != set(memory.ledger.values()):
            raise Malformed("it has a class without an image")
        return memory


def shard_of(path: Path) -> Shard | None:
    """Which part of DATA a file of moments has; None where it has all, or does not say.

    Raises:
        RunError: as `load_file`.
    """
    with _file_of_moments(path) as file:
        if not file.says("shards"):
            return None
        count = file.attribute("shards", strict.whole(1, MOST_SHARDS))
        number = file.attribute("shard", strict.whole(1, count))
        return Shard(number, count, file.attribute("data", strict.NAME))


@contextmanager
def _file_of_moments(path: Path) -> Iterator[ArrayFile]:
    """The arrays of a file, after all its bytes were compared with its checksum."""
    try:
        with strict.opened(path, links=True) as stream:
            _compare_checksum(stream)
            with array_file(stream) as file:
                files.require_format(path, file, FORMAT)
                yield file
    except (OSError, ValueError) as error:
        files.require_resources(error, path)
        raise RunError(
            f"Expected a file that `tlcli moments` wrote. Received: {path} is damaged or "
            f"something else ({error}). Make it again with `tlcli moments RUN DATA --out FILE`."
        ) from error


def _compare_checksum(stream: BinaryIO) -> None:
    """Refuse a file whose end is not the SHA-256 of what is before it."""
    left = stream.seek(0, os.SEEK_END) - _CHECKSUM_BYTES
    stream.seek(0)
    hasher = hashlib.sha256()
    while block := stream.read(min(max(left, 0), _BLOCK_BYTES)):
        hasher.update(block)
        left -= len(block)
    if stream.read() != hasher.digest():
        raise Malformed("its checksum does not match")
