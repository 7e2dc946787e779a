"""The decoder of a round's images: known to the round, and never mixed without a word."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import files, images, memory, runs
from tlcli.features import UNKNOWN_DECODER


@contextmanager
def decoded_by(name: str) -> Iterator[None]:
    """As on a machine with another decoder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tlcli.extractor.DECODER", name)
        yield


def decoders(run: Path) -> tuple[bool, list[str]]:
    """Whether the current round is exact, and the decoders of its images."""
    manifest = runs.open_run(run).round().manifest
    return manifest.exact, list(manifest.decoder)


def test_a_round_names_its_decoder(tlcli: CommandLine, run: Path, pictures: Path) -> None:
    answer = tlcli.json("extend-classes", run, pictures / "second")
    assert (answer["exact"], answer["decoder"]) == (True, [images.DECODER])
    assert images.DECODER in tlcli("rounds", "show", run)
    measured = tlcli.json("evaluate", run, pictures / "test", "--ignore-unknown")
    assert images.DECODER in json.dumps(measured)


def test_a_round_of_two_decoders_is_not_exact_and_says_so(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    with decoded_by("pillow 99"):
        text = tlcli("extend-classes", run, pictures / "second")
    assert "exact       no: features of 2 decoders" in text
    (warning,) = tlcli.err.splitlines()
    assert "2 decoders (pillow" in warning
    assert "pillow 99" in warning and "--old-data" in warning
    assert decoders(run) == (False, sorted([images.DECODER, "pillow 99"]))


def test_with_all_images_given_again_it_is_exact(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    with decoded_by("pillow 99"):
        options = ("--old-data", pictures / "first")
        answer = tlcli.json("extend-classes", run, pictures / "second", *options)
    assert (answer["exact"], answer["decoder"]) == (True, ["pillow 99"])


def test_moments_of_another_decoder_are_taken_in_with_a_word(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    with decoded_by("pillow 99"):
        tlcli("moments", run, pictures / "second", "--out", tmp_path / "new.h5")
        tlcli("moments", run, pictures / "all", "--out", tmp_path / "all.h5")
    error = tlcli.error(3, "extend-classes", run, "--moments", tmp_path / "all.h5")
    assert "another decoder (pillow 99)" in error
    answer = tlcli.json("extend-classes", run, "--moments", tmp_path / "new.h5")
    assert (answer["exact"], len(answer["decoder"])) == (False, 2)
    assert "2 decoders" in tlcli.err


def test_runs_of_two_decoders_are_merged_with_a_word(
    tlcli: CommandLine, run: Path, tmp_path: Path
) -> None:
    with decoded_by("pillow 99"):
        second = tiny.draw(tmp_path / "data", ["sun", "plum"], seed=5)
        tlcli("pretrain", second, "--out", tmp_path / "other")
    answer = tlcli.json("merge", run, tmp_path / "other", "--out", tmp_path / "both")
    assert (answer["exact"], len(answer["decoder"])) == (False, 2)
    assert "2 decoders" in tlcli.err


def test_images_that_another_decoder_gave_are_not_taken_away(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    command = ("remove-classes", run, "apple", "--data", pictures / "first")
    with decoded_by("pillow 99"):
        error = tlcli.error(3, *command)
    assert images.DECODER in error and "pillow 99" in error and "--approximate" in error


def test_a_memory_that_does_not_name_its_decoder_is_of_an_unknown_one(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    folder = runs.open_run(run).round().folder
    with h5py.File(folder / "memory.h5", "r+") as file:
        del file.attrs["decoder"]
    content = json.loads((folder / "round.json").read_text())
    del content["decoder"], content["sha256"]
    content["files"]["memory.h5"] = files.sha256(folder / "memory.h5")
    from tlcli.manifest import _digest

    (folder / "round.json").write_text(json.dumps(content | {"sha256": _digest(content)}))
    assert {kind.decoder for kind in memory.load(runs.open_run(run).round()).kinds} == {
        UNKNOWN_DECODER
    }
    answer = tlcli.json("extend-classes", run, pictures / "second")
    assert (answer["exact"], answer["decoder"]) == (False, [images.DECODER, UNKNOWN_DECODER])


def test_pixels_that_a_run_kept_are_not_taken_for_those_of_todays_decoder(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    """Neither in the round nor in the cache."""
    run, again = tmp_path / "run", tmp_path / "again"
    keeping = ("--memory", "exemplars", "--exemplars-per-class", 8)
    tlcli("pretrain", pictures / "first", "--out", run, *keeping)
    more = tiny.draw(tmp_path / "more", ["apple"], seed=9)
    with decoded_by("pillow 99"):
        tlcli("finetune", run, more, "--epochs", "1", "--batch-size", "4", "--unfreeze", "1")
        assert decoders(run) == (False, sorted([images.DECODER, "pillow 99"]))
        answer = tlcli.json("pretrain", pictures / "first", "--out", again, "--weights", run)
        assert answer["images"]["from_cache"] == 0
        assert answer["decoder"] == ["pillow 99"]


def test_pixels_that_a_run_kept_are_todays_where_the_decoder_is(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    keeping = ("--memory", "exemplars", "--exemplars-per-class", 8)
    tlcli("pretrain", pictures / "first", "--out", run, *keeping)
    more = tiny.draw(tmp_path / "more", ["apple"], seed=9)
    tlcli("finetune", run, more, "--epochs", "1", "--batch-size", "4", "--unfreeze", "1")
    assert decoders(run) == (True, [images.DECODER])
    answer = tlcli.json("pretrain", pictures / "first", "--out", again, "--weights", run)
    assert answer["images"]["from_cache"] == 24
