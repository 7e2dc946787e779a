"""The folder in which commands work while something goes wrong."""

from pathlib import Path

import pytest

from tests.support.scenarios import World


@pytest.fixture(scope="package")
def world(isolated: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Data, and a place that every case begins anew."""
    return World(tmp_path_factory.mktemp("world"))
