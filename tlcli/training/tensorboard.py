"""Figures of each epoch for TensorBoard."""

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tlcli.training import Epoch


def watch_with(folder: Path | None) -> Callable[[Epoch], None]:
    """Writes the figures of each epoch as TensorBoard's event files."""
    if folder is None:
        return lambda epoch: None
    import tensorflow as tf

    writer = tf.summary.create_file_writer(os.fsencode(folder))

    def callback(epoch: Epoch) -> None:
        figures = asdict(epoch)
        number = figures.pop("epoch")
        with writer.as_default(step=number):
            for name, value in figures.items():
                tf.summary.scalar(name, value)
        writer.flush()

    return callback
