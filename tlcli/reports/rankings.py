"""How well descriptors find images of a class, as rows of a table."""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

COLUMNS = (
    *("descriptor", "numbers", "Recall@1", "Recall@2", "Recall@4", "Recall@8"),
    *("MAP@R", "one image a class", "five"),
)
_FIGURES = (*(f"recall_at_{k}" for k in (1, 2, 4, 8)), "map_at_r", "one_shot", "five_shot")
_COMPARED = {
    "recall_at_1": "Recall@1",
    "map_at_r": "MAP@R",
    "one_shot": "one image a class",
    "five_shot": "five",
}
_WITH_INTERVAL = ("recall_at_1", "map_at_r", "one_shot")


def ranking_rows(entries: Sequence[Json]) -> list[tuple[str | int | None, ...]]:
    """The figures of each kind of descriptor."""
    return [
        (
            entry["descriptor"],
            entry["width"],
            *(_figure(entry.get(name), name in _WITH_INTERVAL) for name in _FIGURES),
        )
        for entry in entries
    ]


def difference_lines(entries: Sequence[Json]) -> list[str]:
    """What one kind of descriptor finds more than another, in points."""
    return [
        f"{entry['descriptor']} against {entry['than']}: "
        + ", ".join(
            f"{name} {_points(figure)}"
            for key, name in _COMPARED.items()
            if (figure := entry.get(key))
        )
        for entry in entries
    ]


def _points(figure: Json) -> str:
    low, high = (100 * bound for bound in figure["interval"])
    return f"{100 * figure['value']:+.1f} points ({low:+.1f} to {high:+.1f})"


def _figure(figure: Json | None, interval: bool) -> str | None:
    """None where nothing was measured: classes have too few images."""
    if figure is None:
        return None
    text = f"{100 * figure['value']:.1f} %"
    low, high = (100 * bound for bound in figure["interval"])
    return f"{text} ({low:.1f} to {high:.1f})" if interval else text
