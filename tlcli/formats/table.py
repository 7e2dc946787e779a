"""The formats: how a file is named, written and run, and what that needs."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tlcli.errors import UsageError, require_choice
from tlcli.formats import keras_file, litert, onnx_file, openvino_file, saved_model
from tlcli.formats.source import Source
from tlcli.formats.two_files import Moved


@dataclass(frozen=True)
class Format:
    """One way to hand a classifier on."""

    suffix: str
    """Of its file; empty: it is a folder."""
    write: Callable[[Source, Path], None]
    """Write it to a path that is not there."""
    run: Callable[[Path, NDArray[np.float32]], NDArray[np.float32]]
    """Probabilities (n, C) of raw images (n, S, S, 3), by the format's own runtime."""
    packages: tuple[str, ...] = ()
    """What must be importable, beside what tlcli needs itself."""
    second_suffix: str | None = None
    """Of a second file of the same stem."""
    moved: Moved | None = None
    """How the file changes when the places that it names in the second one move."""
    int8: bool = False
    """Whether weights and activations may have 8 bits."""

    def require_packages(self) -> None:
        """Raise UsageError unless all that the format needs is installed."""
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise UsageError(
                f"Expected the packages that this format needs. Received: {', '.join(missing)} "
                "not installed. Run: pip install 'tlcli[export]'"
            )


FORMATS = {
    "keras": Format(".keras", keras_file.write, keras_file.run),
    "savedmodel": Format("", saved_model.write, saved_model.run),
    "litert": Format(".tflite", litert.write, litert.run, ("ai_edge_litert",), int8=True),
    "onnx": Format(".onnx", onnx_file.write, onnx_file.run, ("onnx", "tf2onnx", "onnxruntime")),
    "openvino": Format(
        ".xml",
        openvino_file.write,
        openvino_file.run,
        ("openvino",),
        second_suffix=".bin",
        moved=openvino_file.moved,
    ),
}


def format_of(name: str) -> Format:
    """The format of a name; raises UsageError, listing the formats, where there is none."""
    require_choice("a format", name, FORMATS)
    return FORMATS[name]
