"""A learned projection as the last layers of a backbone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli.backbones.runtime import keras_module

Float32 = NDArray[np.float32]

_DENSE, _UNIT = "metric", "unit_length"


def projected(model: Any, centre: Float32, matrix: Float32) -> Any:
    """A backbone whose features (None, M) are (x − m)A / ‖(x − m)A‖ of those of another.

    Args:
        model: the other; its layers and weights become those of the result.
        centre: m (D,)
        matrix: A (D, M)
    """
    keras = keras_module()
    place = 1 + sum(layer.name.startswith(f"{_UNIT}_") for layer in model.layers)
    dense = keras.layers.Dense(matrix.shape[1], name=f"{_DENSE}_{place}")
    unit = keras.layers.UnitNormalization(name=f"{_UNIT}_{place}")
    result = keras.Model(model.input, unit(dense(model.output)), name=model.name)
    offset = -(centre.astype(np.float64) @ matrix)
    dense.set_weights([matrix, offset.astype(np.float32)])
    return result
