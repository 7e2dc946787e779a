"""Train image classifiers by transfer learning and keep adding classes to them."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tlcli.library import OpenRun

__version__ = "0.1.0"

# A library does not print its warnings; the command line sets a handler of its own.
logging.getLogger("tlcli").addHandler(logging.NullHandler())


def open_run(path: str | Path, round: int | None = None, engine: str = "auto") -> "OpenRun":
    """Open a run for use from Python.

    Args:
        path: the run's folder.
        round: its number; None for the current one.
        engine: what runs the backbone: "auto", "keras" or "openvino".

    Raises:
        TlcliError: the run cannot be used; see errors.py.
    """
    from tlcli.library import OpenRun

    return OpenRun(path, round, engine)
