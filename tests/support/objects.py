"""A store of objects in a folder, with failures of the network: `objects://…` for fsspec.

`objects://photos/cat/1.png` is the file `photos/cat/1.png` below the folder that the environment
variable OBJECTS names. By the name of an object:

cut-….png       half of its bytes come, every time
short-….png     half of its bytes come, the first time
gone-….png      the connection ends with an error that is no OSError
secret-….png    may not be read
"""

import hashlib
import os
from pathlib import Path
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

SCHEME = "objects"
BEGUN: set[str] = set()
READ: list[str] = []
"""Names of the objects that were read by this process."""


class Objects(AbstractFileSystem):  # type: ignore[misc]
    """Objects as of a store: no times, an ETag, folders that are none."""

    protocol = SCHEME
    tagged = True
    """Whether the store has ETags."""

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        """What lies in a folder; an empty object stands for the folder, as in some stores."""
        place = self._place(path)
        if place.name == "forbidden":
            raise PermissionError("Access Denied")
        entries = [self.info(f"{path}/{child.name}") for child in place.iterdir()]
        entries.append({"name": f"{path}/", "size": 0, "type": "file"})
        return entries if detail else [entry["name"] for entry in entries]

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Of an object or a folder."""
        place = self._place(path)
        if place.is_dir():
            return {"name": path, "size": 0, "type": "directory"}
        content = place.read_bytes()
        tag = {"ETag": hashlib.md5(content).hexdigest()} if self.tagged else {}
        return {"name": path, "size": len(content), "type": "file", **tag}

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
        """The bytes of an object, or some of them."""
        place = self._place(path)
        content = place.read_bytes()
        kind = place.name.split("-")[0]
        if kind == "secret":
            raise PermissionError("Access Denied")
        if kind == "gone":
            raise EOFError("the server has hung up")
        READ.append(place.name)
        first = place.name not in BEGUN
        BEGUN.add(place.name)
        half = kind == "cut" or (kind == "short" and first)
        return content[: len(content) // 2] if half else content

    def _place(self, path: str) -> Path:
        return Path(os.environ["OBJECTS"]) / str(self._strip_protocol(path))


def install() -> None:
    """Make fsspec know the scheme, in this process."""
    fsspec.register_implementation(SCHEME, Objects, clobber=True)
