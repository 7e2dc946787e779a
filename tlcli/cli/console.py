"""What appears where: results on standard output, everything else on standard error."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import click

from tlcli.config import (
    Progress,
    no_progress,
)
from tlcli.errors import StorageError
from tlcli.strict import printable

LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}


def result(content: dict[str, Any], text: Callable[[dict[str, Any]], str], as_json: bool) -> None:
    """Print a command's result: one JSON object, or text for people."""
    from tlcli.files import json_text

    put(json_text(content) if as_json else _lines(text(content)), content)


def _lines(text: str) -> str:
    """Lines without what a terminal would obey."""
    return "\n".join(map(printable, text.split("\n")))


def put(text: str, content: dict[str, Any] | None = None, newline: bool = True) -> None:
    """Print text to standard output.

    Args:
        text: of a result, or of a part of it.
        content: the whole of it, where the command has done its work.
        newline: whether the text does not end with one.

    Raises:
        BrokenPipeError: the reader has gone.
        Unprinted: it cannot be printed.
    """
    try:
        click.echo(text, nl=newline)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Unprinted(_unprinted(content, error)) from error


class Unprinted(StorageError):
    """A result could not be printed."""


def _unprinted(content: dict[str, Any] | None, error: OSError) -> str:
    """What to say instead; of a round, where it is."""
    received = f"Expected to be able to print the result. Received: {error.strerror or error}."
    if content is None:
        return f"{received} Free space, or print it elsewhere."
    if "changed" not in content or "round" not in content:
        return f"{received} The command itself has ended well."
    run, number = content["run"], content["round"]
    return (
        f"{received} Round {number} of {run} is committed all the same: "
        f"`tlcli rounds show {run} --round {number}` shows it."
    )


def complain(message: str) -> None:
    """Print one line to standard error."""
    remark(f"tlcli: {printable(' '.join(message.split()))}")


def remark(text: str) -> None:
    """Print text to standard error; where nothing can be printed there, nothing else is lost."""
    try:
        click.echo(text, err=True)
    except OSError:
        give_up(sys.stderr)


def give_up(stream: TextIO) -> None:
    """Keep the interpreter from failing again when it flushes a stream at its end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def set_up_logging(verbosity: int) -> None:
    """Send tlcli's own log to standard error.

    Args:
        verbosity: -1 errors only, 0 warnings too, 1 everything.
    """
    logger = logging.getLogger("tlcli")
    logger.setLevel(LEVELS[verbosity])
    logger.handlers = [_StandardError()]
    logger.propagate = False


class _StandardError(logging.Handler):
    """One line a message, above a progress bar that may be on the screen."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        complain(message if record.levelno <= logging.INFO else f"warning: {message}")


@contextmanager
def progress_bar(quiet: bool) -> Iterator[Progress]:
    """A bar with rate and time left on a terminal, nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield no_progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Reporter(bar)


class _Reporter:
    """A line for each phase, with its rate."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._tasks: dict[str, tuple[Any, float]] = {}

    def __call__(self, phase: str, done: int, total: int) -> None:
        if phase not in self._tasks:
            task = self._bar.add_task(phase, total=total, rate="")
            self._tasks[phase] = (task, time.monotonic())
        task, start = self._tasks[phase]
        rate = done / max(time.monotonic() - start, 1e-3)
        self._bar.update(task, completed=done, total=total, rate=f"{rate:.0f}/s")


def run_stage(stage: Any, config: Any, verbosity: int, as_json: bool) -> None:
    """Run a stage that publishes a round, and print its result."""
    from tlcli.reports import round_text

    with progress_bar(verbosity < 0) as progress:
        answer = stage(config, progress)
    result(answer.to_json(), round_text, as_json)
