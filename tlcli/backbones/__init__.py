"""Backbones: Keras applications with their tops cut off, images in, feature vectors out."""

from tlcli.backbones.network import Block, blocks, build, fingerprint
from tlcli.backbones.runtime import keras_module, silenced
from tlcli.backbones.stored import (
    StoredBackbone,
    fixed_point_bits,
    load_model,
    load_stored,
    probe_images,
    store,
    write_classifier,
)
from tlcli.backbones.table import (
    BACKBONES,
    DEFAULT_BACKBONE,
    Architecture,
    architecture,
    weights_here,
)

__all__ = [
    "BACKBONES",
    "DEFAULT_BACKBONE",
    "Architecture",
    "Block",
    "StoredBackbone",
    "architecture",
    "blocks",
    "build",
    "fingerprint",
    "fixed_point_bits",
    "keras_module",
    "load_model",
    "load_stored",
    "probe_images",
    "silenced",
    "store",
    "weights_here",
    "write_classifier",
]
