"""What the descriptors of a round's images can be made of."""

from tlcli import memory
from tlcli.errors import RunError
from tlcli.extractor import Extractor, learned_projection
from tlcli.retrieval import Ground
from tlcli.runs import Round, Run


def ground_of(run: Run, entry: Round, extractor: Extractor) -> Ground:
    """Of the backbone's features: a random projection of heads is left aside.

    Raises:
        RunError: the memory or the learned projection is damaged.
    """
    remembered = None if extractor.projection else memory.load(entry).moments
    width, learned = extractor.stored.width, learned_projection(run, entry)
    if learned is not None and len(learned.centre) != width:
        raise RunError(
            f"Expected a projection of {width} numbers. Received: {entry.folder} with one of "
            f"{len(learned.centre)}. Restore the run from a copy."
        )
    return Ground(width, remembered, learned)
