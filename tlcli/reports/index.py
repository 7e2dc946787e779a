"""Answers of the commands of `index`: drawn from their JSON objects."""

from collections.abc import Callable, Mapping
from typing import Any

from tlcli.files import json_text
from tlcli.reports.tables import byte_text, table

Json = dict[str, Any]


def index_changed_text(content: Json) -> str:
    """What a command did to an index, and what it holds now."""
    done = [
        f"{content[name]} {words}"
        for name, words in (
            ("added", "added"),
            ("removed", "removed"),
            ("already_there", "already there"),
        )
        if content[name]
    ]
    lines = [", ".join(done)] if done else []
    lines += [f"skipped {entry['path']}: {entry['reason']}" for entry in content["skipped"]]
    lines.append(f"the index holds {content['images']} images of {content['classes']} classes")
    if content["recall"] is not None:
        lines.append(f"approximate index built: it finds {content['recall']:.1%} of the neighbours")
    return "\n".join(lines)


def index_stats_text(content: Json) -> str:
    """What an index holds."""
    rows = [
        ("images", str(content["images"])),
        ("classes", str(len(content["classes"]))),
        ("descriptor", f"{content['descriptor']}, {content['width']} numbers"),
        ("segments", str(content["segments"])),
        ("rows of removed images", str(content["removed"])),
        ("approximate index", _approximate(content)),
        ("on disk", byte_text(content["bytes"])),
    ]
    return table(("index", content["run"]), rows)


def _approximate(content: Json) -> str:
    if not content["approximate"]:
        return "none: every image is compared"
    return f"finds {content['recall']:.1%} of the neighbours, {content['stale']:.0%} out of date"


def index_checked_text(content: Json) -> str:
    """Whether an index can be relied on."""
    lines = list(content["problems"])
    if content["recall"] is not None:
        lines.append(f"recall@10 of the approximate index: {content['recall']:.1%}")
    lines.append(f"{content['images']} images, {'intact' if content['passed'] else 'not good'}")
    return "\n".join(lines)


def _found(content: Json) -> str:
    """A line an image that was found: similarity, class, path, what it is like."""
    if "error" in content:
        return f"–\t–\t{content['path']}\t{content['error']}\n"
    lines = (
        f"{near['similarity']:.3f}\t{near['label']}\t{near['path']}\t{content['path']}\n"
        for near in content["neighbours"]
    )
    return "".join(lines)


def _paths(content: Json) -> str:
    return "".join(f"{near['path']}\0" for near in content.get("neighbours", ()))


def _pair(content: Json) -> str:
    first, second = content["labels"]
    paths = f"{content['first']}\t{content['second']}"
    return f"{content['similarity']:.3f}\t{first}\t{second}\t{paths}\n"


def _json(content: Json) -> str:
    return json_text(content) + "\n"


Line = Callable[[Json], str]

FOUND_LINES: Mapping[str, Line] = {"text": _found, "zeros": _paths, "json": _json}
"""Form → an answer of `index search` as lines with their ends."""

PAIR_LINES: Mapping[str, Line] = {"text": _pair, "json": _json}
"""Form → a pair of `index duplicates` as a line with its end."""
