"""The calls of layers that a network is made of."""

from collections import Counter
from collections.abc import Iterator
from typing import Any


def nodes(model: Any) -> Iterator[Any]:
    """The calls of layers, in an order in which they can be made."""
    by_depth = model._nodes_by_depth
    for depth in sorted(by_depth, reverse=True):
        yield from by_depth[depth]


def pairs(model: Any) -> Iterator[tuple[Any, Any]]:
    """Two layers, each called once, of which the second alone is given what the first makes."""
    calls = list(nodes(model))
    times = Counter(id(call.operation) for call in calls)
    uses = Counter(id(tensor) for call in calls for tensor in call.input_tensors)
    uses.update(id(tensor) for tensor in model.outputs)
    makers = {id(tensor): call.operation for call in calls for tensor in call.outputs}
    for call in calls:
        given = [id(tensor) for tensor in call.input_tensors]
        if len(given) == 1 and uses[given[0]] == 1:
            pair = makers[given[0]], call.operation
            if all(times[id(layer)] == 1 for layer in pair):
                yield pair
