"""Kills, errors and signals before the n-th operation of a command, and what must hold after each.

After every case: what there is to see is the old or the new; the same command, once more, ends as
if nothing had happened; and nothing is left behind.
"""

import contextlib
import errno
import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support import crashes
from tests.support.crashes import Recorded
from tests.support.operations import CHANGES, Operation, Watched, of_descriptor
from tests.support.scenarios import Answer, Scenario, World, is_sound, to_text
from tlcli.cli import app

GROWING = frozenset(["create", "write", "mkdir", "rename", "link", "sync", "exchange"])
"""What a full disk refuses."""


class Killed(BaseException):
    """The process is no more: nothing it does afterwards reaches the disk."""


@dataclass
class Fault:
    """Something that happens before the n-th change of the disk."""

    number: int
    """From 0."""
    seen: int = 0
    at: Operation | None = None
    """Before which it happened; None where the command had fewer."""

    def __call__(self, operation: Operation) -> None:
        """A hook."""
        if operation.kind not in CHANGES:
            return
        if self.seen == self.number:
            self.at = operation
        self.seen += 1
        if self.at is not None:
            self.act(operation)

    def act(self, operation: Operation) -> None:
        """What happens, at this change and at every later one."""
        raise NotImplementedError

    def require_code(self, answer: Answer) -> None:
        """Raise where the command answered otherwise than it should."""


@dataclass
class Kill(Fault):
    """A kill that leaves the process no step more."""

    def act(self, operation: Operation) -> None:
        """See the class."""
        raise Killed


@dataclass
class RealKill(Fault):
    """SIGKILL."""

    def act(self, operation: Operation) -> None:
        """See the class."""
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Error(Fault):
    """The system refuses one operation; a full disk, all that need room."""

    code: int = errno.EIO

    def act(self, operation: Operation) -> None:
        """See the class."""
        lasting = self.code == errno.ENOSPC
        if operation.kind in GROWING if lasting else self.seen == self.number + 1:
            raise OSError(self.code, os.strerror(self.code))

    def require_code(self, answer: Answer) -> None:
        """Nothing could be saved, or it was of no importance; never a bug."""
        assert answer.code in (0, 6), answer


@dataclass
class Signal(Fault):
    """A signal that asks to stop."""

    signal_number: int = signal.SIGTERM

    def act(self, operation: Operation) -> None:
        """See the class."""
        if self.seen == self.number + 1:
            os.kill(os.getpid(), self.signal_number)

    def require_code(self, answer: Answer) -> None:
        """Stopped, or done: it came too late."""
        assert answer.code in (0, 128 + self.signal_number), answer


EACH = pytest.mark.parametrize(
    ("kind", "options"),
    [
        pytest.param(Kill, {}, id="kill"),
        pytest.param(Error, {"code": errno.ENOSPC}, id="ENOSPC"),
        pytest.param(Error, {"code": errno.EIO}, id="EIO", marks=pytest.mark.slow),
        pytest.param(Error, {"code": errno.EACCES}, id="EACCES", marks=pytest.mark.slow),
        pytest.param(Signal, {}, id="SIGTERM"),
    ],
)
"""Every kind of fault, for tests of `every`; one error of the system is fast."""


@contextmanager
def _as_a_process(world: World) -> Iterator[None]:
    """Signals as `main` has them; what a killed process held open is closed."""
    app._stopped.clear()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, app._stop)
    opened = _open_files()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if _open_files() - opened:
            gc.collect()
        for descriptor in _open_files() - opened:
            with contextlib.suppress(OSError):
                if of_descriptor(descriptor).startswith(str(world.place)):
                    os.close(descriptor)


def _open_files() -> set[int]:
    return {int(name) for name in os.listdir("/proc/self/fd")}  # noqa: PTH208


def strike(world: World, scenario: Scenario, fault: Fault) -> Answer | None:
    """Run a command with a fault; None where it was killed."""
    world.reset(scenario)
    return strike_again(world, scenario, fault)


