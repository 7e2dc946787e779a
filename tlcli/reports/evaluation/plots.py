"""The plots of an evaluation as SVG: accuracy round by round, and reliability."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tlcli.reports import svg
from tlcli.reports.evaluation import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Json = dict[str, Any]

MOST_LINES = 7
"""More rounds than these are not drawn one by one: no more colours are told apart."""

_SIZE = (5.2, 3.9)


def drawings(content: Json) -> list[tuple[str, str]]:
    """Title and SVG of each plot; a course needs two rounds."""
    drawn = [("Stated probability and share that is right", _reliability)]
    if len(content["rounds"]) > 1:
        drawn.insert(0, ("Accuracy after each round", _course))
    with svg.look():
        return [(title, svg.svg(draw(content), title)) for title, draw in drawn]


def _course(content: Json) -> "Figure":
    from matplotlib.figure import Figure

    rounds = [entry["round"] for entry in content["rounds"]]
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    for place, (name, values) in enumerate(lines(content)):
        colour, marker = svg.COLOURS[place], svg.MARKERS[place]
        style: Json = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.4}
        if place == 0:
            style |= {"color": "#000000", "linewidth": 2.2, "zorder": 3}
        axes.plot(range(1, len(rounds) + 1), values, label=name, **style)
    ticks = svg.thinned(len(rounds))
    axes.set_xticks(ticks, [str(rounds[tick - 1]) for tick in ticks])
    axes.set_xlabel("round")
    axes.set_ylabel("accuracy, %")
    _grid(axes)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)
    return figure


def lines(content: Json) -> list[tuple[str, list[float]]]:
    """Name and values in per cent of each line of the course; NaN where it is unknown."""
    rounds, numbers = content["rounds"], figures.introductions(content)
    drawn = [("all classes so far", [_percent(entry["accuracy"]) for entry in rounds])]
    if len(numbers) >= MOST_LINES:
        own = [_percent(figures.of_introduction(entry, entry["round"])) for entry in rounds]
        drawn.append(("the new classes of the round", own))
        numbers = numbers[:1]
    return drawn + [
        (
            f"classes of round {number}",
            [_percent(figures.of_introduction(entry, number)) for entry in rounds],
        )
        for number in numbers
    ]


def _percent(share: float | str | None) -> float:
    return 100 * share if isinstance(share, int | float) else math.nan


def _reliability(content: Json) -> "Figure":
    """Above, the share that is right in each bin against the diagonal; below, how many images."""
    from matplotlib.figure import Figure

    bins: Sequence[Json] = content["reliability"]
    figure = Figure(figsize=_SIZE, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    left = [100 * entry["from"] for entry in bins]
    widths = [100 * (entry["to"] - entry["from"]) for entry in bins]
    style = {"align": "edge", "edgecolor": "#ffffff", "linewidth": 0.6}
    right = [100 * entry["accuracy"] for entry in bins]
    upper.bar(left, right, widths, color="#56b4e9", label="share that is right", **style)
    stated = [100 * entry["confidence"] for entry in bins]
    upper.plot([0, 100], [0, 100], "--", color="#000000", linewidth=1, label="perfect")
    dots: Json = {"color": "#d55e00", "markersize": 4, "clip_on": False, "zorder": 3}
    upper.plot(stated, right, "o", label="mean probability", **dots)
    upper.set_ylim(0, 100)
    upper.set_ylabel("right, %")
    upper.legend(frameon=False, fontsize=8.5, loc="upper left")
    lower.bar(left, [entry["images"] for entry in bins], widths, color="#8c8c8c", **style)
    lower.set_xlim(0, 100)
    lower.set_xlabel("stated probability, %")
    lower.set_ylabel("images")
    for axes in (upper, lower):
        _grid(axes)
    return figure


def _grid(axes: "Axes") -> None:
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
