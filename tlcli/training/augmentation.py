"""Random changes of training images that leave their class as it is, by Keras' layers and ours."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tlcli import backbones
from tlcli.errors import require_choice
from tlcli.training.warping import Extent, Warp


@dataclass(frozen=True)
class Preset:
    """A row of the table."""

    says: str
    """As the help of `--augment` has it."""
    layers: Callable[[Any, int], list[Any]]
    """(keras.layers, seed) → layers that change one image each, raw RGB 0 to 255."""
    mixes: bool = False
    """Whether images of a batch are mixed, their labels too: MixUp (Zhang et al. 2018) in one half
    of the batches, CutMix (Yun et al. 2019) in the other."""


@dataclass(frozen=True, eq=False)
class Augmenter:
    """Random changes; equal states of the random generators give equal changes."""

    change: Callable[[Any], Any]
    """Images (n, S, S, 3) float32 → images; called while a graph is built."""
    mix: Callable[[Any, Any], tuple[Any, Any]]
    """Images and one-hot labels (n, C) → the same, mixed."""
    generators: Sequence[Any]
    """The variables (2,) that hold the random state."""
    seed: int = 0
    mixes: bool = False

    @property
    def unmixed(self) -> "Augmenter":
        """The same without mixing."""
        return replace(self, mix=lambda images, labels: (images, labels), mixes=False)

    def begin(self, number: int) -> None:
        """Put the random state to a function of the seed and a number."""
        for place, state in enumerate(self.generators):
            words = np.random.SeedSequence([self.seed, number, place]).generate_state(2)
            state.assign(words >> 1)


def augmenter(preset: str, seed: int) -> Augmenter:
    """The changes of a preset.

    Raises:
        UsageError: there is no such preset.
    """
    require_known(preset, SHEETS)
    keras = backbones.keras_module()
    row = SHEETS[preset]
    layers = row.layers(keras.layers, seed)
    mixers = _mixers(keras, seed) if row.mixes else None

    def change(images: Any) -> Any:
        for layer in layers:
            images = layer(images, training=True)
        return images

    def mix(images: Any, labels: Any) -> tuple[Any, Any]:
        return mixers.mix(images, labels) if mixers else (images, labels)

    states = [variable for layer in layers for variable in layer.variables]
    states += mixers.generators if mixers else []
    return Augmenter(change, mix, states, seed, row.mixes)


def require_known(preset: str, among: Mapping[str, Preset] | None = None) -> None:
    """Raise UsageError, listing the presets, unless `preset` is one of them.

    Args:
        preset: a name.
        among: a table; None for those of training with labels.
    """
    known = PRESETS if among is None else among
    require_choice("an augmentation", preset, known, "augment")


@dataclass(frozen=True, eq=False)
class _Mixers:
    coin: Any
    mixup: Any
    cutmix: Any

    @property
    def generators(self) -> list[Any]:
        return [self.coin.state, *self.mixup.variables, *self.cutmix.variables]

    def mix(self, images: Any, labels: Any) -> tuple[Any, Any]:
        keras = backbones.keras_module()
        batch = {"images": images, "labels": labels}
        one, other = self.mixup(batch, training=True), self.cutmix(batch, training=True)
        first = keras.random.uniform((), seed=self.coin) < 0.5
        chosen = {name: keras.ops.where(first, one[name], other[name]) for name in batch}
        return chosen["images"], chosen["labels"]


def _mixers(keras: Any, seed: int) -> _Mixers:
    return _Mixers(
        keras.random.SeedGenerator(seed),
        keras.layers.MixUp(alpha=0.2, seed=seed + 1),
        keras.layers.CutMix(factor=1.0, seed=seed + 2),
    )


def _light(layers: Any, seed: int) -> list[Any]:
    return [Warp(Extent(shift=(-0.06, 0.06)), seed)]


def _standard(layers: Any, seed: int) -> list[Any]:
    return [
        Warp(Extent(rotation=(-0.05, 0.05), shift=(-0.1, 0.1), zoom=(-0.3, 0.1)), seed),
        layers.RandomBrightness(0.2, value_range=(0, 255), seed=seed + 4),
        layers.RandomContrast(0.2, value_range=(0, 255), seed=seed + 5),
    ]


def _strong(layers: Any, seed: int) -> list[Any]:
    turned, moved = (-0.08, 0.08), (-0.15, 0.15)
    return [
        Warp(Extent(turned, moved, zoom=(-0.4, 0.1), stretches=True), seed),
        _jitter(layers, 0.2, 0.3, 0.04, seed + 4),
        layers.RandomErasing(factor=0.25, scale=(0.02, 0.2), seed=seed + 5),
    ]


def _jitter(layers: Any, brightness: float, others: float, hue: float, seed: int) -> Any:
    """Changes of colour; Keras counts saturation from 0, grey, over 0.5, as it is, to 1."""
    return layers.RandomColorJitter(
        (0, 255),
        brightness_factor=brightness,
        contrast_factor=others,
        saturation_factor=(0.5 - others / 2, 0.5 + others / 2),
        hue_factor=(0.0, hue),
        seed=seed,
    )


def _views(layers: Any, seed: int) -> list[Any]:
    return [
        Warp(Extent(shift=(-0.2, 0.2), zoom=(-0.65, 0.0), stretches=True), seed),
        _jitter(layers, 0.3, 0.4, 0.08, seed + 3),
        layers.RandomGrayscale(0.2, seed=seed + 4),
    ]


PRESETS = {
    "none": Preset("the images as they are", lambda layers, seed: []),
    "light": Preset("flip, small shifts", _light),
    "standard": Preset("flip, rotation, shift, zoom, brightness, contrast", _standard),
    "strong": Preset(
        "more of all that, colours, erased patches, MixUp and CutMix", _strong, mixes=True
    ),
}

VIEWS = "simclr"
SHEETS = PRESETS | {VIEWS: Preset("crop, flip, colours, grey", _views)}
"""What can be looked at: the presets, and what training without labels sees."""
