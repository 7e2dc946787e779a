"""The command line: the only code that knows click, prints, or exits.

Nothing heavy is imported here: a command imports its stage when it is called.
"""

from tlcli.cli.app import main

__all__ = ["main"]
