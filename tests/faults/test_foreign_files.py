"""Files of a stranger, whose hashes fit: what cannot be meant is one line and exit code 5."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import mutations
from tests.support.stranger import Stranger

COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "round": (
        ("rounds", "list", "RUN"),
        ("rounds", "show", "RUN"),
        ("predict", "RUN", "IMAGE"),
        ("extend-classes", "RUN", "LEARNED"),
    ),
    "report": (("rounds", "show", "RUN"), ("rounds", "rollback", "RUN", "--to", "1")),
    "head": (("predict", "RUN", "IMAGE"),),
    "memory": (("extend-classes", "RUN", "LEARNED"), ("extend-classes", "RUN", "NEW")),
    "part": (("extend-classes", "RUN", "NEW"),),
    "backbone": (("predict", "RUN", "IMAGE"), ("extend-classes", "RUN", "LEARNED")),
    "classifier": (("extend-classes", "RUN", "NEW"),),
    "moments": (("extend-classes", "RUN", "--moments", "FILE", "--memory", "moments"),),
}
"""The first of these is tried with every mutation of a format, the others with some."""


@pytest.fixture
def moments_file(stranger: Stranger, pictures: Path) -> Path:
    stranger.copy()
    path = Path(stranger.words["FILE"])
    assert stranger.call(("moments", "RUN", "NEW", "--out", "FILE"))[0] == 0
    return path


def all_complaints(stranger: Stranger, count: int, seed: int) -> list[str]:
    found: list[str] = []
    mutated = mutations.chosen(list(mutations.of_run(stranger.run)), count, seed)
    for number, mutation in enumerate(mutated):
        commands = COMMANDS[mutation.format]
        words = commands[number % len(commands)] if number % 3 == 0 else commands[0]
        found += stranger.complaints(mutation, stranger.copy, words)
    return found


def moments_complaints(stranger: Stranger, path: Path, count: int, seed: int) -> list[str]:
    mutated = mutations.chosen(list(mutations.of_moments_file(path)), count, seed)

    def target() -> Path:
        stranger.copy()
        return path

    return [
        complaint
        for mutation in mutated
        for complaint in stranger.complaints(mutation, target, COMMANDS["moments"][0])
    ]


def test_what_cannot_be_meant_is_one_line(stranger: Stranger) -> None:
    assert all_complaints(stranger, 100, 0) == []


def test_a_moments_file_that_cannot_be_meant_is_one_line(
    stranger: Stranger, moments_file: Path
) -> None:
    assert moments_complaints(stranger, moments_file, 40, 0) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_much_that_cannot_be_meant_is_one_line(stranger: Stranger, seed: int) -> None:
    assert all_complaints(stranger, 700, seed) == []


@pytest.mark.slow
def test_no_moments_file_that_cannot_be_meant_is_more_than_a_line(
    stranger: Stranger, moments_file: Path
) -> None:
    assert moments_complaints(stranger, moments_file, 10_000, 0) == []


@pytest.mark.parametrize(
    ("form", "part"),
    [
        ("memory", "memory.h5: group"),
        ("memory", "memory.h5: arithmetic"),
        ("memory", "memory.h5: decoder"),
        ("backbone", "backbone: drawing"),
        ("round", "round: drawing"),
        ("round", "round: decoder"),
    ],
)
def test_groups_kinds_and_fits_that_cannot_be_meant_are_one_line(
    stranger: Stranger, form: str, part: str
) -> None:
    found = [it for it in mutations.of_run(stranger.run) if it.name.startswith(part)]
    assert len(found) > 20
    assert [
        complaint
        for number, mutation in enumerate(found)
        for complaint in stranger.complaints(
            mutation, stranger.copy, COMMANDS[form][number % len(COMMANDS[form])]
        )
    ] == []


@pytest.mark.parametrize("name", sorted(set(mutations.VALUES) - {"null"}))
def test_a_white_level_that_cannot_be_meant_is_refused(stranger: Stranger, name: str) -> None:
    folder = mutations.backbone_folder(stranger.copy())
    content = json.loads((folder / "backbone.json").read_bytes())
    content["drawing"]["white_level"] = mutations.VALUES[name]
    mutations.write_backbone(folder, content)
    code, _, error = stranger.call(("predict", "RUN", "IMAGE"))
    assert code == 5, error
    assert len(error.splitlines()) == 1


def test_moments_without_a_class_of_the_run_are_one_line(stranger: Stranger) -> None:
    """Everything in the file fits together, and not the round."""
    copy = stranger.copy()
    path = mutations.round_folder(copy) / "memory.h5"
    arrays, attributes = mutations.arrays_of(path.read_bytes())
    names = arrays["classes"].tobytes().split(b"\n")
    arrays |= {name: arrays[name][1:] for name in ("counts", "sums")}
    arrays["classes"] = np.frombuffer(b"\n".join(names[1:]), np.uint8)
    mutations.correct(copy, "memory.h5", mutations.hdf5_of(arrays, attributes))
    code, _, error = stranger.call(("extend-classes", "RUN", "NEW"))
    assert code == 5, error
    assert "moments of its classes" in error
