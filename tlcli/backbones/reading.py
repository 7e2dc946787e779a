"""What of a network becomes the feature vector: of which outputs, and of how many views."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tlcli.backbones.network import labelled
from tlcli.backbones.probing import features_of, probe_images
from tlcli.backbones.runtime import keras_module
from tlcli.backbones.table import BlockNames, architecture
from tlcli.errors import UsageError, require_choice

DEFAULT_LAYERS = "last"

_LARGEST_SHARE = 3
"""Maps of a third of the image's side and less are read, as a rounded quarter is."""

_LARGEST_RATIO = 8
"""To the network's own output; what is larger on the probe images is scaled down to that."""

_SCALED = "scaled_"

_SMALLEST_MEAN_SQUARE = 1e-12
"""Added below the root, whose slope at 0 is infinite."""


@dataclass(frozen=True)
class Layers:
    """A row of the table: which outputs of a network are read."""

    says: str
    means: bool = False
    """Whether the means of the outputs of stages are."""
    roots: bool = False
    """Whether the root mean squares of those that are larger than the last map are."""


LAYERS = {
    DEFAULT_LAYERS: Layers("the network's own output"),
    "blocks": Layers("and the means of the outputs of earlier blocks", means=True),
    "blocks+rms": Layers("and their root mean squares too", means=True, roots=True),
}

VIEWS = (1, 2)
"""The image alone, or the mean over it and its mirror image."""


@dataclass(frozen=True)
class Reading:
    """What becomes the feature vector."""

    layers: str = DEFAULT_LAYERS
    """A row of `LAYERS`."""
    views: int = VIEWS[0]
    """One of `VIEWS`."""

    def require(self) -> None:
        """Raise UsageError unless both can be had."""
        require_choice("layers", self.layers, LAYERS)
        if self.views not in VIEWS:
            raise UsageError(
                f"Expected 1 or 2 views. Received: views={self.views}. Leave --views out."
            )

    @property
    def choices(self) -> Mapping[str, Any]:
        """What is not as usual."""
        usual = asdict(USUAL)
        return {name: value for name, value in asdict(self).items() if value != usual[name]}


USUAL = Reading()


def read(model: Any, name: str, reading: Reading, trained: bool = True) -> Any:
    """A backbone whose feature vectors (None, D) are what is to be read of it.

    Args:
        model: what `build` returned; its layers and weights become those of the result.
        name: its row in `BACKBONES`.
        reading: as it was asked for; a usual one gives the model itself.
        trained: whether its weights tell already how large its outputs will be.

    Raises:
        UsageError: there is no such reading.
    """
    reading.require()
    row = LAYERS[reading.layers]
    if row.means:
        found = _of_blocks(model, architecture(name).block_names, row.roots)
        features = keras_module().layers.Concatenate(name="features")
        outputs = _balanced(model, found) if trained else found
        model = keras_module().Model(model.input, features(outputs), name=model.name)
    return _of_both(model) if reading.views > 1 else model


def _of_blocks(model: Any, names: BlockNames, roots: bool) -> list[Any]:
    """The network's output, then means from the input on, then root mean squares."""
    layers = keras_module().layers
    maps = stages(model, names)
    found = [model.output]
    for number, features in enumerate(maps, 1):
        found.append(layers.GlobalAveragePooling2D(name=f"mean_{number}")(features))
    if roots:
        last = _pooled(model).shape[1]
        larger = (features for features in maps if features.shape[1] > last)
        found += [_root(features, number) for number, features in enumerate(larger, 1)]
    return found


def _balanced(model: Any, found: Sequence[Any]) -> list[Any]:
    """The outputs, those that are far larger than the first scaled down by powers of two.

    All are rounded to multiples of one number (`probing.fixed_point_bits`), and heads shrink all
    directions alike: VGG's blocks are a hundred times as large as its output.
    """
    keras = keras_module()
    together = keras.Model(model.input, keras.layers.Concatenate()(found))
    values = features_of(together, probe_images(int(model.input_shape[1])))
    ends = np.cumsum([one.shape[-1] for one in found])[:-1]
    own, *others = (float(np.abs(part).max()) for part in np.split(values, ends, axis=1))
    return [
        found[0],
        *(
            _scaled(one, _halvings(largest, _LARGEST_RATIO * own), number)
            for number, (one, largest) in enumerate(zip(found[1:], others, strict=True), 1)
        ),
    ]


