"""What writes files, below the commands: every fault at every step."""

import pytest

from tests.support import faults
from tests.support.faults import Fault
from tests.support.scenarios import World
from tests.support.storage_scenarios import STORAGE


@pytest.mark.parametrize("name", STORAGE)
@faults.EACH
def test_at_every_step(world: World, name: str, kind: type[Fault], options: dict[str, int]) -> None:
    assert faults.every(world, STORAGE[name], kind, **options) > 2


@pytest.mark.parametrize("name", STORAGE)
def test_after_a_power_failure_at_every_step(world: World, name: str) -> None:
    count = faults.power_failures(world, STORAGE[name], seeds=2)
    assert count.states > count.disks > 3


@pytest.mark.parametrize("name", ["a second round", "a larger pair"])
def test_real_kills(world: World, name: str) -> None:
    assert faults.real_kills(world, STORAGE[name], step=2) > 5
