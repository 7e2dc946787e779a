"""The curves of a training as one PNG."""

import io
from collections.abc import Sequence
from typing import Any

from tlcli.reports import svg

Json = dict[str, Any]


def curves(epochs: Sequence[Json], start: float) -> bytes | None:
    """Loss and accuracy over the epochs as a PNG; None where matplotlib is not installed.

    Args:
        epochs: the lines of `metrics.jsonl`.
        start: validation accuracy before the first epoch, 0 to 1.
    """
    if not svg.installed():
        return None
    from matplotlib.figure import Figure

    numbers = [entry["epoch"] for entry in epochs]
    with svg.look():
        figure = Figure(figsize=(8, 3.2), layout="constrained", dpi=110)
        losses, accuracies = figure.subplots(1, 2)
        for name, style in (("loss", "--"), ("validation_loss", "-")):
            values = [entry[name] for entry in epochs]
            losses.plot(numbers, values, style, marker=".", label=_label(name))
        values = [100 * entry["accuracy"] for entry in epochs]
        accuracies.plot(numbers, values, "--", marker=".", label="training, augmented")
        held_out = [100 * start, *(100 * entry["validation_accuracy"] for entry in epochs)]
        accuracies.plot([0, *numbers], held_out, "-", marker=".", label="held-out images")
        for axes, title in ((losses, "loss"), (accuracies, "accuracy, %")):
            axes.set_xlabel("epoch")
            axes.set_ylabel(title)
            axes.legend(frameon=False)
            axes.grid(visible=True, color="#dddddd", linewidth=0.6)
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _label(name: str) -> str:
    return "held-out images" if name == "validation_loss" else "training, augmented"
