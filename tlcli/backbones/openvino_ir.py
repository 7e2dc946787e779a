"""Backbones as OpenVINO IR: exported from Keras once, then run on CPUs without TensorFlow.

The network is compiled for one image at a time, and every stream is one thread: no image has a
neighbour, so its features have the same bits in any order, in any number, on any number of cores.
That is also the fastest shape on a CPU, because the activations of one image stay in its caches.
The compiled network is not kept on disk: compiling takes 0.1 to 0.6 seconds
(docs/decisions/0002-openvino.md).
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli.backbones.runtime import openvino_core, openvino_module, silenced
from tlcli.errors import EngineUnavailable

XML = "openvino.xml"
WEIGHTS = "openvino.bin"


@dataclass(frozen=True)
class Precision:
    """A row of the table: in what numbers features are computed."""

    float32: bool = False
    """Whether they are those of Keras and of exported files."""
    capability: str | None = None
    """What OpenVINO must find in the processor; None where every processor has it."""


DEFAULT_PRECISION = "f32"

PRECISIONS = {
    DEFAULT_PRECISION: Precision(float32=True),
    "bf16": Precision(capability="BF16"),
}

TOLERANCE = 1e-4
"""Largest difference to Keras' features on the probe images, in units of their spread."""


def export(model: Any, folder: Path) -> None:
    """Write `openvino.xml` and `openvino.bin`: the same backbone gives the same bytes.

    Raises:
        EngineUnavailable: OpenVINO is not installed, or cannot express the network.
    """
    try:
        openvino = openvino_module()
        openvino.serialize(network(model, folder), folder / XML, folder / WEIGHTS)
    except Exception as error:
        raise EngineUnavailable(
            f"OpenVINO cannot express {model.name} ({one_line(error)})"
        ) from error


def network(model: Any, folder: Path) -> Any:
    """Return a `keras.Model` as an `openvino.Model` with one result, a matrix.

    Args:
        model: with one input.
        folder: for a draft, which is removed.

    Raises:
        Exception: whatever the converter raises of what OpenVINO cannot express.
    """
    draft = folder / "draft.xml"
    try:
        with silenced():
            model.export(str(draft), format="openvino", verbose=False)
        converted = openvino_core().read_model(draft)
    finally:
        for path in (draft, draft.with_suffix(".bin")):
            path.unlink(missing_ok=True)
    _keep_features_alone(converted)
    # The converter numbers what it makes by counters of the process.
    for index, operation in enumerate(converted.get_ordered_ops()):
        operation.set_friendly_name(f"{operation.get_type_name()}_{index}")
    return converted


def _keep_features_alone(network: Any) -> None:
    """Remove all results but the matrix of features.

    The converter makes results of activations with a gradient of their own, as the swish of
    EfficientNet, in front of the network's.
    """
    for result in network.get_results():
        if result.get_output_partial_shape(0).rank.get_length() != 2:
            network.remove_result(result)
    if len(network.get_results()) != 1:
        raise RuntimeError(f"it has {len(network.get_results())} results")


def compiled(folder: Path, image_size: int, precision: str, streams: int) -> Any:
    """Return an `openvino.CompiledModel`: (1, S, S, 3) uint8 in, (1, D) float32 out.

    Args:
        folder: where the IR is.
        image_size: S.
        precision: one of `PRECISIONS`. It is always named, as OpenVINO's own choice on
            processors that have it is bf16.
        streams: images that are worked on at a time, each by one thread.

    Raises:
        EngineUnavailable: OpenVINO is not installed, does not run here, or cannot compile it.
    """
    try:
        openvino = openvino_module()
        network = openvino_core().read_model(folder / XML)
        network.reshape([1, image_size, image_size, 3])
        prepared = openvino.preprocess.PrePostProcessor(network)
        prepared.input().tensor().set_element_type(openvino.Type.u8)
        return _on_cpu(prepared.build(), precision, streams)
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineUnavailable(f"OpenVINO cannot run it here ({one_line(error)})") from error


def compiled_model(model: Any, streams: int) -> Any:
    """A `keras.Model` as an `openvino.CompiledModel`: one image float32 in, (1, W) float32 out.

    Raises:
        EngineUnavailable: OpenVINO is not installed, or cannot express or compile it.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            converted = network(model, Path(folder))
            converted.reshape([1, *model.input_shape[1:]])
            return _on_cpu(converted, DEFAULT_PRECISION, streams)
    except Exception as error:
        raise EngineUnavailable(
            f"OpenVINO cannot express {model.name} ({one_line(error)})"
        ) from error


def _on_cpu(network: Any, precision: str, streams: int) -> Any:
    core = openvino_core()
    _require_capability(core, precision)
    properties = {
        "INFERENCE_PRECISION_HINT": precision,
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams,
    }
    return core.compile_model(network, "CPU", properties)


def _require_capability(core: Any, precision: str) -> None:
    capability = PRECISIONS[precision].capability
    if capability and capability not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise RuntimeError(f"this processor has no {precision} arithmetic")


def deviation(folder: Path, images: NDArray[np.uint8], expected: NDArray[np.float32]) -> float:
    """Return the largest difference to Keras' features, in units of their spread.

    The spread is the root of the mean variance of a feature over the images.

    Args:
        folder: where the IR is.
        images: (n, S, S, 3).
        expected: (n, D), Keras' features of the images.

    Raises:
        EngineUnavailable: see `compiled`.
    """
    request = compiled(folder, images.shape[1], DEFAULT_PRECISION, 1).create_infer_request()
    received = [request.infer({0: image[None]})[0][0].copy() for image in images]
    largest = float(np.max(np.abs(np.array(received, np.float64) - expected)))
    spread = float(np.sqrt(expected.var(axis=0, dtype=np.float64).mean()))
    return largest / spread if spread else largest


def one_line(error: BaseException) -> str:
    """Return an error in one line; OpenVINO's own run over many, the last says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
