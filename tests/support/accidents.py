"""What happens to workers in tests, by the name of an image; Dask loads it into each of them.

deadly-….png      ends the process that decodes it, every time
once-….png        ends the process that decodes it, but for one that comes later
unseen-….png      is not there for a worker
failing-….png     raises an error that nobody expects
hold-….png        waits for a file ….go beside it, after it has left ….PID.held

Where these environment variables are set:

OBJECTS           workers know the URLs of `tests/support/objects.py`
HIDDEN            packages, with commas between, that a worker cannot import
VERSION           the version that a scheduler says it has
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.support import objects
from tests.support.disk import on_disk
from tlcli.errors import BadImage
from tlcli.images import decoding
from tlcli.images.decoding import Drawn
from tlcli.images.scanning import ImageFile
from tlcli.images.square import Square

_drawn = decoding._drawn_or_error


def dask_setup(server: Any) -> None:
    """Let accidents happen in this worker or scheduler."""
    if version := os.environ.get("VERSION"):
        server.handlers["versions"] = lambda: {"packages": {"distributed": version}}
    for name in filter(None, os.environ.get("HIDDEN", "").split(",")):
        sys.modules[name] = None  # type: ignore[assignment]
    decoding._drawn_or_error = _draw
    if "OBJECTS" in os.environ:
        objects.install()


def _draw(image: ImageFile, square: Square) -> Drawn | BadImage:
    kind = image.path.name.split("-")[0]
    if kind == "deadly" or (kind == "once" and _first_time(on_disk(image))):
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "unseen":
        return BadImage("the file does not exist")
    if kind == "failing":
        raise RuntimeError("nobody expects this")
    if kind == "hold":
        path = on_disk(image)
        path.with_suffix(f".{os.getpid()}.held").touch()
        while not path.with_suffix(".go").exists():
            time.sleep(0.05)
    return _drawn(image, square)


def _first_time(path: Path) -> bool:
    try:
        path.with_suffix(".done").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
