"""Strategies: how the head of a round comes from the parent's head, the moments and features.

table       the strategies, and which of them a round takes
conditions  what a run can offer to one, and what is said where it does not
fits        what each makes of the evidence: a head
"""

from tlcli.strategies.conditions import Available, OldImages
from tlcli.strategies.fits import StrategyInput, adopted, first
from tlcli.strategies.table import (
    ADOPTED,
    EXACT,
    STRATEGIES,
    UNCHANGED,
    Strategy,
    choose,
    following,
    named,
    require_options,
    require_sampling,
    solved_anew,
)

__all__ = [
    "ADOPTED",
    "EXACT",
    "STRATEGIES",
    "UNCHANGED",
    "Available",
    "OldImages",
    "Strategy",
    "StrategyInput",
    "adopted",
    "choose",
    "first",
    "following",
    "named",
    "require_options",
    "require_sampling",
    "solved_anew",
]
