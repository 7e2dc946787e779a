"""The kind of arithmetic of features: measured, remembered, and never mixed without a word."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import arithmetic, backbones, cache, memory, runs
from tlcli.backbones import StoredBackbone

LIBRARIES = ("openvino",)


@pytest.fixture
def stored(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoredBackbone:
    """A backbone, beside an empty cache."""
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "cache"))
    entry = runs.open_run(run).round()
    return backbones.load_stored(
        runs.open_run(run).backbone_folder(entry.manifest.backbone_fingerprint)
    )


class Counting:
    """An engine that counts how often it is opened."""

    def __init__(self, feature: float = 1.0) -> None:
        self.opened = 0
        self.feature = feature

    def __call__(self) -> Any:
        self.opened += 1
        return lambda images: (np.full(3, self.feature, np.float32) for _ in images)

    def kind(self, stored: StoredBackbone, engine: str = "openvino") -> str:
        return arithmetic.measured(stored, engine, LIBRARIES, self)


def test_a_kind_is_measured_once(stored: StoredBackbone) -> None:
    engine = Counting()
    kind = engine.kind(stored)
    assert kind.startswith("openvino ") and len(kind.split()[1]) == arithmetic.DIGITS
    assert (engine.kind(stored), engine.opened) == (kind, 1)


def test_other_bits_are_another_kind(stored: StoredBackbone, monkeypatch: Any) -> None:
    kind = Counting().kind(stored)
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(cache.folder() / "other"))
    assert Counting(float(np.nextafter(np.float32(1), np.float32(2)))).kind(stored) != kind


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES"])
def test_what_may_change_the_bits_is_measured_again(
    stored: StoredBackbone, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    engine = Counting()
    engine.kind(stored)
    engine.kind(stored, "keras")
    engine.kind(replace(stored, fingerprint="0" * 64))
    monkeypatch.setenv(name, "1")
    engine.kind(stored)
    monkeypatch.setattr("tlcli.arithmetic.processor", lambda: {"model name": "another"})
    engine.kind(stored)
    monkeypatch.setattr("tlcli.backbones.versions", lambda libraries: {"openvino": "9999.1"})
    engine.kind(stored)
    assert engine.opened == 6


@pytest.mark.parametrize("content", [b"", b"0123456789ab", b"0123456789ab " + b"0" * 64, b"\xff"])
def test_what_is_damaged_is_measured_again(stored: StoredBackbone, content: bytes) -> None:
    engine = Counting()
    kind = engine.kind(stored)
    (entry,) = cache.kinds()
    entry.path.write_bytes(content)
    assert (engine.kind(stored), engine.opened) == (kind, 2)
    assert (engine.kind(stored), engine.opened) == (kind, 2)


def test_a_cache_that_cannot_be_written_does_no_harm(stored: StoredBackbone) -> None:
    cache.folder().mkdir()
    (cache.folder() / "arithmetic").write_text("in the way")
    engine = Counting()
    assert engine.kind(stored) == engine.kind(stored)
    assert engine.opened == 2


def test_clearing_the_cache_forgets_it(stored: StoredBackbone, tlcli: CommandLine) -> None:
    Counting().kind(stored)
    tlcli("cache", "clear")
    assert not (cache.folder() / "arithmetic").exists()


def test_a_command_on_known_images_opens_no_engine(run: Path, pictures: Path) -> None:
    """The kind is remembered, and every feature is in the cache."""
    script = (
        "import sys; from tlcli.cli import app\n"
        "code = app.run(sys.argv[1:])\n"
        "print(sorted({'openvino', 'tensorflow'} & sys.modules.keys()), code)"
    )
    arguments = ["evaluate", str(run), str(pictures / "first"), "--include-learned", "-q", "--json"]
    command = [sys.executable, "-c", script, *arguments]
    for expected in ("0", "[] 0"):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1].endswith(expected)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, a machine that computes other bits."""
    monkeypatch.setattr(
        "tlcli.arithmetic.measured", lambda stored, engine, *others: f"{engine} elsewhere"
    )


def kinds(run: Path) -> tuple[bool, int]:
    """Whether the current round is exact, and how many kinds of arithmetic it has."""
    manifest = runs.open_run(run).round().manifest
    return manifest.exact, len(manifest.arithmetic)


def test_a_round_names_its_arithmetic(tlcli: CommandLine, run: Path, pictures: Path) -> None:
    answer = tlcli.json("extend-classes", run, pictures / "second")
    (kind,) = answer["arithmetic"]
    assert kind.startswith("openvino ")
    assert answer["exact"] is True
    assert kind in tlcli("rounds", "show", run)


