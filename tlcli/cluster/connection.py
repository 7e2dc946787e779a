"""An address → a connection to a scheduler that fits, kept until the program ends."""

import asyncio
import atexit
import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tlcli.errors import ClusterUnavailable, UsageError
from tlcli.images import PROCESSORS

CONNECT_SECONDS = 10.0
"""A scheduler that has not answered by then is not there, and neither are workers."""

LOCAL_SECONDS = 60.0
"""So long workers of this machine may take to start, where much else runs."""

_LOCAL_SETTINGS = {
    # Dask's own settings make every large array a new one of the system, which takes time.
    "distributed.nanny.pre-spawn-environ": {},
    # What workers watch of themselves, for a dashboard that nobody sees, costs a seventh.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
}

_LOCAL = re.compile(r"local:([1-9][0-9]{0,3})")
_ELSEWHERE = re.compile(r"((tcp|tls|ucx|ws|wss)://)?(?!local:)[^\s/]+:[0-9]{1,5}")
_LOGGERS = ("distributed", "distributed.client", "distributed.nanny", "distributed.worker")


@dataclass(frozen=True, eq=False)
class Connection:
    """To a scheduler."""

    address: str
    """As it was given."""
    client: Any
    """`distributed.Client`."""
    cluster: Any = None
    """Of this machine; None where the cluster is somebody else's."""

    def threads(self) -> dict[str, int]:
        """How many tasks each worker that is there computes at once, by its address."""
        with self.answering():
            return dict(self.client.nthreads())

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Turn what Dask raises when the scheduler goes into a clear error."""
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise ClusterUnavailable(
                f"Expected the scheduler at {self.address} to go on. Received: it does not answer "
                f"({_line(error)}). Start it again, and run the command again: what was computed "
                "is cached."
            ) from error

    def close(self) -> None:
        """Let go of the workers; those of this machine end."""
        with contextlib.suppress(OSError, RuntimeError):
            self.client.close(timeout=5)
        if self.cluster is not None:
            with contextlib.suppress(OSError, RuntimeError):
                self.cluster.close(timeout=5)


_open: dict[str, Connection] = {}


def connect(address: str) -> Connection:
    """The connection to an address, the same one each time.

    Args:
        address: `local:N` for N worker processes on this machine, or that of a scheduler.

    Raises:
        UsageError: it is no address.
        ClusterUnavailable: Dask is not installed, no scheduler answers, none that fits, or it has
            no worker.
    """
    if address not in _open:
        if not _open:
            atexit.register(close_all)
        _open[address] = _opened(address)
    return _open[address]


def close_all() -> None:
    """Close every connection."""
    while _open:
        _open.popitem()[1].close()


def _opened(address: str) -> Connection:
    local = _LOCAL.fullmatch(address)
    if not local and not _ELSEWHERE.fullmatch(address):
        raise UsageError(
            f"Expected a cluster like tcp://host:8786, or local:4. Received: cluster={address!r}. "
            "Give the address that the scheduler prints."
        )
    _require_dask()
    connection = _local(address, int(local[1])) if local else _elsewhere(address)
    try:
        _require_workers(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_dask() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise ClusterUnavailable(
            "Expected Dask for --cluster. Received: the package distributed is not installed. "
            "Install it with `pip install 'tlcli[cluster]'`, here and where the workers are."
        ) from error
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _local(address: str, workers: int) -> Connection:
    from distributed import Client

    try:
        cluster = _processes(workers)
        return Connection(address, Client(cluster, timeout=LOCAL_SECONDS), cluster)
    except (OSError, RuntimeError) as error:
        raise ClusterUnavailable(
            f"Expected {workers} worker processes on this machine. Received: they do not start "
            f"({_line(error)}). Close other programs, or leave --cluster out."
        ) from error


def _processes(workers: int) -> Any:
    import dask
    from distributed import LocalCluster

    with dask.config.set(_LOCAL_SETTINGS):
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=max(1, PROCESSORS // workers),
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            memory_limit=None,
            silence_logs=logging.CRITICAL + 1,
        )


def _elsewhere(address: str) -> Connection:
    from distributed import Client

    _require_same_version(address, _asked(address))
    with contextlib.suppress(OSError, RuntimeError):
        return Connection(address, Client(address, timeout=CONNECT_SECONDS))
    raise _nobody(address, "it stopped answering")


def _asked(address: str) -> dict[str, Any]:
    """What a scheduler says of its versions; `Client` alone would wait for a stranger forever."""
    try:
        return asyncio.run(asyncio.wait_for(_versions(address), CONNECT_SECONDS))
    except TimeoutError as error:
        raise _nobody(address, "no answer") from error
    except Exception as error:
        raise _nobody(address, _line(error)) from error


async def _versions(address: str) -> dict[str, Any]:
    from distributed import Security
    from distributed.core import rpc

    arguments = Security().get_connection_args("client")
    async with rpc(address, connection_args=arguments) as scheduler:
        return dict(await scheduler.versions())


def _nobody(address: str, received: str) -> ClusterUnavailable:
    return ClusterUnavailable(
        f"Expected a Dask scheduler at {address}. Received: {received}, within "
        f"{CONNECT_SECONDS:.0f} seconds. Start one with `dask scheduler`, or correct --cluster."
    )


def _require_same_version(address: str, found: dict[str, Any]) -> None:
    """Dask promises nothing between versions: messages may be misread."""
    import distributed

    there = found.get("packages", {}).get("distributed")
    if there != distributed.__version__:
        raise ClusterUnavailable(
            f"Expected distributed {distributed.__version__}, as here, at {address}. Received: "
            f"{there}. Install one version everywhere."
        )


def _require_workers(connection: Connection) -> None:
    try:
        with connection.answering():
            connection.client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except ClusterUnavailable as error:
        raise ClusterUnavailable(
            f"Expected workers at {connection.address}. Received: none within "
            f"{CONNECT_SECONDS:.0f} seconds. Start some with `dask worker {connection.address}`."
        ) from error


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
