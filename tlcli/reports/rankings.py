"""How well descriptors find images of a class, as rows of a table."""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]

COLUMNS = (
    *("descriptor", "numbers", "Recall@1", "Recall@2", "Recall@4", "Recall@8"),
    *("MAP@R", "one image a class"),
)
_FIGURES = (*(f"recall_at_{k}" for k in (1, 2, 4, 8)), "map_at_r", "one_shot")
_WITH_INTERVAL = ("recall_at_1", "map_at_r", "one_shot")


def ranking_rows(entries: Sequence[Json]) -> list[tuple[str | int, ...]]:
    """The figures of each kind of descriptor."""
    return [
        (
            entry["descriptor"],
            entry["width"],
            *(_figure(entry[name], name in _WITH_INTERVAL) for name in _FIGURES),
        )
        for entry in entries
    ]


def _figure(figure: Json, interval: bool) -> str:
    text = f"{100 * figure['value']:.1f} %"
    low, high = (100 * bound for bound in figure["interval"])
    return f"{text} ({low:.1f} to {high:.1f})" if interval else text
