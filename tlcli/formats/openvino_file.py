"""openvino: an `.xml` and a `.bin` beside it; class names as JSON in the model's rt_info."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones
from tlcli.formats.source import OUTPUT, Source

INFO = ["tlcli"]
"""Where `Model.get_rt_info` finds "classes", and "images"."""


def write(source: Source, path: Path) -> None:
    """Write both files: image → probabilities."""
    openvino = backbones.openvino_module()
    network = backbones.openvino_network(source.model(), path.parent)
    network.output(0).tensor.set_names({OUTPUT})
    network.set_rt_info(json.dumps(source.classes, ensure_ascii=False), [*INFO, "classes"])
    network.set_rt_info(source.drawing, [*INFO, "images"])
    openvino.serialize(network, path, path.with_suffix(".bin"))


def moved(xml: bytes, offset: int) -> bytes:
    """The `.xml` of weights that begin `offset` bytes later in the `.bin`."""
    root = ElementTree.fromstring(xml)  # noqa: S314
    for layer in root.iter("layer"):
        data = layer.find("data")
        if layer.get("type") == "Const" and data is not None:
            data.set("offset", str(int(data.attrib["offset"]) + offset))
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True))


def run(path: Path, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities (n, C) of images (n, S, S, 3), by OpenVINO."""
    network = backbones.openvino_core().read_model(path)
    compiled = backbones.openvino_core().compile_model(
        network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return np.asarray(compiled({"image": images})[OUTPUT], np.float32)
