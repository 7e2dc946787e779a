"""The mean feature that a backbone expects, from the statistics of its last normalisation."""

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli.backbones.runtime import keras_module

_POINTS = 1001
"""Of a normal distribution, evenly spaced in probability."""


def expected_features(model: Any) -> NDArray[np.float64] | None:
    """E[act(N(β, γ²))] for each feature, (D,); None where the network does not end so.

    Behind a BatchNormalization a channel has the mean β and the deviation |γ| on the images that
    the network was trained on; the global average of what an activation makes of it is a feature.

    Args:
        model: a backbone as it is stored.
    """
    behind = []
    layer = model.layers[-1]
    while not isinstance(layer, keras_module().layers.BatchNormalization):
        if not isinstance(layer, _elementwise() + _pooling()):
            return None
        if isinstance(layer, _elementwise()):
            behind.append(layer)
        layer = _before(layer)
        if layer is None:
            return None
    return _mean_behind(layer, behind[::-1])


def _elementwise() -> tuple[type, ...]:
    layers = keras_module().layers
    return (layers.Activation, layers.ReLU, layers.LeakyReLU, layers.Dropout)


def _pooling() -> tuple[type, ...]:
    layers = keras_module().layers
    return (layers.GlobalAveragePooling2D,)


def _before(layer: Any) -> Any | None:
    """The one layer that gives this layer its input."""
    found = layer.input
    return None if isinstance(found, list) else found._keras_history.operation


def _mean_behind(normalisation: Any, activations: list[Any]) -> NDArray[np.float64] | None:
    gamma, beta = normalisation.gamma, normalisation.beta
    if gamma is None or beta is None:
        return None
    normal = NormalDist()
    points = np.array([normal.inv_cdf((k + 0.5) / _POINTS) for k in range(_POINTS)])
    values = np.asarray(beta) + np.abs(np.asarray(gamma)) * points[:, None]
    values = values.astype(np.float32)
    for layer in activations:
        values = np.asarray(layer(values))
    return np.asarray(values.mean(axis=0, dtype=np.float64))
