"""Backbones: Keras applications with their tops cut off, images in, feature vectors out.

table                  the networks: every Keras application, and three EfficientNet-Lite
lite, lite_openvino    EfficientNet-Lite in Keras, and without it
weights                where weights come from
weights_files          ImageNet's or those of a file, checked before they are used
hdf5_layers            the layers of a model and of an HDF5 file, and whether they fit
torch_file             tensors from a file of torch, read without it
network                built, divided into blocks, fingerprinted
scalings, preparing    what a network wants its pixels to look like; raw RGB → that, in its graph
reading                of which outputs and of how many views a feature vector is made
projecting             a learned projection as the last layers
expected               the mean feature that a network expects
halves                 what is frozen while a network is trained, and what learns
imagenet               the networks of the table with the top of their 1000 classes
classifier_file        a classifier that somebody else wrote, read without running its code
saved_folder, keras_2  what Keras 2 wrote
cutting                a classifier → the network below its last layer, and that layer
graph, flattening      the calls of its layers; the same network made anew of them
pinned, prepared       backbones that are ready to be used, without TensorFlow
storing, stored        a backbone put on disk once; read, checked, composed with heads
probing                images that every stored backbone is tried on
classifier             a stored backbone and a head → an ordinary Keras model
portable, archives     its config for older releases of Keras; its file, the same bytes each time
openvino_ir            backbones as OpenVINO networks: exported once, compiled
runtime                Keras, TensorFlow and OpenVINO: imported once, late and quietly
"""

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
