"""Workers come together before TensorFlow connects them: what it waits in hears no signal.

The chief listens at its own address; each worker says who it is there, and all are told to go on
when the last one has come. Until then every one of them can be interrupted, and gives up in time.
"""

import contextlib
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator

from tlcli.errors import ClusterUnavailable, WorkerGone
from tlcli.signals import STOPPING
from tlcli.training.members import Members

_HELLO = "tlcli worker {place} of {count}\n"
_GO = b"go on\n"
_ANSWER_SECONDS = 5.0
"""Of somebody who has connected."""
_PAUSE_SECONDS = 0.5
"""Before a chief that is not there is asked again."""


def gather(members: Members, most_seconds: float) -> None:
    """Wait until all are there.

    Raises:
        WorkerGone: some have not come in time.
        ClusterUnavailable: others listen at the address of this process.
    """
    deadline = time.monotonic() + most_seconds
    if members.here:
        _report(members, deadline)
    elif len(members.addresses) > 1:
        _expect(members, deadline)


@contextlib.contextmanager
def killable() -> Iterator[None]:
    """For the block, signals to stop end the process at once, and not when Python runs again."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in STOPPING if callable(signal.getsignal(number))]
    before = [signal.signal(number, signal.SIG_DFL) for number in heard]
    try:
        yield
    finally:
        for number, handler in zip(heard, before, strict=True):
            signal.signal(number, handler)


def _expect(members: Members, deadline: float) -> None:
    """Listen until every worker has come."""
    come: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(_server(members.addresses[0]))
        while missing := [n for n in range(1, len(members.addresses)) if n not in come]:
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                connection = opened.enter_context(server.accept()[0])
            except TimeoutError as error:
                raise _missing(members, missing) from error
            if (place := _place_of(connection, len(members.addresses))) is not None:
                come[place] = connection
        for connection in come.values():
            with contextlib.suppress(OSError):
                connection.sendall(_GO)


def _report(members: Members, deadline: float) -> None:
    """Say to the chief who is there, until it says to go on."""
    hello = _HELLO.format(place=members.here, count=len(members.addresses)).encode()
    host, _, port = members.addresses[0].rpartition(":")
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(OSError):
            address = (host.strip("[]"), int(port))
            with socket.create_connection(address, min(left, _ANSWER_SECONDS)) as connection:
                connection.sendall(hello)
                connection.settimeout(left)
                if connection.recv(len(_GO)) == _GO:
                    return
        time.sleep(_PAUSE_SECONDS)
    raise _missing(members, [0])


def _server(address: str) -> socket.socket:
    port = int(address.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except (OSError, OverflowError) as error:
        raise ClusterUnavailable(
            f"Expected to be reached at {address}. Received: {error}. "
            "End what else is there, or use other ports."
        ) from error


def _place_of(connection: socket.socket, count: int) -> int | None:
    """Which worker has connected; None for somebody else."""
    connection.settimeout(_ANSWER_SECONDS)
    try:
        said = connection.recv(100).decode("ascii", "replace")
    except OSError:
        return None
    found = re.fullmatch(_HELLO.format(place=r"(\d{1,5})", count=count), said)
    return int(found[1]) if found else None


def _missing(members: Members, places: list[int]) -> WorkerGone:
    names = ", ".join(members.addresses[place] for place in places)
    return WorkerGone(
        f"Expected {len(members.addresses)} workers. Received: nobody from {names} in time. "
        "Start all of them at about the same time."
    )
