"""The errors that a user can meet, each with its exit code.

    TlcliError                 1   a bug: the message names the log
    ├── UsageError             2   an option or argument cannot be meant
    │   └── EngineUnavailable  2   an engine does not run here: Keras takes over where it may
    ├── DataError              3   the images or their labels are unusable
    │   └── BadImage           3   one file: skipped, named and counted by the caller
    ├── GateFailed             4   a measured figure is below its limit
    ├── RunError               5   a run is damaged, newer, or does not match
    ├── StorageError           6   nothing could be saved
    ├── WeightsUnavailable     7   pretrained weights cannot be had here
    └── RunLocked             75   another process holds the run

    Stopped (BaseException)   130 / 143: a signal asked to stop

Messages are one line: what was expected, what was received, what to do next.
"""


class TlcliError(Exception):
    """Base of every error that is shown to the user as one line."""

    exit_code = 1


class UsageError(TlcliError):
    """An option or argument has a value that cannot be meant."""

    exit_code = 2


class EngineUnavailable(UsageError):
    """An engine cannot run a backbone on this machine; the message is the reason."""


class DataError(TlcliError):
    """The images or their labels cannot be used."""

    exit_code = 3


class BadImage(DataError):
    """One file cannot be decoded; the message is the reason, without the path."""


class GateFailed(TlcliError):
    """A measured figure is below the limit that was asked for."""

    exit_code = 4


class RunError(TlcliError):
    """A run is damaged, newer than this program, or does not match."""

    exit_code = 5


class StorageError(TlcliError):
    """Nothing could be saved: disk full, no permission."""

    exit_code = 6


class WeightsUnavailable(TlcliError):
    """Pretrained weights are neither on this machine nor downloadable."""

    exit_code = 7


class RunLocked(TlcliError):
    """Another process is writing to the run."""

    exit_code = 75


class Stopped(BaseException):
    """A signal asked the program to stop; `exit_code` is 128 + the signal's number."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.exit_code = 128 + signal_number
