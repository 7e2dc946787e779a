"""backbones: what can be loaded, and where its weights are; the blocks that can be unfrozen."""

from typing import Any

from tlcli.backbones import BACKBONES, Random, architecture, blocks, build, weights_here


def backbones() -> dict[str, Any]:
    """The object that `backbones --json` prints: a row a backbone."""
    rows = [
        {
            "name": name,
            "image_size": row.image_size,
            "smallest_image_size": row.smallest,
            "width": row.width,
            "parameters": row.parameters,
            "weights_here": weights_here(name),
        }
        for name, row in BACKBONES.items()
    ]
    return {"backbones": rows}


def blocks_of(name: str) -> dict[str, Any]:
    """The object that `backbones --blocks NAME --json` prints: the blocks from the input on.

    Raises:
        UsageError: there is no such backbone.
    """
    found = blocks(build(architecture(name).name, None, Random()), name)
    listed = [{"name": block.name, "layers": list(block.layers)} for block in found]
    return {"backbone": name, "blocks": listed}
