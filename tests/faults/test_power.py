"""Power failures: whatever of the unflushed reached the disk, the run is the old one or the new."""

import pytest

from tests.support import crashes, faults
from tests.support.crashes import Recorded
from tests.support.scenarios import SCENARIOS, World

pytestmark = [
    pytest.mark.usefixtures("tiny_backbone"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

CHEAP = {
    "rounds rollback": 2,
    "rounds prune": 2,
    "moments": 1,
    "data divide into tables": 1,
    "pretrain below folders": 40,
    "extend-classes merge": 24,
    "merge": 40,
    "export openvino for the first time": 8,
}
"""The commands, and how many steps are left out."""


@pytest.mark.parametrize("name", CHEAP)
def test_after_a_power_failure(world: World, name: str) -> None:
    count = faults.power_failures(world, SCENARIOS[name], seeds=1, step=CHEAP[name])
    assert count.states > 5
    assert count.disks > 1


def test_what_is_recorded_is_what_happened(world: World) -> None:
    """Without a failure the model of the disk is the disk."""
    for name in ("rounds rollback", "rounds prune", "data divide by moving"):
        scenario = SCENARIOS[name]
        world.reset(scenario)
        recorded = Recorded(world.place)
        with recorded.watched().watching():
            assert world.run(scenario).code == 0
        model = crashes._replayed(recorded, len(recorded.steps), frozenset())
        assert model.tree("whole") == crashes.tree_of(world.place)