def test_a_round_computed_elsewhere_is_not_exact_and_says_so(
    tlcli: CommandLine, run: Path, pictures: Path, elsewhere: None
) -> None:
    text = tlcli("extend-classes", run, pictures / "second")
    assert "exact       no: features of 2 kinds of arithmetic" in text
    (warning,) = tlcli.err.splitlines()
    assert "openvino elsewhere" in warning and "--old-data" in warning
    assert kinds(run) == (False, 2)


def test_with_all_old_images_it_is_exact_again(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, elsewhere: None
) -> None:
    options = (pictures / "second", "--old-data", pictures / "first")
    answer = tlcli.json("extend-classes", run, *options)
    assert (answer["exact"], answer["arithmetic"]) == (True, ["openvino elsewhere"])
    joint = tiny.draw(tmp_path / "joint", [*tiny.COLOURS][:4])
    whole = tlcli.json("pretrain", joint, "--out", tmp_path / "whole")
    assert answer["memory_sha256"] == whole["memory_sha256"]


def test_moments_from_elsewhere_are_taken_in_with_a_word(
    tlcli: CommandLine,
    run: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("tlcli.arithmetic.measured", lambda *told: f"{told[1]} elsewhere")
        tlcli("moments", run, pictures / "second", "--out", tmp_path / "new.h5")
        tlcli("moments", run, pictures / "all", "--out", tmp_path / "all.h5")
    error = tlcli.error(3, "extend-classes", run, "--moments", tmp_path / "all.h5")
    assert "another arithmetic" in error and "elsewhere" in error
    answer = tlcli.json("extend-classes", run, "--moments", tmp_path / "new.h5")
    assert (answer["exact"], len(answer["arithmetic"])) == (False, 2)
    assert "2 kinds of arithmetic" in tlcli.err


def test_runs_of_two_kinds_are_merged_with_a_word(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    other = tmp_path / "other"
    with monkeypatch.context() as patch:
        patch.setattr("tlcli.arithmetic.measured", lambda *told: f"{told[1]} elsewhere")
        second = tiny.draw(tmp_path / "data", ["sun", "plum"], seed=5)
        tlcli("pretrain", second, "--out", other)
    assert kinds(other) == (True, 1)
    answer = tlcli.json("merge", run, other, "--out", tmp_path / "both")
    assert (answer["exact"], len(answer["arithmetic"])) == (False, 2)
    assert "2 kinds of arithmetic" in tlcli.err


@pytest.mark.parametrize("setting", ["moments", "features"])
def test_a_run_of_two_kinds_is_mended_with_all_its_images(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, monkeypatch: Any, setting: str
) -> None:
    """As the warning says, without a new image; the same command again has nothing to do."""
    both, whole = tmp_path / "both", tiny.draw(tmp_path / "data", [*tiny.COLOURS][:4])
    with monkeypatch.context() as patch:
        patch.setattr("tlcli.arithmetic.measured", lambda *told: f"{told[1]} elsewhere")
        tlcli("pretrain", pictures / "first", "--out", both, "--memory", setting)
    tlcli("extend-classes", both, pictures / "second")
    assert kinds(both) == (False, 2)
    if setting == "features":
        assert "--memory moments" in tlcli.err
        tlcli("extend-classes", both, whole, "--memory", "moments")
    part = ("extend-classes", both, pictures / "second")
    assert tlcli.json(*part)["changed"] is False
    answer = tlcli.json(*part, "--old-data", pictures / "first")
    assert (answer["exact"], len(answer["arithmetic"])) == (True, 1)
    joint = tlcli.json("pretrain", whole, "--out", tmp_path / "joint")
    assert answer["memory_sha256"] == joint["memory_sha256"]
    assert tlcli.json(*part, "--old-data", pictures / "first")["changed"] is False


def test_images_that_were_learned_elsewhere_are_not_taken_away(
    tlcli: CommandLine, run: Path, pictures: Path, elsewhere: None
) -> None:
    command = ("remove-classes", run, "apple", "--data", pictures / "first")
    error = tlcli.error(3, *command)
    assert "Go where it was learned" in error and "--approximate" in error
    assert "elsewhere" in error and "not learned" not in error
    assert "--engine openvino" in tlcli.error(3, *command, "--engine", "keras")
    assert tlcli.json(*command, "--approximate")["exact"] is False


def test_kept_features_are_taken_away_wherever_it_is(
    tlcli: CommandLine, pictures: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    run = tmp_path / "run"
    tlcli("pretrain", pictures / "first", "--out", run, "--memory", "features")
    monkeypatch.setattr("tlcli.arithmetic.measured", lambda *told: f"{told[1]} elsewhere")
    assert tlcli.json("remove-classes", run, "apple")["exact"] is True
    assert len(memory.load(runs.open_run(run).round()).kinds) == 1
