"""What appears where: results on standard output, everything else on standard error."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from tlcli.config import (
    Progress,
    no_progress,
)
from tlcli.strict import printable

LEVELS = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}


def result(content: dict[str, Any], text: Callable[[dict[str, Any]], str], as_json: bool) -> None:
    """Print a command's result: one JSON object, or text for people."""
    from tlcli.reports import json_line

    click.echo(json_line(content) if as_json else _lines(text(content)))


def _lines(text: str) -> str:
    """Lines without what a terminal would obey."""
    return "\n".join(map(printable, text.split("\n")))


def complain(message: str) -> None:
    """Print one line to standard error."""
    click.echo(f"tlcli: {printable(' '.join(message.split()))}", err=True)


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
