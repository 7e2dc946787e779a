"""Which layers of a backbone learn."""

from typing import Any

from tlcli import backbones
from tlcli.errors import UsageError

ALL = "all"


def blocks_to_train(model: Any, backbone: str, unfreeze: str) -> list[list[str]]:
    """Names of the layers that `unfreeze` means, by block, the one nearest to the output first.

    Args:
        model: the backbone.
        backbone: its name in the table.
        unfreeze: a number of blocks counted from the output, `all`, or the beginning of a layer's
            name (that layer and all that follow).

    Raises:
        UsageError: nothing matches; the message lists the blocks.
    """
    blocks = [list(block.layers) for block in backbones.blocks(model, backbone)]
    if unfreeze == ALL:
        return blocks[::-1]
    if unfreeze.isdecimal() and 1 <= int(unfreeze) <= len(blocks):
        return blocks[-int(unfreeze) :][::-1]
    found = _from_layer(blocks, unfreeze) if unfreeze and not unfreeze.isdecimal() else []
    if not found:
        listed = ", ".join(block.name for block in backbones.blocks(model, backbone))
        raise UsageError(
            f"Expected a number of blocks from 1 to {len(blocks)}, `all`, or the beginning of a "
            f"layer's name. Received: unfreeze={unfreeze!r}. The blocks of {backbone}: {listed}."
        )
    return found[::-1]


def _from_layer(blocks: list[list[str]], beginning: str) -> list[list[str]]:
    """The blocks from the first layer whose name begins so, cut there; empty without one."""
    for place, layers in enumerate(blocks):
        for row, name in enumerate(layers):
            if name.startswith(beginning):
                return [layers[row:], *blocks[place + 1 :]]
    return []
