"""Backbones: Keras applications with their tops cut off, images in, feature vectors out."""

from tlcli.backbones.classifier import write_classifier
from tlcli.backbones.classifier_file import ClassifierFile, read_classifier
from tlcli.backbones.classifier_file import digest as classifier_digest
from tlcli.backbones.cutting import Cut, answers_of, cut, image_size_of, is_grey
from tlcli.backbones.expected import expected_features
from tlcli.backbones.flattening import CannotCut
from tlcli.backbones.graph import pairs
from tlcli.backbones.halves import Halves, halves
from tlcli.backbones.imagenet import (
    application,
    cut_application,
    imagenet_classes,
    packaged_columns,
)
from tlcli.backbones.network import PREPARE, Block, blocks, build, fingerprint, statistics
from tlcli.backbones.openvino_ir import (
    DEFAULT_PRECISION,
    PRECISIONS,
    compiled,
    compiled_model,
    one_line,
)
from tlcli.backbones.openvino_ir import network as openvino_network
from tlcli.backbones.prepared import prepare
from tlcli.backbones.probing import features_of, probe_images
from tlcli.backbones.projecting import projected
from tlcli.backbones.reading import LAYERS, USUAL, VIEWS, Reading, read
from tlcli.backbones.runtime import (
    first_line,
    keras_module,
    openvino_core,
    openvino_module,
    quiet,
    require_own_threads,
    silenced,
    tensorflow_module,
    versions,
)
from tlcli.backbones.scalings import OWN, SCALINGS, Scaling, scaling_named
from tlcli.backbones.stored import (
    MODEL,
    OPENVINO_FILES,
    Drawing,
    StoredBackbone,
    load_model,
    load_stored,
)
from tlcli.backbones.storing import store
from tlcli.backbones.table import (
    ADOPTED,
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
    "ADOPTED",
    "BACKBONES",
    "DEFAULT_BACKBONE",
    "DEFAULT_PRECISION",
    "FINE_TUNED",
    "LAYERS",
    "MODEL",
    "OPENVINO_FILES",
    "OWN",
    "PRECISIONS",
    "PREPARE",
    "RANDOM",
    "SCALINGS",
    "UNLABELLED",
    "USUAL",
    "VIEWS",
    "Architecture",
    "Block",
    "CannotCut",
    "ClassifierFile",
    "Cut",
    "Drawing",
    "Halves",
    "Imagenet",
    "Random",
    "Reading",
    "Scaling",
    "StoredBackbone",
    "Weights",
    "WeightsFile",
    "answers_of",
    "application",
    "architecture",
    "blocks",
    "build",
    "classifier_digest",
    "compiled",
    "compiled_model",
    "cut",
    "cut_application",
    "expected_features",
    "features_of",
    "fingerprint",
    "first_line",
    "halves",
    "image_size_of",
    "imagenet_classes",
    "is_grey",
    "keras_module",
    "load_model",
    "load_stored",
    "one_line",
    "openvino_core",
    "openvino_module",
    "openvino_network",
    "packaged_columns",
    "pairs",
    "prepare",
    "probe_images",
    "projected",
    "quiet",
    "read",
    "read_classifier",
    "require_own_threads",
    "scaling_named",
    "silenced",
    "statistics",
    "store",
    "tensorflow_module",
    "versions",
    "weights_here",
    "weights_of",
    "write_classifier",
]