def _halvings(largest: float, limit: float) -> int:
    """How often a number is halved until it is within a limit."""
    ratio = largest / limit if limit else math.inf
    return math.ceil(math.log2(ratio)) if 1 < ratio < math.inf else 0


def _scaled(output: Any, halvings: int, number: int) -> Any:
    if not halvings:
        return output
    return keras_module().layers.Rescaling(2.0**-halvings, name=f"{_SCALED}{number}")(output)


def facts(model: Any, reading: Reading) -> Mapping[str, Any]:
    """What is not as usual in how a backbone is read, and what its weights do not tell.

    Args:
        model: what `read` returned.
        reading: what it was asked for.
    """
    scales = {layer.name: layer.scale for layer in model.layers if layer.name.startswith(_SCALED)}
    return {**reading.choices, **scales} if LAYERS[reading.layers].means else reading.choices


def _root(features: Any, number: int) -> Any:
    """The root mean square (None, C) of a map (None, H, W, C)."""
    keras = keras_module()
    layers = keras.layers
    squares = layers.Multiply(name=f"squares_{number}")([features, features])
    mean = layers.GlobalAveragePooling2D(name=f"mean_square_{number}")(squares)
    above = layers.Rescaling(1.0, offset=_SMALLEST_MEAN_SQUARE, name=f"above_zero_{number}")(mean)
    return _named(keras.ops.sqrt(above), f"root_{number}")


def _of_both(model: Any) -> Any:
    """The mean over an image and its mirror image, which go through the network side by side."""
    keras = keras_module()
    image = keras.Input(model.input_shape[1:], name="image")
    mirrored = _named(keras.ops.flip(image, axis=2), "mirrored")
    both = keras.layers.Concatenate(axis=0, name="views")([image, mirrored])
    found = keras.tree.flatten(model._run_through_graph(both, lambda operation: operation))
    halves = keras.ops.split(found[0], 2, axis=0)
    _named(halves[0], "each_view")
    return keras.Model(image, keras.layers.Average(name="mean_view")(halves), name=model.name)


def _named(tensor: Any, name: str) -> Any:
    """The same tensor, its operation under a name that does not count what was built before."""
    tensor._keras_history.operation.name = name
    return tensor


def stages(model: Any, names: BlockNames) -> list[Any]:
    """The maps (None, H, W, C) that the stages of a network end in, from the input on.

    A stage are blocks of one width, or of one resolution where `names` say so. Maps of half the
    image's side are left out, and what has the shape of the map that the network itself pools.
    """
    own, largest = _pooled(model).shape, model.input_shape[1] / _LARGEST_SHARE
    maps = list(_outputs(model, names))
    place = 1 if names.by_resolution else -1
    last = [
        features
        for features, following in zip(maps, [*maps[1:], None], strict=True)
        if following is None or features.shape[place] != following.shape[place]
    ]
    return [features for features in last if features.shape[1] <= largest and features.shape != own]


def _outputs(model: Any, names: BlockNames) -> Iterator[Any]:
    """The map that each block ends in; what has no name behind the last one is in none."""
    operations = list(model.operations)
    named = [place for place, one in enumerate(operations) if re.search(names.pattern, one.name)]
    ends: dict[str, Any] = {}
    for block, operation in labelled(operations[: named[-1] + 1], names):
        if block != "stem" and _is_map(operation):
            ends[block] = operation.output
    return iter(ends.values())


def _is_map(operation: Any) -> bool:
    """Whether an operation makes one map (None, H, W, C), and no frame around it."""
    keras = keras_module()
    return (
        isinstance(operation.output, keras.KerasTensor)
        and len(operation.output.shape) == 4
        and not isinstance(operation, keras.layers.ZeroPadding2D)
    )


def _pooled(model: Any) -> Any:
    """The map that the network's own output is the average of."""
    pooling = keras_module().layers.GlobalAveragePooling2D
    return next(layer.input for layer in model.layers[::-1] if isinstance(layer, pooling))
