"""Signals that wait: a step that must not be cut asks for them when it is done."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from tlcli.errors import Stopped

STOPPING = (int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGHUP))
"""What asks a program to end."""


@dataclass
class Waiting:
    """The first signal that came since `held` began, and what it would have done."""

    agree: Callable[[int], int] = int
    """The signal that came here, or 0 → the one that is delivered: of processes that work
    together, the same in all."""
    _handlers: dict[int, Any] = field(default_factory=dict)
    _number: int | None = None

    def deliver(self, before: Callable[[], None]) -> None:
        """Call `before` and let the signal do its work now; nothing where none came."""
        if number := self.agree(self._number or 0):
            before()
            self._number = None
            if number not in self._handlers:
                raise Stopped(number)
            self._handlers[number](number, None)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self._number = self._number or number


@contextmanager
def held(agree: Callable[[int], int] = int) -> Iterator[Waiting]:
    """Hold back what is in `STOPPING` for the block; one that was not delivered is, at its end.

    In a thread that is not the main one, and where a signal is ignored or kills at once, nothing
    is held back.

    Args:
        agree: see `Waiting`.
    """
    waiting = Waiting(agree)
    if threading.current_thread() is not threading.main_thread():
        yield waiting
        return
    for number in STOPPING:
        if callable(handler := signal.getsignal(number)):
            waiting._handlers[number] = handler
            signal.signal(number, waiting._remember)
    try:
        yield waiting
    finally:
        for number, handler in waiting._handlers.items():
            signal.signal(number, handler)
    waiting.deliver(lambda: None)
