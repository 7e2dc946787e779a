"""Two commands at once: one runs as a whole before each operation of the other, reads included."""

from dataclasses import dataclass

import pytest

from tests.support import faults
from tests.support.operations import Watched
from tests.support.scenarios import SCENARIOS, Scenario, World

pytestmark = pytest.mark.usefixtures("tiny_backbone")


@dataclass(frozen=True)
class Pair:
    """Two commands that start from the same place."""

    one: str
    other: str
    codes: tuple[int, ...]
    """Of the command that is interrupted."""
    other_codes: tuple[int, ...]
    """Of the one in between: 75 while the run is locked."""
    either_order: tuple[str, ...] = ()
    """Commands that make, in this or the reverse order, what there is to see at the end."""


def _reader(name: str, *arguments: str) -> Scenario:
    start = SCENARIOS["rounds prune"]
    return Scenario(name, start.prepare, arguments, start.look)


READERS = {
    reader.name: reader
    for reader in (
        _reader("rounds list", "rounds", "list", "run"),
        _reader("rounds show", "rounds", "show", "run"),
        _reader("rounds verify", "rounds", "verify", "run"),
        _reader("predict", "predict", "run", "../data/first"),
        _reader("evaluate", "evaluate", "run", "../data/first", "--include-learned"),
    )
}

BOTH = {**SCENARIOS, **READERS}

PAIRS = {
    f"{reader} beside rounds prune": Pair(reader, "rounds prune", (0,), (0,)) for reader in READERS
} | {
    f"rounds prune beside {reader}": Pair("rounds prune", reader, (0,), (0,)) for reader in READERS
}

TWICE = ("rounds rollback", "data divide into tables", "rounds prune")


def positions(world: World, one: Scenario, start: Scenario, step: int) -> list[int]:
    """Before which operations the other command runs."""
    count = faults.Beside(world, one, -1)
    world.reset(start)
    with Watched(world.place, count).watching():
        world.run(one)
    return list(range(0, count.seen, step))


def run_pair(world: World, pair: Pair, step: int = 1) -> int:
    """Every schedule of a pair; how many there were."""
    one, other = BOTH[pair.one], BOTH[pair.other]
    start = SCENARIOS["rounds prune"]
    _, after = world.ends(start)
    places = positions(world, one, start, step)
    for number in places:
        answer, beside = faults.beside(world, one, other, start, number)
        assert answer.code in pair.codes, (pair, number, answer)
        assert beside is not None, (pair, number)
        assert beside.code in pair.other_codes, (pair, number, beside)
        assert world.look(start) == after, (pair, number)
        assert not world.leftovers(), (pair, number, world.leftovers())
    return len(places)


def run_twice(world: World, name: str, step: int = 1) -> int:
    """The same command twice at once: one of them does it, and the other finds it or is told 75."""
    scenario = SCENARIOS[name]
    _, after = world.ends(scenario)
    places = positions(world, scenario, scenario, step)
    for number in places:
        answer, beside = faults.beside(world, scenario, scenario, scenario, number)
        assert beside is not None, (name, number)
        codes = (answer.code, beside.code)
        assert 0 in codes, (name, number, answer, beside)
        assert set(codes) <= {0, 75}, (name, number, answer, beside)
        assert world.look(scenario) == after, (name, number)
        assert not world.leftovers(), (name, number, world.leftovers())
    return len(places)


@pytest.mark.parametrize("name", PAIRS)
def test_readers_and_a_prune_do_not_disturb_each_other(world: World, name: str) -> None:
    """`evaluate` measures fewer rounds where they were pruned before it looked."""
    assert run_pair(world, PAIRS[name], step=7) > 2


@pytest.mark.parametrize("name", TWICE)
def test_a_command_twice_at_once(world: World, name: str) -> None:
    assert run_twice(world, name, step=5) > 2


def test_drafts_of_a_live_process_are_not_swept(world: World) -> None:
    """Of two that write the same file, neither takes the other's unfinished one away."""
    assert run_twice(world, "moments") > 5
