"""Every operation on files below a folder that Python makes, seen before and after it happens.

What libraries in C do by themselves is not seen: tlcli packs HDF5 files in memory and writes them
itself, and what converters write lies in a hidden folder until tlcli renames it.
"""

import builtins
import contextlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tlcli.files import drafts

CHANGES = frozenset(
    ["create", "write", "mkdir", "rename", "exchange", "link", "unlink", "rmdir", "sync"]
)
"""What leaves the disk otherwise than it was, or makes sure of it."""

LOOKS = frozenset(["read", "list", "stat"])


@dataclass(frozen=True)
class Operation:
    """One call."""

    kind: str
    path: str
    target: str | None = None
    """Of a rename, an exchange, a link."""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.path, self.target)))


Hook = Callable[[Operation], None]


def nothing(operation: Operation) -> None:
    """A hook."""


def of_descriptor(descriptor: int) -> str:
    """Where an open file is."""
    return os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(" (deleted)")  # noqa: PTH115


class Watched:
    """Tells hooks of the operations below a folder, while `watching`."""

    def __init__(self, folder: Path, before: Hook = nothing, after: Hook = nothing) -> None:
        self._top = str(folder.resolve())
        self._before, self._after = before, after
        self._inside = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """For the block."""
        with pytest.MonkeyPatch.context() as patch:
            for name, kind in ONE_PATH.items():
                patch.setattr(os, name, self._one_path(getattr(os, name), kind))
            for name, kind in TWO_PATHS.items():
                patch.setattr(os, name, self._two_paths(getattr(os, name), kind))
            for name in ("fsync", "fdatasync"):
                patch.setattr(os, name, self._of_descriptor(getattr(os, name), "sync"))
            patch.setattr(os, "sendfile", self._of_descriptor(os.sendfile, "write"))
            patch.setattr(os, "open", self._os_open(os.open))
            patch.setattr(drafts, "_exchanged", self._two_paths(drafts._exchanged, "exchange"))
            opened = self._open(io.open)
            patch.setattr(io, "open", opened)
            patch.setattr(builtins, "open", opened)
            yield

    def told(self, operation: Operation, call: Callable[[], Any]) -> Any:
        """What the call gives; the hooks hear of it where it is below the folder."""
        within = (operation.path + "/").startswith(self._top + "/")
        if self._inside or not within:
            return call()
        with self._quietly():
            self._before(operation)
        answer = call()
        with self._quietly():
            self._after(operation)
        return answer

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Hooks use the disk as well."""
        self._inside = True
        try:
            yield
        finally:
            self._inside = False

    def _one_path(self, call: Any, kind: str) -> Any:
        def patched(path: Any = ".", *rest: Any, **options: Any) -> Any:
            full = _absolute(path, options.get("dir_fd"))
            return self.told(Operation(kind, full), lambda: call(path, *rest, **options))

        return patched

    def _two_paths(self, call: Any, kind: str) -> Any:
        def patched(path: Any, target: Any, *rest: Any, **options: Any) -> Any:
            ends = (_absolute(path), _absolute(target))
            return self.told(Operation(kind, *ends), lambda: call(path, target, *rest, **options))

        return patched

    def _of_descriptor(self, call: Any, kind: str) -> Any:
        def patched(descriptor: Any, *rest: Any, **options: Any) -> Any:
            number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
            operation = Operation(kind, of_descriptor(number))
            return self.told(operation, lambda: call(descriptor, *rest, **options))

        return patched

    def _os_open(self, call: Any) -> Any:
        def patched(path: Any, flags: int, *rest: Any, **options: Any) -> Any:
            kind = "create" if flags & (os.O_CREAT | os.O_TRUNC) else "read"
            operation = Operation(kind, _absolute(path, options.get("dir_fd")))
            return self.told(operation, lambda: call(path, flags, *rest, **options))

        return patched

    def _open(self, call: Any) -> Any:
        def patched(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if isinstance(path, int):
                return call(path, mode, *rest, **options)
            writes = bool(set(mode) & set("wxa+"))
            operation = Operation("create" if writes else "read", _absolute(path))
            if "b" in mode and writes and "+" not in mode and not rest and not options:
                return self.told(operation, lambda: io.BufferedWriter(_Raw(self, path, mode)))
            return self.told(operation, lambda: call(path, mode, *rest, **options))

        return patched


class _Raw(io.FileIO):
    """A file that tells of what is written into it."""

    def __init__(self, watched: Watched, path: Any, mode: str) -> None:
        self._watched = watched
        super().__init__(os.fspath(path), mode.replace("b", ""))

    def write(self, content: Any) -> Any:
        operation = Operation("write", _absolute(self.name))
        try:
            return self._watched.told(operation, lambda: super(_Raw, self).write(content))
        except BaseException:
            with contextlib.suppress(OSError):
                super().close()  # nothing is flushed again when it is thrown away
            raise


ONE_PATH = {
    "mkdir": "mkdir",
    "unlink": "unlink",
    "remove": "unlink",
    "rmdir": "rmdir",
    "listdir": "list",
    "scandir": "list",
    "stat": "stat",
    "lstat": "stat",
}
TWO_PATHS = {"rename": "rename", "replace": "rename", "link": "link"}


def _absolute(path: Any, folder: int | None = None) -> str:
    if isinstance(path, int):
        return of_descriptor(path)
    text = os.fsdecode(path)
    if folder is not None:
        return os.path.join(of_descriptor(folder), text)  # noqa: PTH118
    return os.path.abspath(text)  # noqa: PTH100
