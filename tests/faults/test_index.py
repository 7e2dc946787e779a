"""An index under kills, refusals of the system, signals and a full disk: old or new, as a whole."""

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.disk import largest_file
from tests.support.faults import Error, Fault, Kill, Signal
from tests.support.index_scenarios import INDEX, ROWS_OF_INDEX
from tests.support.scenarios import Scenario, World
from tlcli import retrieval
from tlcli.retrieval import records

pytestmark = pytest.mark.usefixtures("tiny_backbone")

HERE = Path(__file__).parents[2]
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "sqlite3.connect", "os.link")


def scenario_of(name: str) -> Scenario:
    """Skips where faiss is missing."""
    if "structure" in name:
        pytest.importorskip("faiss")
    return (INDEX | ROWS_OF_INDEX)[name]


@pytest.mark.parametrize("name", ROWS_OF_INDEX)
@faults.EACH
def test_at_every_step(world: World, name: str, kind: type[Fault], options: dict[str, int]) -> None:
    step = 3 if "structure" in name else 1
    assert faults.every(world, scenario_of(name), kind, step, **options) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", INDEX)
@faults.EACH
def test_commands_at_every_step(
    world: World, name: str, kind: type[Fault], options: dict[str, int]
) -> None:
    assert faults.every(world, INDEX[name], kind, **options) >= 2


@pytest.mark.parametrize("name", INDEX)
@pytest.mark.parametrize(
    ("kind", "options"),
    [(Kill, {}), (Error, {"code": errno.ENOSPC}), (Signal, {})],
    ids=["kill", "ENOSPC", "SIGTERM"],
)
def test_commands_at_some_steps(
    world: World, name: str, kind: type[Fault], options: dict[str, int]
) -> None:
    assert faults.every(world, INDEX[name], kind, 5, 1, **options) >= 1


@pytest.mark.parametrize("name", [*INDEX, *ROWS_OF_INDEX])
def test_a_full_disk_is_exit_code_6_and_changes_nothing(world: World, name: str) -> None:
    """Of any size: the rows, the database, its log, or the structure cannot be written."""
    scenario = scenario_of(name)
    before, after = world.ends(scenario)
    codes = set()
    for byte_count in (1000, 2000, 4096, 9000, 20_000, 40_000):
        world.reset(scenario)
        with largest_file(byte_count):
            answer = world.run(scenario)
        codes.add(answer.code)
        assert len(answer.err.strip().splitlines()) == (answer.code != 0), answer
        assert world.look(scenario) == (after if answer.code == 0 else before), byte_count
        assert world.run(scenario).code == 0
        assert world.look(scenario) == after
    assert codes - {0} == {6}


def forked(world: World, scenario: Scenario, first: Callable[[], None]) -> int:
    """A child that does what a scenario does; its process id."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        code = 99
        try:
            first()
            code = world.run(scenario).code
        finally:
            os._exit(code)
    return child


def killed(child: int) -> bool:
    """Whether a child was; else it succeeded."""
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0, status
    return os.WIFSIGNALED(status)


def count_down(number: int) -> None:
    """SIGKILL to this process before its file operation or statement of this number."""
    left = [number]

    def step(told: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    before_each(step)


def kill_at(words: str) -> None:
    """SIGKILL to this process before an operation or statement that has these words."""
    before_each(lambda told: os.kill(os.getpid(), signal.SIGKILL) if words in told else None)


def before_each(step: Callable[[str], None]) -> None:
    """Tell of every file operation and statement of this process."""
    opened = records._connected

    def connected(path: Path, writes: bool) -> sqlite3.Connection:
        database = opened(path, writes)
        database.set_trace_callback(step)
        return database

    records._connected = connected
    sys.addaudithook(lambda event, told: step(f"{event} {told}") if event in EVENTS else None)


def require_sound(world: World, scenario: Scenario, done: bool) -> bool:
    """Old or new as a whole, the same once more, no file that no record names; whether new."""
    before, after = world.ends(scenario)
    seen = world.look(scenario)
    assert seen == after if done else seen in (before, after)
    assert world.run(scenario).code == 0
    assert world.look(scenario) == after
    run = world.place / "run"
    with retrieval.writing(run, 0) as writer:
        named = {name for _, name, _ in writer.records.files()}
    assert {path.name for path in (run / "index").glob("*.h5")} == named
    return bool(seen == after)


FORKED = [name for name in ROWS_OF_INDEX if "structure" not in name]
"""The threads of faiss do not survive a fork."""


@pytest.mark.parametrize("name", FORKED)
@pytest.mark.parametrize(
    "step", [pytest.param(1, id="each", marks=pytest.mark.slow), pytest.param(3, id="some")]
)
def test_a_kill_before_file_operations_and_statements(world: World, name: str, step: int) -> None:
    scenario, number, ends = ROWS_OF_INDEX[name], 0, set()
    world.ends(scenario)
    died = True
    while died:
        number += step
        world.reset(scenario)
        died = killed(forked(world, scenario, partial(count_down, number)))
        ends.add(require_sound(world, scenario, not died))
    assert number > 10
    assert ends == {True, False}


@pytest.mark.parametrize("name", FORKED)
def test_a_kill_at_any_moment(world: World, name: str) -> None:
    """Also while SQLite writes, which tells nobody."""
    scenario = ROWS_OF_INDEX[name]
    world.ends(scenario)
    world.reset(scenario)
    start = time.perf_counter()
    assert not killed(forked(world, scenario, lambda: None))
    seconds = time.perf_counter() - start
    for moment in range(8):
        world.reset(scenario)
        child = forked(world, scenario, lambda: None)
        time.sleep(seconds * moment / 8)
        os.kill(child, signal.SIGKILL)
        require_sound(world, scenario, not killed(child))


BUILD = """
import sys, time
from pathlib import Path
from tests.faults.test_index import kill_at
from tests.support.index_scenarios import built
kill_at(sys.argv[2])
built(Path(sys.argv[1]))
"""


def test_a_killed_build_leaves_the_structure_before(world: World) -> None:
    """In processes of their own, before some of their steps and after the last one."""
    scenario = scenario_of("a later structure")
    before, after = world.ends(scenario)
    for words, wanted in (
        ("rename", before),
        ("BEGIN IMMEDIATE", before),
        ("COMMIT", before),
        ("nothing", after),
    ):
        world.reset(scenario)
        command = [sys.executable, "-c", BUILD, str(world.place), words]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
        assert done.returncode == (0 if wanted == after else -signal.SIGKILL), done.stderr
        require_sound(world, scenario, wanted == after)
