"""Backbones: Keras applications with their tops cut off, images in, feature vectors out."""

from tlcli.backbones.classifier import write_classifier
from tlcli.backbones.network import Block, blocks, build, fingerprint, statistics
from tlcli.backbones.openvino_ir import DEFAULT_PRECISION, PRECISIONS, compiled, one_line
from tlcli.backbones.openvino_ir import network as openvino_network
from tlcli.backbones.prepared import prepare
from tlcli.backbones.probing import probe_images
from tlcli.backbones.runtime import (
    keras_module,
    openvino_core,
    openvino_module,
    quiet,
    require_own_threads,
    silenced,
    versions,
)
from tlcli.backbones.stored import (
    MODEL,
    OPENVINO_FILES,
    Drawing,
    StoredBackbone,
    load_model,
    load_stored,
    store,
)
from tlcli.backbones.table import (
    BACKBONES,
    DEFAULT_BACKBONE,
    Architecture,
    architecture,
    weights_here,
)
from tlcli.backbones.weights import (
    FINE_TUNED,
    RANDOM,
    UNLABELLED,
    Imagenet,
    Random,
    Weights,
    WeightsFile,
    weights_of,
)

__all__ = [
    "BACKBONES",
    "DEFAULT_BACKBONE",
    "DEFAULT_PRECISION",
    "FINE_TUNED",
    "MODEL",
    "OPENVINO_FILES",
    "PRECISIONS",
    "RANDOM",
    "UNLABELLED",
    "Architecture",
    "Block",
    "Drawing",
    "Imagenet",
    "Random",
    "StoredBackbone",
    "Weights",
    "WeightsFile",
    "architecture",
    "blocks",
    "build",
    "compiled",
    "fingerprint",
    "keras_module",
    "load_model",
    "load_stored",
    "one_line",
    "openvino_core",
    "openvino_module",
    "openvino_network",
    "prepare",
    "probe_images",
    "quiet",
    "require_own_threads",
    "silenced",
    "statistics",
    "store",
    "versions",
    "weights_here",
    "weights_of",
    "write_classifier",
]
