"""How well descriptors find images of a class → text for the terminal."""

from collections.abc import Sequence
from typing import Any

from tlcli.reports.rankings import COLUMNS, ranking_rows
from tlcli.reports.result import named
from tlcli.reports.tables import table

Json = dict[str, Any]


def retrieval_text(content: Json) -> str:
    """What was measured, a line for each kind of descriptor, and what they differ by."""
    return "\n\n".join(
        part
        for part in (
            _headline(content),
            table(COLUMNS, ranking_rows(content["descriptors"])),
            "\n".join(difference_lines(content["differences"])),
            _skipped(content),
        )
        if part
    )


def _headline(content: Json) -> str:
    lines = [
        f"{content['run']}: round {content['round']}, {content['questions']} images of "
        f"{len(content['classes'])} classes look for others of their class among "
        f"{content['images']}"
    ]
    if content["known_images"] and content["known_included"]:
        lines.append(
            f"  {content['known_images']} of them are of classes that the run has learned: the "
            "figures look better than they are"
        )
    elif content["known_images"]:
        lines.append(
            f"  {content['known_images']} images are left out, as the run has learned their class "
            f"({named(content['known_classes'])})"
        )
    lines.append(
        f"  One image a class: the accuracy where one image of each class is known, "
        f"{content['draws']} draws."
    )
    level = f"{100 * content['level']:g} %"
    lines.append(f"  In brackets: {level} intervals, bootstrap over the images, or the draws.")
    return "\n".join(lines)


def difference_lines(entries: Sequence[Json]) -> list[str]:
    """What one kind of descriptor finds more than another, in points."""
    return [
        f"{entry['descriptor']} against {entry['than']}: "
        + ", ".join(
            f"{name} {_points(entry[key])}"
            for key, name in (
                ("recall_at_1", "Recall@1"),
                ("map_at_r", "MAP@R"),
                ("one_shot", "one image a class"),
            )
        )
        for entry in entries
    ]


def _points(figure: Json) -> str:
    low, high = (100 * bound for bound in figure["interval"])
    return f"{100 * figure['value']:+.1f} points ({low:+.1f} to {high:+.1f})"


def _skipped(content: Json) -> str:
    count = len(content["skipped"])
    return f"{count} images were left out; --json names them." if count else ""
