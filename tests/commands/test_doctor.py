"""`tlcli doctor`: what is here, and the whole way once."""

import configparser
import errno
import itertools
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tlcli import arithmetic
from tlcli.commands.doctor import EXTRAS
from tlcli.heads import LinearHead
from tlcli.moments import Moments


def test_the_whole_way_works_here(tlcli: CommandLine) -> None:
    found = tlcli.json("doctor")
    assert (found["passed"], found["error"]) == (True, None)
    assert [step["name"] for step in found["smoke"]] == [
        *("draw images", "pretrain", "arithmetic", "extend-classes", "joint training"),
        *("evaluate", "predict", "export"),
    ]
    assert all(step["passed"] for step in found["smoke"])
    assert {"tlcli", "keras", "openvino", "scikit-learn"} <= set(found["versions"])
    assert [engine["error"] for engine in found["engines"]] == [None, None]
    assert "EfficientNetLite0" in found["weights_here"]
    assert all(folder["writable"] and folder["free_bytes"] > 0 for folder in found["folders"])
    text = tlcli("doctor")
    assert "Everything works." in text
    assert found["processor"] in text and all(name in text for name in found["instructions"])
    assert found["blas"] and all(library in text for library in found["blas"])
    assert all(step["detail"] in text for step in found["smoke"])


def test_every_extra_of_the_installation_is_looked_for() -> None:
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg", "utf-8")
    assert {*EXTRAS, "test"} == set(setup["options.extras_require"])
    for name, modules in EXTRAS.items():
        assert len(modules) == len(setup["options.extras_require"][name].split())


def test_the_step_that_fails_decides_the_exit_code(
    tlcli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLCLI_CACHE_LIMIT", "a lot")
    found = tlcli.json("doctor", code=2)
    assert [step["passed"] for step in found["smoke"]] == [True, False]
    assert "TLCLI_CACHE_LIMIT" in found["smoke"][-1]["detail"]
    assert "TLCLI_CACHE_LIMIT" in tlcli.err
    assert "FAILED" in tlcli("doctor", code=2)


def test_memories_that_differ_are_a_failure(
    tlcli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = itertools.count()
    monkeypatch.setattr(Moments, "digest", property(lambda _: f"{next(counter):064d}"))
    found = tlcli.json("doctor", code=5)
    assert found["smoke"][-1]["name"] == "joint training"


def test_wrong_answers_are_a_failure(tlcli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    right = LinearHead.logits
    monkeypatch.setattr(LinearHead, "logits", lambda head, features: -right(head, features))
    found = tlcli.json("doctor", code=4)
    assert found["smoke"][-1]["name"] == "evaluate"
    assert "accuracy=0.000" in tlcli.err


def test_a_full_disk_is_a_finding(tlcli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    found = tlcli.json("doctor", code=6)
    assert "No space left" in found["smoke"][-1]["detail"]
    assert found["versions"]


def test_the_kind_of_arithmetic_tells_which_promises_hold(
    tlcli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> str:
        (step,) = (step for step in tlcli.json("doctor")["smoke"] if step["name"] == "arithmetic")
        return str(step["detail"])

    assert "other bits than most" in told()
    monkeypatch.setattr(
        "tlcli.arithmetic.measured", lambda *_: f"openvino {arithmetic.AVX2_AND_FMA}"
    )
    assert "every x86-64 processor with AVX2 and FMA" in told()
