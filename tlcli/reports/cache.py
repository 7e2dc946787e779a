"""What the cache holds, as text."""

from collections.abc import Sequence

from tlcli.reports.backbones import Json
from tlcli.reports.tables import Cell, byte_text, counted, table, time_text


def cache_text(content: Json) -> str:
    """What the cache holds: a line each for features, backbones and the index of hashes."""
    rows: list[Sequence[Cell]] = [
        (
            "features",
            entry["backbone"],
            entry["image_size"],
            entry["arithmetic"],
            entry["images"],
            byte_text(entry["bytes"]),
            time_text(entry["last_used"]),
        )
        for entry in content["features"]
    ]
    rows += [
        (
            *("backbone", entry["name"], None, None, None),
            *(byte_text(entry["bytes"]), time_text(entry["last_used"])),
        )
        for entry in content["backbones"]
    ]
    if content["hash_index_bytes"]:
        taken = byte_text(content["hash_index_bytes"])
        rows.append(("content hashes", None, None, None, None, taken, None))
    headline = (
        f"{content['folder']}: {byte_text(content['bytes'])} of {byte_text(content['limit'])}"
    )
    columns = ("kept", "backbone", "image size", "arithmetic", "images", "size", "last used")
    return f"{headline}\n\n{table(columns, rows)}" if rows else f"{headline}, empty"


def cleared_text(content: Json) -> str:
    """What was deleted from the cache."""
    left = (
        f"; {counted(content['left'], 'entry', 'entries')} could not be deleted"
        if content["left"]
        else ""
    )
    segments = counted(content["segments"], "feature segment", "feature segments")
    backbones = counted(content["backbones"], "backbone", "backbones")
    freed = byte_text(content["freed_bytes"])
    return f"{content['folder']}: freed {freed} ({segments}, {backbones}){left}"
