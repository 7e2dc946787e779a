"""compare: which way of adding classes is best on the user's own images.

command   the command: images → features, once; folds; every method
schedule  which classes come in which round
methods   which strategies are tried with which heads
trials    the rounds in memory, on the same images for every method
spread    what was found, with its spread over the folds
"""

from tlcli.commands.compare.command import compare
from tlcli.commands.compare.spread import Comparison

__all__ = ["Comparison", "compare"]
