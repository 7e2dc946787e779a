"""The table of backbones, as text."""

from typing import Any

from tlcli.reports.tables import table

Json = dict[str, Any]


def blocks_text(content: Json) -> str:
    """A line a block, numbered as `--unfreeze` counts them."""
    blocks = content["blocks"]
    rows = [
        (len(blocks) - place, block["name"], block["layers"][0], len(block["layers"]))
        for place, block in enumerate(blocks)
    ]
    return table(("--unfreeze", "block", "its first layer", "layers"), rows)


def backbones_text(content: Json) -> str:
    """A line a backbone."""
    drawn = [
        (
            row["name"],
            row["image_size"],
            row["smallest_image_size"],
            row["width"],
            f"{row['parameters'] / 1e6:.1f} M",
            row["weights_here"] or "download",
        )
        for row in content["backbones"]
    ]
    columns = ("backbone", "image size", "smallest", "width", "parameters", "ImageNet weights")
    return table(columns, drawn)
