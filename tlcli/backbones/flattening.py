"""A network anew, from copies of its layers: models within it taken apart, training's parts out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tlcli.backbones.runtime import keras_module
from tlcli.backbones.stored import HEAD_NAME, PROJECTION_NAME
from tlcli.errors import UsageError

# Layers that pass images through as they are, except in training.
_IN_TRAINING = frozenset(
    {
        *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
        *("GaussianDropout", "GaussianNoise", "AlphaDropout", "ActivityRegularization"),
        *("Identity", "MixUp", "CutMix", "RandAugment", "AugMix"),
    }
)
_RANDOM = "Random"
_NOT_IDLE = frozenset({"RandomCrop", "RandomFourierFeatures"})

# In front of what scales pixels there may be what changes the size of images.
_RESIZING = frozenset({"Resizing", "CenterCrop", "RandomCrop", "Cast"})
_SCALING = frozenset({"Rescaling", "Normalization"})

_RESERVED = ("image", "preprocessing", "luma", HEAD_NAME, PROJECTION_NAME)


OTHER = "Adopt another model, or begin with `tlcli pretrain`."
"""The advice where a network cannot be taken apart."""


class CannotCut(Exception):
    """Why a network cannot be taken apart, as "Expected …" and "Received: …" have it."""

    def __init__(self, expected: str, received: str, advice: str) -> None:
        super().__init__(received)
        self.expected, self.received, self.advice = expected, received, advice

    def about(self, path: object) -> UsageError:
        """The error that a user sees."""
        return UsageError(
            f"Expected {self.expected}. Received: {path}, {self.received}. {self.advice}"
        )


@dataclass(frozen=True, eq=False)
class Step:
    """A layer that was called."""

    operation: Any
    given: Any
    """The tensor that it was given, the first where there are several."""
    made: Any

    @property
    def kind(self) -> str:
        """Of which class the layer is."""
        return type(self.operation).__name__

    @property
    def named(self) -> str:
        """The layer, as an error names it."""
        return f"{self.operation.name} ({self.kind})"


class Flat:
    """Builds a network anew from copies of its layers, those of models within it among them."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.half = False
        self._copies: dict[int, Any] = {}
        self._names = set(_RESERVED)

    @property
    def scales(self) -> str | None:
        """The layer that scales pixels before any other looks at them."""
        for step in self.steps:
            operation = isinstance(step.operation, keras_module().layers.Layer)
            if step.kind in _SCALING or (not operation and step.kind not in _RESIZING):
                return step.named
            if step.kind not in _RESIZING:
                return None
        return None

    def run(self, model: Any, tensor: Any) -> Any:
        """The tensor that a model makes of one."""
        keras = keras_module()
        if isinstance(model, keras.Sequential):
            for layer in model.layers:
                tensor = self._call(layer, tensor)
            return tensor
        if not hasattr(model, "_run_through_graph"):
            raise CannotCut(
                "a functional or sequential network", f"the class {type(model).__name__}", OTHER
            )
        made = model._run_through_graph(tensor, call_fn=self._call)
        return made if len(model.outputs) > 1 else keras.tree.flatten(made)[0]

    def _call(self, operation: Any, *given: Any, **options: Any) -> Any:
        options = {key: value for key, value in options.items() if key != "training"}
        if isinstance(operation, keras_module().Model):
            return self.run(operation, given[0])
        if _is_idle(type(operation).__name__):
            return given[0]
        copy = self._copies.get(id(operation))
        if copy is None:
            copy = self._copies[id(operation)] = self._copied(operation)
            made = copy(*given, **options)
            _fill(copy, operation)
        else:
            made = copy(*given, **options)
        first = next(iter(keras_module().tree.flatten(given)), None)
        self.steps.append(Step(copy, first, made))
        return made

    def _copied(self, operation: Any) -> Any:
        """The same layer in float32 and without weights; an operation as it is."""
        name = next(name for name in _spellings(operation.name) if name not in self._names)
        self._names.add(name)
        if not isinstance(operation, keras_module().layers.Layer):
            operation.name = name
            return operation
        self.half |= operation.compute_dtype != "float32"
        changes = {"name": name, "dtype": "float32", "trainable": True}
        return type(operation).from_config(operation.get_config() | changes)


def _is_idle(kind: str) -> bool:
    return kind in _IN_TRAINING or (kind.startswith(_RANDOM) and kind not in _NOT_IDLE)


def _spellings(name: str) -> Iterator[str]:
    yield name
    number = 1
    while True:
        yield f"{name}_{number}"
        number += 1


def _fill(copy: Any, layer: Any) -> None:
    """Give a copy, once it is built, the weights of its layer."""
    if not getattr(layer, "weights", None):
        return
    copy.set_weights(layer.get_weights())
    if isinstance(copy, keras_module().layers.Normalization):
        copy.finalize_state()  # the layer computes with copies of its weights
