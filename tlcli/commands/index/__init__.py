"""index: images that are found again by what they look like.

change   add, remove, optimize
ask      search, duplicates
state    check, stats
"""

from tlcli.commands.index.ask import duplicates, search
from tlcli.commands.index.change import add, optimize, remove
from tlcli.commands.index.state import check, stats

__all__ = ["add", "check", "duplicates", "optimize", "remove", "search", "stats"]
