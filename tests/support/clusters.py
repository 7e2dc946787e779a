"""Commands in processes of their own, and Dask clusters of which workers come and go."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import accidents

TINY = "tests.support.tiny"


def begun(
    cache: Path, *arguments: object, module: str = TINY, before: Sequence[str] = (), **more: str
) -> subprocess.Popen[str]:
    """A command in a process of its own, with a cache of its own.

    Args:
        cache: its folder.
        arguments: of the command.
        module: the command line.
        before: words before it, as of `ip netns exec`.
        more: environment.
    """
    return subprocess.Popen(
        [*before, sys.executable, "-m", module, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "TLCLI_CACHE_DIR": str(cache),
            "DASK_DISTRIBUTED__WORKER__PRELOAD": accidents.__file__,
            **more,
        },
    )


def done(cache: Path, *arguments: object, code: int = 0, **options: Any) -> tuple[str, str]:
    """Standard output and error of a command, after its exit code was compared."""
    process = begun(cache, *arguments, **options)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    return out, err


@dataclass
class Cluster:
    """A scheduler and its workers, each in a process of its own."""

    folder: Path
    protocol: tuple[str, ...] = ()
    """How they speak."""
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def place(self) -> Path:
        """Where the scheduler says its address."""
        return self.folder / "scheduler.json"

    @property
    def address(self) -> str:
        """Of the scheduler."""
        return str(json.loads(self.place.read_text())["address"])

    def scheduler(self, *before: str, host: str = "127.0.0.1", **more: str) -> None:
        """Start it."""
        self._start(before, "scheduler", "--port", "0", "--host", host, **more)
        wait_until(lambda: self.place.exists() and bool(self.place.read_text()))

    def worker(
        self, *options: str, before: Sequence[str] = (), host: str = "127.0.0.1", **more: str
    ) -> subprocess.Popen[bytes]:
        """Start one.

        Args:
            options: of `dask worker`.
            before: words before the command, as of `ip netns exec`.
            host: its address.
            more: environment.
        """
        self._start(before, "worker", "--host", host, *options, **more)
        return self.started[-1]

    def _start(self, before: Sequence[str], command: str, *options: str, **more: str) -> None:
        given = ("--scheduler-file", str(self.place), "--no-dashboard", *self.protocol)
        self.started.append(
            subprocess.Popen(
                [*before, sys.executable, "-m", "dask", command, *given, *options],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **more},
            )
        )

    def end(self) -> None:
        """End all of them, the last first."""
        for process in reversed(self.started):
            process.terminate()
            process.wait(30)

    def asked(self, code: str) -> str:
        """What a client prints: `c` is its name."""
        text = f"from distributed import Client\nc = Client({self.address!r})\n{code}"
        ran = subprocess.run([sys.executable, "-c", text], check=True, capture_output=True)
        return ran.stdout.decode()

    def wait_for_workers(self, count: int) -> None:
        """Return when there are so many."""
        self.asked(f"c.wait_for_workers({count}, 60)")


@contextmanager
def cluster(folder: Path, *workers: dict[str, str]) -> Iterator[Cluster]:
    """A scheduler with a worker for each environment."""
    found = Cluster(folder)
    try:
        found.scheduler()
        for environment in workers:
            found.worker(**environment)
        yield found
    finally:
        found.end()


def wait_until(ready: Callable[[], bool], seconds: float = 60) -> None:
    """Return when something has come; raises where it does not."""
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "it has not come"
        time.sleep(0.05)
