"""The plots of a comparison as SVG that stands inside HTML, and how plots look."""

import importlib.util
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tlcli.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Json = dict[str, Any]

Float64 = NDArray[np.float64]

CLOSE = 0.1
"""Methods within this share of the best are drawn again, closer."""


# fmt: off
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c8c",
    "#7f3c1d", "#6a3d9a", "#a6761d",
)
# fmt: on
"""The first seven are told apart by all kinds of colour vision: Okabe & Ito 2008."""


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")


_SETTINGS: dict[Any, Any] = {"svg.fonttype": "none", "font.size": 9.0, "font.family": "sans-serif"}

_LINES = {"none": "-", "some": "--", "all": "--"}
"""Of methods that need so many old images."""

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))

_TICKS = 8


def installed() -> bool:
    """Whether matplotlib is."""
    return importlib.util.find_spec("matplotlib") is not None


def require() -> None:
    """Raise UsageError where matplotlib is not installed."""
    if not installed():
        raise UsageError(
            "Expected matplotlib for --report. Received: it is not installed. "
            "Run pip install 'tlcli[report]', or leave --report out."
        )


def drawings(content: Json, methods: Sequence[Json]) -> list[tuple[str, str]]:
    """Title and SVG of each plot of some methods of a comparison.

    Args:
        content: the JSON object of the comparison.
        methods: its entries that are drawn together, the best first.
    """
    styles = _styles(content)
    classes = _classes_after(content)
    titles = [("Accuracy on all classes so far", methods)]
    close = [entry for entry in methods if _mean(entry) >= _mean(methods[0]) - CLOSE]
    if 1 < len(close) < len(methods):
        titles.append(("The same, the better methods alone", close))
    with look():
        plots = [(title, svg(_lines(chosen, classes, styles), title)) for title, chosen in titles]
        title = "After the last round"
        return [*plots, (title, svg(_bars(methods, styles), title))]


def label(entry: Json) -> str:
    """How a method is called in a plot."""
    return f"{entry['strategy']} {entry['head']}"


@contextmanager
def look() -> Iterator[None]:
    """Plots look the same whatever the user's own settings are."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def _styles(content: Json) -> dict[str, Json]:
    """A colour and a marker for each method; lines of those that need old images are dashed."""
    needs = {label(entry): entry["needs_old_images"] for entry in content["methods"]}
    return {
        name: {
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[place % len(MARKERS)],
            "linestyle": _LINES[needs[name]],
        }
        for place, name in enumerate(sorted(needs))
    }


def _classes_after(content: Json) -> list[int]:
    sizes = [len(names) for names in content["rounds"]]
    return [sum(sizes[: place + 1]) for place in range(len(sizes))]


def _mean(entry: Json) -> float:
    spread = entry["average_incremental_accuracy"]
    return float(spread["mean"]) if spread else 0.0


def _lines(methods: Sequence[Json], classes: Sequence[int], styles: dict[str, Json]) -> "Figure":
    """Accuracy after each round, with a band of one standard deviation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 3.6 + 0.19 * ((len(methods) + 1) // 2)), layout="constrained")
    axes = figure.subplots()
    for entry in methods:
        style = styles[label(entry)]
        numbers, means, deviations = _course(entry)
        axes.plot(numbers, means, label=label(entry), markersize=4, linewidth=1.4, **style)
        low, high = means - deviations, means + deviations
        axes.fill_between(numbers, low, high, color=style["color"], alpha=0.12, linewidth=0)
    ticks = thinned(len(classes))
    axes.set_xticks(ticks, [str(classes[tick - 1]) for tick in ticks])
    axes.set_xlabel("classes learned, round by round")
    axes.set_ylabel("accuracy, %")
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)
    return figure


def _course(entry: Json) -> tuple[list[int], Float64, Float64]:
    """The rounds after which the accuracy is known, its mean and its deviation, in per cent."""
    known = [after for after in entry["rounds"] if after["accuracy"]]
    means, deviations = (
        100 * np.array([after["accuracy"][name] for after in known]) for name in ("mean", "sd")
    )
    return [after["round"] for after in known], means, deviations


def thinned(count: int) -> list[int]:
    """At most `_TICKS` of the numbers 1 to `count`, both ends included."""
    ticks = min(count, _TICKS)
    return sorted({1 + round(place * (count - 1) / max(ticks - 1, 1)) for place in range(ticks)})


def _bars(methods: Sequence[Json], styles: dict[str, Json]) -> "Figure":
    """Accuracy and forgetting of each method side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 1.1 + 0.3 * len(methods)), layout="constrained")
    pair = figure.subplots(1, 2, sharey=True)
    places = range(len(methods))
    for axes, key, title in zip(
        pair, ("accuracy", "forgetting"), ("accuracy, %", "forgetting, %"), strict=True
    ):
        spreads = [entry[key] or {"mean": 0.0, "sd": 0.0} for entry in methods]
        axes.barh(
            places,
            [100 * spread["mean"] for spread in spreads],
            xerr=[100 * spread["sd"] for spread in spreads],
            color=[styles[label(entry)]["color"] for entry in methods],
            error_kw={"linewidth": 0.8, "capsize": 2},
        )
        axes.set_xlabel(title)
        axes.grid(visible=True, axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    pair[0].set_yticks(places, [label(entry) for entry in methods])
    pair[0].invert_yaxis()
    return figure


def svg(figure: "Figure", title: str) -> str:
    """The `svg` element; equal figures give equal text."""
    import matplotlib as mpl

    mpl.rcParams["svg.hashsalt"] = title
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=_NO_METADATA)
    text = stream.getvalue()
    # Inside HTML an svg element needs no name spaces, and a file without them has no address.
    opening, rest = text[text.index("<svg") :].split(">", 1)
    opening = re.sub(r' (xmlns(:\w+)?|version|width|height)="[^"]*"', "", opening)
    return f'{opening} role="img" aria-label="{title}">{rest.strip()}'
