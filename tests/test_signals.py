"""Signals that wait for the end of a step."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tlcli import signals
from tlcli.errors import Stopped


class Interrupted(BaseException):
    """What the handler of these tests raises."""


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM])
def number(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal whose handler raises."""

    def handler(number: int, frame: object) -> None:
        raise Interrupted(number)

    before = signal.signal(request.param, handler)
    yield request.param
    signal.signal(request.param, before)


def test_a_signal_waits_until_it_is_asked_for(number: int) -> None:
    done = []
    with pytest.raises(Interrupted), signals.held() as waiting:
        waiting.deliver(lambda: done.append("too early"))
        os.kill(os.getpid(), number)
        done.append("step")
        waiting.deliver(lambda: done.append("saved"))
        done.append("too far")
    assert done == ["step", "saved"]


def test_a_signal_that_was_not_asked_for_comes_at_the_end(number: int) -> None:
    done = []
    with pytest.raises(Interrupted):
        with signals.held():
            os.kill(os.getpid(), number)
            done.append("all")
        done.append("too far")
    assert done == ["all"]


def test_handlers_are_put_back(number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyError), signals.held():
        assert signal.getsignal(number) != before
        raise KeyError
    assert signal.getsignal(number) == before


def test_an_ignored_signal_stays_ignored(number: int) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    with signals.held() as waiting:
        os.kill(os.getpid(), number)
        waiting.deliver(lambda: pytest.fail("delivered"))
    signal.signal(number, before)


def test_another_thread_holds_nothing_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with signals.held() as waiting:
            seen.append(signal.getsignal(signal.SIGINT))
            waiting.deliver(lambda: seen.append("delivered"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_what_another_process_was_told_is_delivered_here(number: int) -> None:
    told = [0, number]
    asked: list[int] = []

    def agree(own: int) -> int:
        asked.append(own)
        return told.pop(0)

    done = []
    with pytest.raises(Interrupted), signals.held(agree) as waiting:
        waiting.deliver(lambda: done.append("too early"))
        waiting.deliver(lambda: done.append("saved"))
        done.append("too far")
    assert (done, asked) == (["saved"], [0, 0])


def test_a_signal_of_others_that_is_ignored_here_ends_the_program_all_the_same() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with pytest.raises(Stopped) as stopped, signals.held(lambda own: signal.SIGHUP) as waiting:
        waiting.deliver(lambda: None)
    assert stopped.value.exit_code == 129
    signal.signal(signal.SIGHUP, before)
