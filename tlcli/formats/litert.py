"""litert: one `.tflite` file in float32 or int8; class names in labels.txt, appended as a zip."""

import importlib
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli.formats import saved_model
from tlcli.formats.litert_metadata import with_metadata
from tlcli.formats.source import IMAGES, LABELS, OUTPUT, Source

MODEL_NAME = "image classifier"

_EARLIEST_DATE = (1980, 1, 1, 0, 0, 0)


def write(source: Source, path: Path) -> None:
    """Write the file with the signature `serving_default`: image → probabilities.

    Its metadata says what MediaPipe Tasks, ML Kit and the Task Library ask for. The names go where
    it puts files: `unzip MODEL.tflite labels.txt` gives them.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        graph = Path(folder) / "graph"
        saved_model.write_graph(source.model(), graph)
        path.write_bytes(with_metadata(_converted(source, graph), MODEL_NAME))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(LABELS, _EARLIEST_DATE), source.labels)
        archive.writestr(zipfile.ZipInfo(IMAGES, _EARLIEST_DATE), source.drawing)


def _converted(source: Source, graph: Path) -> bytes:
    """Only operations that LiteRT has without TensorFlow beside it."""
    import tensorflow

    lite = tensorflow.lite
    converter = lite.TFLiteConverter.from_saved_model(str(graph))
    # Weights become constants, without which int8 has nothing to quantise.
    converter.experimental_enable_resource_variables = False
    converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS]
    return bytes(converter.convert() if source.calibration is None else _int8(source, converter))


def _int8(source: Source, converter: Any) -> bytes:
    """All but the softmax in 8 bits, which would make probabilities multiples of 1/256.

    The debugger is TensorFlow's way to leave out a kind of operation.
    """
    import tensorflow

    lite = tensorflow.lite
    converter.optimizations = [lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _samples(source)
    debugger = lite.experimental.QuantizationDebugger(
        converter=converter,
        debug_dataset=lambda: _samples(source),
        debug_options=lite.experimental.QuantizationDebugOptions(denylisted_ops=["SOFTMAX"]),
    )
    return bytes(debugger.get_nondebug_quantized_model())


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
