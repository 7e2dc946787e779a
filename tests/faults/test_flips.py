"""A bit that flips, or a file that is cut: noticed, or without any effect."""

import json
from pathlib import Path

import pytest

from tests.support import mutations
from tests.support.stranger import Stranger

PREDICT = ("predict", "RUN", "IMAGE", "--json")
EXTEND = ("extend-classes", "RUN", "NEW", "--json")


def answer(stranger: Stranger, words: tuple[str, ...]) -> str | None:
    """What a command says and makes; None where it notices the damage in one line."""
    code, out, error = stranger.call(words)
    if code:
        assert code == 5, error
        assert len(error.splitlines()) == 1
        return None
    if words[0] == "extend-classes":
        folder = mutations.round_folder(Path(stranger.words["RUN"]))
        made = json.loads((folder / "round.json").read_bytes())
        del made["files"]["report.json"]  # it says how many features came from the cache
        return json.dumps([made["files"], made["classes"], made["memory_sha256"]])
    return out


def spoiled(stranger: Stranger, paths: list[Path], count: int, words: tuple[str, ...]) -> list[str]:
    """The flips after which a command says or makes something else."""
    stranger.copy()
    expected = answer(stranger, words)
    assert expected is not None
    found = []
    for path, content in mutations.flips(paths, count):
        copy = stranger.copy() / path.relative_to(stranger.run)
        copy.write_bytes(content)
        if answer(stranger, words) not in (None, expected):
            found.append(f"{path.name}: {content[:60]!r}")
    return found


def backbone_files(stranger: Stranger, *suffixes: str) -> list[Path]:
    folder = mutations.backbone_folder(stranger.run)
    return sorted(path for path in folder.iterdir() if path.suffix in suffixes)


def all_files(stranger: Stranger) -> list[Path]:
    current = sorted(mutations.round_folder(stranger.run).iterdir())
    return [*backbone_files(stranger, ".json", ".keras", ".xml", ".bin"), *current]


def test_a_flip_that_an_answer_depends_on_is_noticed(stranger: Stranger) -> None:
    assert spoiled(stranger, all_files(stranger), 60, PREDICT) == []


def test_a_flip_that_a_round_depends_on_is_noticed(stranger: Stranger) -> None:
    assert spoiled(stranger, backbone_files(stranger, ".json"), 20, EXTEND) == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [PREDICT, EXTEND], ids=["predict", "extend-classes"])
def test_no_flip_is_without_a_word(stranger: Stranger, words: tuple[str, ...]) -> None:
    assert spoiled(stranger, all_files(stranger), 400, words) == []
