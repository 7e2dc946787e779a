"""Images at URLs such as `s3://bucket/cat/1.jpg`: whatever fsspec has a file system for.

Everybody else asks for a `Place`, a path or a URL. What a file system raises becomes an OSError,
so that it is told as the failure of a disk is; an object is read whole, or not at all.
"""

import io
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tlcli.errors import TlcliError, UsageError

ATTEMPTS = 3
"""To read an object, where the failure may be of the network."""

WAIT_SECONDS = 0.2
"""Before the second attempt; twice as long before the third."""

READERS = 16
"""Threads that read objects: they wait more than they work."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_LOCAL = ("file", "local")
_CHAIN = "::"

_TAGS = ("ETag", "etag", "generation", "md5Hash")
"""What stores call that which changes with every content of an object. Times are too coarse."""

_FINAL = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
"""Answers, which are the same when they are asked for again."""


@dataclass(frozen=True)
class Url:
    """Where an image, a table or a folder lies that is on no disk of this machine."""

    text: str
    """Without a slash at its end."""
    version: "Version | None" = field(default=None, compare=False, repr=False)
    """Of the object, where its folder's listing says so."""

    @property
    def name(self) -> str:
        """The last part."""
        return self.text.rsplit("/", 1)[-1]

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """Of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def scheme(self) -> str:
        """Like `s3`."""
        return self.text.partition("://")[0].lower()

    @property
    def parent(self) -> "Url":
        """What it lies in."""
        return Url(self.text.rsplit("/", 1)[0])

    def absolute(self) -> "Url":
        """The same: it counts from nothing."""
        return self

    def __truediv__(self, name: str) -> "Url":
        """What lies in it."""
        return Url(f"{self.text}/{name}")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Version:
    """What a store says of an object."""

    size: int | None
    tag: str
    """Changes with the content; empty where the store has no such thing."""

    @staticmethod
    def of(info: dict[str, Any]) -> "Version":
        """Of what fsspec tells."""
        size = info.get("size")
        tags = [f"{key}={info[key]}" for key in _TAGS if info.get(key)]
        strong = [tag for tag in tags if "=W/" not in tag]
        return Version(size if isinstance(size, int) else None, " ".join(strong))


Place = Path | Url
"""A file or a folder, here or elsewhere."""


def place(given: str | os.PathLike[str] | Url) -> Place:
    """Return the path or the URL that a text is; `file://` is a path."""
    if isinstance(given, Url):
        return given
    text = os.fspath(given)
    found = _URL.match(text)
    if found is None:
        return Path(text)
    if found[1].lower() in _LOCAL:
        return Path(text[found.end() :])
    return Url(text[: found.end()] + text[found.end() :].rstrip("/"))


def lies_in(inner: Place, outer: Place) -> bool:
    """Whether a place is another, or in it."""
    if isinstance(inner, Url) or isinstance(outer, Url):
        return f"{inner}/".startswith(f"{outer}/")
    return inner.resolve().is_relative_to(outer.resolve())


def opened(given: Place) -> BinaryIO:
    """Return the bytes of what a user named, as an open file.

    Raises:
        UsageError: a package is missing.
        OSError: they cannot be read.
    """
    return io.BytesIO(read(given)[0]) if isinstance(given, Url) else given.open("rb")


def is_folder(url: Url) -> bool:
    """Whether there is a folder.

    Raises:
        UsageError: a package is missing.
        OSError: there is nothing, or it cannot be asked for.
    """
    return bool(_info(url)["type"] == "directory")


def children(url: Url) -> tuple[list[Url], list[Url]]:
    """Return the folders that lie in one, and the objects.

    Raises:
        UsageError, OSError: see `is_folder`.
    """
    with _answering(url):
        system, path = _located(url)
        system.invalidate_cache(path)
        entries = system.ls(path, detail=True)
    folders, objects = [], []
    for entry in entries:
        name = str(entry["name"]).rstrip("/").rsplit("/", 1)[-1]
        # Stores have empty objects that stand for folders: their name is that of the folder.
        if not name or str(entry["name"]).rstrip("/") == path.rstrip("/"):
            continue
        if entry["type"] == "directory":
            folders.append(url / name)
        else:
            objects.append(replace(url / name, version=Version.of(entry)))
    return folders, objects


def matching(url: Url) -> list[Url]:
    """Return what a pattern stands for, sorted; nothing where it is a name.

    Raises:
        UsageError, OSError: see `is_folder`.
    """
    with _answering(url):
        system, path = _located(url)
        if system.exists(path):
            return []
        root = url.text.removesuffix(path.lstrip("/"))
        found = (Url(root + str(name).lstrip("/")) for name in system.glob(path))
        return sorted(found, key=str)


def version(url: Url) -> Version:
    """Return what its store says of an object.

    Raises:
        UsageError, OSError: see `is_folder`.
    """
    return url.version or Version.of(_info(url))


def read(url: Url) -> tuple[bytes, Version]:
    """Return all bytes of an object, and what its store said of it afterwards.

    Raises:
        UsageError: a package is missing.
        OSError: there is none, it cannot be read, or only a part of it came.
    """
    for attempt in range(ATTEMPTS - 1):
        try:
            return _read(url)
        except _FINAL:
            raise
        except OSError:
            time.sleep(WAIT_SECONDS * 2**attempt)
    return _read(url)


def _read(url: Url) -> tuple[bytes, Version]:
    with _answering(url):
        system, path = _located(url)
        content = bytes(system.cat_file(path))
    found = Version.of(_info(url))
    if found.size is not None and found.size != len(content):
        raise OSError(f"{len(content)} of {found.size} bytes came, or it was changed meanwhile")
    return content, found


def _info(url: Url) -> dict[str, Any]:
    with _answering(url):
        system, path = _located(url)
        system.invalidate_cache(path)
        return dict(system.info(path))


def _located(url: Url) -> tuple[Any, str]:
    """The file system of a URL, and the path in it; fsspec has one for each thread.

    Raises:
        UsageError: a package is missing.
        OSError: there is no such file system.
    """
    if _CHAIN in url.text:  # would be taken for a chain, as of an archive in a store
        raise OSError(f"{_CHAIN} in a URL is not supported")
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(
            f"Expected fsspec for {url}. Received: the package fsspec is not installed. Install "
            "it with `pip install 'tlcli[urls]'`, here and where workers are."
        ) from error
    try:
        return fsspec.url_to_fs(url.text)  # type: ignore[no-any-return]
    except ImportError as error:
        raise UsageError(
            f"Expected a package for {url.scheme}:// URLs. Received: {url}, and none that is "
            f"installed ({_line(error)}). Install it, here and where workers are."
        ) from error


@contextmanager
def _answering(url: Url) -> Iterator[None]:
    """Turn whatever a file system raises into an OSError; each has errors of its own."""
    try:
        yield
    except (OSError, TlcliError):
        raise
    except Exception as error:
        raise OSError(f"{url.scheme}: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
