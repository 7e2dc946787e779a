"""The folder in which commands work while something goes wrong."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.scenarios import World


@pytest.fixture(scope="package")
def world(isolated: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Data, and a place that every case begins anew."""
    return World(tmp_path_factory.mktemp("world"))


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Coverage pauses here: the same lines run hundreds of times, and other tests run them too."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.no_cover)
