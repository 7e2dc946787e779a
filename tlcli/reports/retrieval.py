"""How well descriptors find images of a class → text for the terminal."""

from typing import Any

from tlcli.reports.rankings import COLUMNS, difference_lines, ranking_rows
from tlcli.reports.result import named
from tlcli.reports.tables import skipped_texts, table

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
        f"  One image a class, five: the accuracy where so many of each class are known, "
        f"{content['draws']} draws."
    )
    level = f"{100 * content['level']:g} %"
    lines.append(f"  In brackets: {level} intervals, bootstrap over the images, or the draws.")
    return "\n".join(lines)


def _skipped(content: Json) -> str:
    return "\n".join(f"left out: {text}" for text in skipped_texts(content["skipped"]))
