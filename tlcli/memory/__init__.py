"""What a run remembers between rounds, as `--memory` says.

table          the settings: what each of them keeps
setting        what a run is asked to remember, and what it remembers next
storage        memory.h5 in the folder of a round
moments_files  the file of moments that travels alone
state          Memory: the moments, the ledger of learned images, and what is kept of them
parts          immutable files of kept rows: linked from round to round, or written
pixels         images by their content hashes, from files or from what a run keeps
herding        which images stand for a class
"""

from tlcli.memory.herding import herd, herded
from tlcli.memory.moments_files import Shard, load_file, save_file, shard_of
from tlcli.memory.state import Memory, Pixels, empty, require_known
from tlcli.memory.storage import FORMAT, bytes_by_part, groups_of, ledger_of, load, save
from tlcli.memory.table import SETTINGS, Setting

__all__ = [
    "FORMAT",
    "SETTINGS",
    "Memory",
    "Pixels",
    "Setting",
    "Shard",
    "bytes_by_part",
    "empty",
    "groups_of",
    "herd",
    "herded",
    "ledger_of",
    "load",
    "load_file",
    "require_known",
    "save",
    "save_file",
    "shard_of",
]
