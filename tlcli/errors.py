"""The errors that a user can meet, each with its exit code.

    TlcliError                 1   a bug: the message names the log
    ├── UsageError             2   an option or argument cannot be meant
    │   ├── EngineUnavailable  2   an engine does not run here: Keras takes over where it may
    │   └── ClusterUnavailable 2   no cluster that could be used is at an address, or it has gone
    ├── DataError              3   the images or their labels are unusable
    │   ├── BadImage           3   one file: skipped, named and counted by the caller
    │   ├── NoImage            3   of all that was given nothing is an image
    │   ├── DividedData        3   train, valid and test lie where class folders are expected
    │   └── UnclearTable       3   which columns of a table are meant has to be said
    ├── GateFailed             4   a measured figure is below its limit
    ├── RunError               5   a run is damaged, newer, or does not match
    ├── StorageError           6   nothing could be saved, or the system has no more of something
    ├── WeightsUnavailable     7   pretrained weights cannot be had here
    ├── RunLocked             75   another process holds the run
    └── WorkerGone            75   a worker that trains along is not there, or not any more

    Stopped (BaseException)   130 / 143 / 129: a signal asked to stop

Messages are one line: what was expected, what was received, what to do next.
"""

import difflib
import shlex
from collections.abc import Collection, Mapping, Sequence


class TlcliError(Exception):
    """Base of every error that is shown to the user as one line."""

    exit_code = 1


class UsageError(TlcliError):
    """An option or argument has a value that cannot be meant."""

    exit_code = 2


class EngineUnavailable(UsageError):
    """An engine cannot run a backbone on this machine; the message is the reason."""


class ClusterUnavailable(UsageError):
    """A cluster cannot compute what it was asked for, or it has gone."""


class DataError(TlcliError):
    """The images or their labels cannot be used."""

    exit_code = 3


class BadImage(DataError):
    """One file cannot be decoded; the message is the reason, without the path."""


class NoImage(DataError):
    """Of all the paths that were given, none leads to an image that can be read."""

    def __init__(self, paths: Sequence[str]) -> None:
        place = "standard input" if paths[0] == "-" else paths[0]
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        super().__init__(
            f"Expected at least one image. Received: none that can be read in {place}{more}. "
            "Give image files, folders or patterns that hold some, or - for paths on standard "
            "input."
        )


class DividedData(DataError):
    """The data is a whole dataset, divided into train, valid and test: one of these is wanted."""

    def __init__(
        self,
        found: str,
        *,
        given: str,
        to_learn: str | None = None,
        to_validate: str | None = None,
        to_test: str | None = None,
        otherwise: str,
        command: str | None = None,
    ) -> None:
        """See the class.

        Args:
            found: what was expected and received.
            given: what was given instead of a part.
            to_learn: the part to learn from; None where none has class folders.
            to_validate: the part to watch a training with.
            to_test: the part to measure on.
            otherwise: what to do where these are no such parts.
            command: what to type; None where it is not known.
        """
        self.found, self.given = found, given
        self.to_learn, self.to_validate, self.to_test = to_learn, to_validate, to_test
        self.otherwise = otherwise
        super().__init__(f"{found} {self._advice(command)} {otherwise}")

    def typed(self, command: str | None) -> "DividedData":
        """The same with what to type."""
        return DividedData(
            self.found,
            given=self.given,
            to_learn=self.to_learn,
            to_validate=self.to_validate,
            to_test=self.to_test,
            otherwise=self.otherwise,
            command=command,
        )

    def _advice(self, command: str | None) -> str:
        if command is not None:
            return f"Type `{command}`."
        uses = ((self.to_learn, "learn from"), (self.to_test, "test on"))
        parts = [f"{path} to {use}" for path, use in uses if path is not None]
        return f"Give {' and '.join(parts)}." if parts else "Make class folders in them."


class UnclearTable(DataError):
    """A table does not say by itself which of its columns are meant."""

    def __init__(
        self, found: str, options: Mapping[str, str], advice: str = "", command: str | None = None
    ) -> None:
        """See the class.

        Args:
            found: what was expected and received.
            options: to add to the command, with their values.
            advice: what else helps.
            command: what to type; None where it is not known.
        """
        self.found, self.options, self.advice = found, options, advice
        flags = " ".join(f"{flag} {shlex.quote(value)}" for flag, value in options.items())
        typed = f"Add {flags}." if command is None else f"Type `{command}`."
        super().__init__(" ".join(filter(None, (found, typed, advice))))

    def typed(self, command: str) -> "UnclearTable":
        """The same with what to type."""
        return UnclearTable(self.found, self.options, self.advice, command)


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


class WorkerGone(TlcliError):
    """Of the processes that train together one is not there, or not any more: start them again."""

    exit_code = 75


class Stopped(BaseException):
    """A signal asked the program to stop; `exit_code` is 128 + the signal's number."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.exit_code = 128 + signal_number


def require_choice(what: str, given: str, known: Collection[str], option: str = "") -> None:
    """Raise UsageError, naming the known ones and the nearest of them, unless `given` is known.

    Args:
        what: is chosen, with its article, like "a head".
        given: what the user named.
        known: a table, or its names.
        option: under which it was given; by default the last word of `what`.
    """
    if given not in known:
        raise UsageError(
            f"Expected {what}: {', '.join(known)}. Received: {option or what.split()[-1]}="
            f"{given!r}. {_question(given, known)}Choose one of these."
        )


def nearest(given: str, known: Collection[str]) -> str | None:
    """What was perhaps meant, in whatever case; None where nothing is near."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(given.lower(), by_lower, n=1)
    return by_lower[close[0]] if close else None


def _question(given: str, known: Collection[str]) -> str:
    """A question that names what was perhaps meant; may be empty."""
    meant = nearest(given, known)
    return "" if meant is None else f"Did you mean {meant}? "
