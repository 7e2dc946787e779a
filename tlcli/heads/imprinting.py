"""Where the columns of new classes start."""

from dataclasses import replace

import numpy as np

from tlcli.features import Examples
from tlcli.heads import LinearHead


def grow(head: LinearHead, classes: tuple[str, ...], examples: Examples) -> LinearHead:
    """The head with columns for the classes that are new; the old columns keep their bits.

    A new column is the class's mean feature, scaled to the mean norm of the old columns, and its
    bias the mean of theirs (imprinting, Qi et al. 2018).

    Args:
        head: its classes come first in `classes`.
        classes: the registry of the new round.
        examples: of every new class.
    """
    norm = float(np.mean(np.linalg.norm(head.weights, axis=0)))
    labels = np.array(examples.labels, object)
    columns = [head.weights]
    for name in classes[len(head.classes) :]:
        mean = examples.vectors[labels == name].mean(axis=0, dtype=np.float64)
        scale = norm / max(float(np.linalg.norm(mean)), float(np.finfo(np.float32).tiny))
        columns.append((mean * scale).astype(np.float32)[:, None])
    new = len(classes) - len(head.classes)
    bias = np.concatenate([head.bias, np.full(new, head.bias.mean(), np.float32)])
    return replace(head, classes=classes, weights=np.hstack(columns), bias=bias)
