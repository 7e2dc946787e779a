"""The run directory: immutable rounds, committed by a rename under a lock.

reading  runs and rounds as they are, without a lock
writing  rounds built aside and renamed into place
locking  one writer
parts    what a run consists of has to lie in its folder

    RUN/
      backbones/<fingerprint>/   the backbone, its formats and backbone.json
      projections/<sha256>.h5    learned projections of features, see `features.learned`
      rounds/0001/               round.json  model.keras  head.h5  memory.h5  report.json
                                 features-*.h5 or exemplars-*.h5 where the memory keeps them
      training/                  the state of a training that goes on or was interrupted
      lock

A round is built in a hidden folder beside the others, every file is flushed, `round.json` with the
hash of each is written last, and the folder is renamed into place. A kill at any instant leaves
the old round or the new one; what was being built is swept away by the next writer.
"""

from tlcli.runs.locking import locked
from tlcli.runs.parts import require_own
from tlcli.runs.reading import Round, Run, is_run, open_run, require_run
from tlcli.runs.writing import Writer, creating, extending, require_available

__all__ = [
    "Round",
    "Run",
    "Writer",
    "creating",
    "extending",
    "is_run",
    "locked",
    "open_run",
    "require_available",
    "require_own",
    "require_run",
]
