"""litert: one `.tflite` file in float32 or int8; class names in labels.txt, appended as a zip."""

import importlib
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones
from tlcli.formats import saved_model
from tlcli.formats.source import LABELS, OUTPUT, Source

_EARLIEST_DATE = (1980, 1, 1, 0, 0, 0)


def write(source: Source, path: Path) -> None:
    """Write the file with the signature `serving_default`: image → probabilities.

    The names go where TFLite's metadata puts files: `unzip MODEL.tflite labels.txt` gives them.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        graph = Path(folder) / "graph"
        saved_model.write_graph(source.model(), graph)
        path.write_bytes(_converter(source, graph).convert())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS, _EARLIEST_DATE), source.labels)


def _converter(source: Source, graph: Path) -> Any:
    """Only operations that LiteRT has without TensorFlow beside it."""
    backbones.keras_module()
    import tensorflow

    lite = tensorflow.lite
    converter = lite.TFLiteConverter.from_saved_model(str(graph))
    # Weights become constants, without which int8 has nothing to quantise.
    converter.experimental_enable_resource_variables = False
    converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS]
    if source.calibration is not None:
        converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.optimizations = [lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _samples(source)
    return converter


def _samples(source: Source) -> Iterator[list[NDArray[np.float32]]]:
    assert source.calibration is not None
    for image in source.calibration:
        yield [image[None].astype(np.float32)]


def run(path: Path, images: NDArray[Any]) -> NDArray[np.float32]:
    """Probabilities (n, C) of images (n, S, S, 3), one at a time, by LiteRT."""
    runtime = importlib.import_module("ai_edge_litert.interpreter")
    interpreter = runtime.Interpreter(model_path=str(path))
    serve = interpreter.get_signature_runner("serving_default")
    received = [serve(image=image[None].astype(np.float32))[OUTPUT][0] for image in images]
    return np.array(received, np.float32)
