"""What the descriptors of a round's images can be made of."""

from tlcli import memory
from tlcli.extractor import Extractor, learned_projection
from tlcli.retrieval import Ground
from tlcli.runs import Round, Run


def ground_of(run: Run, entry: Round, extractor: Extractor) -> Ground:
    """Of the backbone's features: a random projection of heads is left aside.

    Raises:
        RunError: the memory or the learned projection is damaged.
    """
    remembered = None if extractor.projection else memory.load(entry).moments
    return Ground(extractor.stored.width, remembered, learned_projection(run, entry))