def strike_again(world: World, scenario: Scenario, fault: Fault) -> Answer | None:
    """The same, from where the place is now."""
    with _as_a_process(world), Watched(world.place, fault).watching():
        try:
            return world.run(scenario)
        except Killed:
            return None


def case(world: World, scenario: Scenario, fault: Fault) -> bool:
    """One fault, and all that must hold after it; whether the command came so far."""
    world.ends(scenario)
    answer = strike(world, scenario, fault)
    if answer is not None and fault.at is not None:
        fault.require_code(answer)
    done = answer is not None and answer.code == 0
    _require_sound(world, scenario, f"{fault}", done)
    return fault.at is not None


def _require_sound(world: World, scenario: Scenario, what: str, done: bool) -> None:
    before, after = world.ends(scenario)
    seen = world.look(scenario)
    told = f"{scenario.name}, {what}"
    assert is_sound(scenario, seen, before, after), f"{told}: {to_text(seen)}"
    assert not done or seen == after, f"{told}: it said that it was done"
    again = world.run(scenario)
    assert again.code == 0, f"{told}: {again}"
    assert world.look(scenario) == after, f"{told}: again, it ends otherwise"
    assert not world.leftovers(), f"{told}: left behind {world.leftovers()}"


def every(
    world: World,
    scenario: Scenario,
    kind: type[Fault],
    step: int = 1,
    first: int = 0,
    **options: Any,
) -> int:
    """A fault before every n-th change of a command; how many there were."""
    number, count = first, 0
    while case(world, scenario, kind(number, **options)):
        number, count = number + step, count + 1
    return count


def real_kills(world: World, scenario: Scenario, step: int = 1) -> int:
    """SIGKILL to a child before every n-th change; how many there were."""
    world.ends(scenario)
    number = 0
    while True:
        world.reset(scenario)
        child = os.fork()
        if child == 0:
            _child(world, scenario, RealKill(number))
        status = os.waitpid(child, 0)[1]
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert killed or status == 0, f"{scenario.name}, {number}: the child ended with {status}"
        _require_sound(world, scenario, f"SIGKILL at {number}", done=not killed)
        if not killed:
            return number // step
        number += step


def _child(world: World, scenario: Scenario, fault: Fault) -> None:
    """Never returns."""
    signal.alarm(120)
    try:
        with Watched(world.place, fault).watching():
            os._exit(world.run(scenario).code)
    finally:
        os._exit(99)


@dataclass
class Failures:
    """How many power failures were looked at, and how many of them left another disk."""

    states: int = 0
    disks: int = 0


def power_failures(world: World, scenario: Scenario, seeds: int, step: int = 1) -> Failures:
    """Every disk that a power failure may leave during or after a command."""
    world.ends(scenario)
    world.reset(scenario)
    recorded = Recorded(world.place)
    with recorded.watched().watching():
        assert world.run(scenario).code == 0
    count, seen = Failures(), set[tuple[bool, str]]()
    for done, tree in crashes.states(recorded, seeds, step):
        count.states += 1
        finished = done == len(recorded.steps)
        key = (finished, crashes.digest(tree))
        if key not in seen:
            seen.add(key)
            count.disks += 1
            crashes.put(tree, world.empty())
            what = f"power failure after {done} of {len(recorded.steps)} operations"
            _require_sound(world, scenario, what, finished)
    return count


@dataclass
class Beside:
    """Another command, from its beginning to its end, before the n-th operation of a command."""

    world: World
    other: Scenario
    number: int
    seen: int = 0
    answer: Answer | None = field(default=None)

    def __call__(self, operation: Operation) -> None:
        """A hook; looks count too."""
        if self.seen == self.number:
            self.answer = self.world.run(self.other)
        self.seen += 1


def beside(
    world: World, one: Scenario, other: Scenario, start: Scenario, number: int
) -> tuple[Answer, Answer | None]:
    """What both answered; None where `one` had fewer operations."""
    hook = Beside(world, other, number)
    world.reset(start)
    with Watched(world.place, hook).watching():
        answer = world.run(one)
    return answer, hook.answer
