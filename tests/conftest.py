"""What every test runs under: no network, no cache or log folder of the user."""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest


@pytest.fixture(scope="session", autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Caches and logs go to a temporary folder, and a connection is an error."""
    folder = tmp_path_factory.mktemp("isolated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLCLI_CACHE_DIR", str(folder / "cache"))
        patch.setenv("TLCLI_LOG_DIR", str(folder / "log"))
        patch.setattr(socket.socket, "connect", _refuse)
        patch.setattr(socket, "getaddrinfo", _refuse)
        yield folder


def _refuse(*arguments: object, **options: object) -> NoReturn:
    raise OSError("tests have no network")
