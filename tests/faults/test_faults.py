"""Kills, refusals and signals before the n-th change of the disk: what is there is old or new.

The fast ones take every step of commands that are cheap, and some steps of the others;
`scripts/soak` takes every step of every command.
"""

import errno
import os

import pytest

from tests.support import faults
from tests.support.faults import Error, Fault, Kill
from tests.support.scenarios import SCENARIOS, World

pytestmark = [
    pytest.mark.usefixtures("tiny_backbone"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

AT_EVERY_STEP = ("rounds prune", "moments", "data divide into tables")

SOME_STEPS = {
    "rounds rollback": (0, 4),
    "extend-classes merge": (1, 11),
    "merge": (3, 17),
    "pretrain below folders": (0, 19),
    "remove-classes": (7, 19),
    "data divide by moving": (2, 5),
    "predict with copies": (3, 7),
    "evaluate with reports": (2, 4),
}
"""The first step, and how many are left out up to the next."""


@pytest.mark.parametrize("name", AT_EVERY_STEP)
@faults.EACH
def test_at_every_step(world: World, name: str, kind: type[Fault], options: dict[str, int]) -> None:
    assert faults.every(world, SCENARIOS[name], kind, **options) > 5


@pytest.mark.parametrize("name", SOME_STEPS)
def test_a_kill_at_some_steps(world: World, name: str) -> None:
    first, step = SOME_STEPS[name]
    assert faults.every(world, SCENARIOS[name], Kill, step, first) > 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kill, Error])
def test_some_steps_of_a_training_of_a_projection(world: World, kind: type[Fault]) -> None:
    options = {"code": errno.ENOSPC} if kind is Error else {}
    assert faults.every(world, SCENARIOS["finetune a projection"], kind, 15, 2, **options) > 2


@pytest.mark.parametrize("name", ["merge", "pretrain below folders", "evaluate with reports"])
def test_a_full_disk_at_some_steps(world: World, name: str) -> None:
    first, step = SOME_STEPS[name]
    count = faults.every(world, SCENARIOS[name], Error, step, first + 1, code=errno.ENOSPC)
    assert count > 1


@pytest.mark.slow
def test_an_export_of_two_files_at_every_step_of_its_publication(world: World) -> None:
    """The last of its steps; nothing is in place before."""
    for which, steps in (("for the first time", 8), ("over an earlier one", 16)):
        scenario = SCENARIOS[f"export openvino {which}"]
        end = Kill(10**6)
        faults.case(world, scenario, end)
        for number in range(end.seen - steps, end.seen):
            assert faults.case(world, scenario, Kill(number))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_real_kills(world: World) -> None:
    assert faults.real_kills(world, SCENARIOS["rounds rollback"], 4) > 4
