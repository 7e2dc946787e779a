"""remove-classes, merge and moments through the command line: exact, or refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import heads, runs


@pytest.fixture
def joint(tlcli: CommandLine, pictures: Path, tmp_path: Path) -> Path:
    """A run that has learned all five classes at once."""
    run = tmp_path / "joint"
    tlcli("pretrain", pictures / "all", "--out", run)
    return run


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that knows no feature."""
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "empty-cache"))


def head_of(run: Path) -> heads.LinearHead:
    return heads.load(runs.open_run(run).round().file("head.h5"))


def sha256_of(tlcli: CommandLine, run: Path) -> str:
    return str(tlcli.json("rounds", "show", run)["memory_sha256"])


def assert_same_head(a: Path, b: Path) -> None:
    first, second = head_of(a), head_of(b)
    second = second.ordered(first.classes)
    np.testing.assert_array_equal(first.weights, second.weights)
    np.testing.assert_array_equal(first.bias, second.bias)


def test_a_removed_class_leaves_no_trace(
    tlcli: CommandLine, run: Path, joint: Path, pictures: Path
) -> None:
    answer = tlcli.json("remove-classes", joint, "plum", "sun")
    assert answer["classes"] == ["apple", "leaf", "sky"]
    assert answer["memory_sha256"] == sha256_of(tlcli, run)
    assert answer["exact"] is True
    assert answer["images"]["removed"] == 16
    assert_same_head(joint, run)
    again = tlcli.json("extend-classes", joint, pictures / "second")
    assert (again["new_classes"], again["images"]["used"]) == (["sun"], 8)


def test_removal_is_exact_from_kept_features_alone(
    tlcli: CommandLine, pictures: Path, run: Path, tmp_path: Path, empty_cache: None
) -> None:
    full = tmp_path / "full"
    tlcli("pretrain", pictures / "all", "--out", full, "--memory", "features")
    shutil.rmtree(tmp_path / "empty-cache" / "features", ignore_errors=True)
    answer = tlcli.json("remove-classes", full, "plum", "sun")
    assert answer["memory_sha256"] == sha256_of(tlcli, run)
    assert answer["memory"] == "features"


def test_removal_without_features_is_refused_and_told_how(
    tlcli: CommandLine, joint: Path, run: Path, pictures: Path, empty_cache: None
) -> None:
    error = tlcli.error(3, "remove-classes", joint, "plum")
    assert "8 of 8" in error
    assert "--data" in error
    assert "--approximate" in error
    given = tlcli.json("remove-classes", joint, "plum", "sun", "--data", pictures / "all")
    assert given["exact"] is True
    assert given["memory_sha256"] == sha256_of(tlcli, run)


def test_an_approximate_removal_says_so(
    tlcli: CommandLine, joint: Path, pictures: Path, empty_cache: None
) -> None:
    answer = tlcli.json("remove-classes", joint, "plum", "--approximate")
    assert answer["exact"] is False
    assert answer["classes"] == ["apple", "leaf", "sky", "sun"]
    report = tlcli.json("evaluate", joint, pictures / "test", "--ignore-unknown")
    assert report["accuracy"] >= 0.8
    assert tlcli.json("extend-classes", joint, pictures / "third")["exact"] is False


def test_removing_images_is_never_having_seen_them(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(pictures / "first", tmp_path / "data"))
    to_remove = [data / "sky" / "000.png", data / "leaf" / "003.png"]
    answer = tlcli.json(
        *("remove-classes", run, "--images", to_remove[0], "--images", to_remove[1])
    )
    for path in to_remove:
        path.unlink()
    never = tmp_path / "never"
    assert tlcli.json("pretrain", data, "--out", never)["memory_sha256"] == answer["memory_sha256"]
    assert answer["images"]["removed"] == 2
    assert answer["classes"] == ["apple", "leaf", "sky"]
    tlcli("remove-classes", run, "--images", pictures / "test")
    assert "never learned" in tlcli.err


def test_a_class_without_images_left_is_gone(tlcli: CommandLine, run: Path, pictures: Path) -> None:
    answer = tlcli.json("remove-classes", run, "--images", pictures / "first" / "sky")
    assert answer["classes"] == ["apple", "leaf"]
    error = tlcli.error(3, "remove-classes", run, "leaf")
    assert "two classes" in error


def test_bad_removals(tlcli: CommandLine, run: Path, joint: Path) -> None:
    assert "'sky'" in tlcli.error(2, "remove-classes", run, "clouds")
    assert "--images" in tlcli.error(2, "remove-classes", run)
    assert "typo.jpg" in tlcli.error(3, "remove-classes", run, "--images", "typo.jpg")
    tlcli("remove-classes", joint, "plum")
    assert tlcli.json("remove-classes", joint, "plum")["changed"] is False


def test_images_are_not_forgotten_by_columns_that_were_fitted_to_them(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run, image = tmp_path / "run", pictures / "first" / "sky" / "001.png"
    tlcli("pretrain", pictures / "first", "--out", run, "--head", "softmax")
    error = tlcli.error(3, "remove-classes", run, "--images", image)
    assert "--head lda" in error
    answer = tlcli.json("remove-classes", run, "--images", image, "--approximate")
    assert answer["exact"] is False


def test_columns_are_dropped_from_a_head_that_cannot_be_solved_again(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    tlcli("extend-classes", run, pictures / "second", "--strategy", "freeze-old")
    before = head_of(run)
    answer = tlcli.json("remove-classes", run, "sky")
    assert answer["exact"] is False
    after = head_of(run)
    assert after.classes == ("apple", "leaf", "sun")
    assert after.weights.tobytes() == before.ordered(after.classes).weights.tobytes()
    assert after.temperature == before.temperature


def test_two_runs_become_one(
    tlcli: CommandLine, run: Path, joint: Path, pictures: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(pictures / "second", tmp_path / "rest")
    shutil.copytree(pictures / "third", tmp_path / "rest", dirs_exist_ok=True)
    tlcli("pretrain", tmp_path / "rest", "--out", other)
    answer = tlcli.json("merge", run, other, "--out", tmp_path / "both")
    assert answer["classes"] == ["apple", "leaf", "sky", "plum", "sun"]
    assert answer["memory_sha256"] == sha256_of(tlcli, joint)
    assert (answer["round"], answer["exact"]) == (1, True)
    assert_same_head(tmp_path / "both", joint)
    report = tlcli.json("evaluate", tmp_path / "both", pictures / "test")
    assert report["accuracy"] >= 0.9


def test_a_class_that_one_run_has_renamed_is_said(
    tlcli: CommandLine, run: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    tlcli("pretrain", tiny.draw(tmp_path / "more", ["apple", "leaf"], seed=2), "--out", other)
    tlcli("rename-classes", run, "apple=pear")
    for number, runs_of in enumerate(((run, other), (other, run))):
        tlcli("merge", *runs_of, "--out", tmp_path / f"both{number}")
        assert "'apple' is a new class: the one that had this name is called 'pear'" in tlcli.err


def test_images_that_both_runs_learned_count_once(
    tlcli: CommandLine, run: Path, joint: Path, tmp_path: Path
) -> None:
    answer = tlcli.json("merge", joint, run, "--out", tmp_path / "both")
    assert answer["memory_sha256"] == sha256_of(tlcli, joint)


def test_runs_that_share_some_images_need_their_features(
    tlcli: CommandLine, run: Path, joint: Path, pictures: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    tlcli("extend-classes", run, pictures / "second")
    tlcli("extend-classes", other, pictures / "third")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "empty-cache"))
        error = tlcli.error(3, "merge", run, other, "--out", tmp_path / "both")
        assert "24 of 24" in error
        assert not (tmp_path / "both").exists()
    answer = tlcli.json("merge", run, other, "--out", tmp_path / "both")
    assert answer["memory_sha256"] == sha256_of(tlcli, joint)
    assert answer["exact"] is True


def test_the_order_of_two_runs_does_not_matter_but_for_the_order_of_classes(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(pictures / "second", tmp_path / "rest")
    shutil.copytree(pictures / "third", tmp_path / "rest", dirs_exist_ok=True)
    tlcli("pretrain", tmp_path / "rest", "--out", other)
    tlcli("merge", run, other, "--out", tmp_path / "ab")
    tlcli("merge", other, run, "--out", tmp_path / "ba")
    assert_same_head(tmp_path / "ab", tmp_path / "ba")
    temperatures = [head_of(tmp_path / name).temperature for name in ("ab", "ba")]
    assert temperatures[0] == pytest.approx(temperatures[1])


def test_runs_on_other_backbones_are_not_merged(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    answer = tlcli.json("pretrain", pictures / "all", "--out", other, "--image-size", "40")
    error = tlcli.error(5, "merge", run, other, "--out", tmp_path / "both")
    fingerprint = tlcli.json("rounds", "show", run)["backbone_fingerprint"]
    assert fingerprint[:12] in error
    assert answer["backbone_fingerprint"][:12] in error
    assert str(pictures) in tlcli.error(2, "merge", run, run, "--out", pictures)


def test_moments_of_two_processes_are_those_of_one(
    tlcli: CommandLine, run: Path, joint: Path, pictures: Path, tmp_path: Path
) -> None:
    parts = [tmp_path / f"part{number}.h5" for number in (1, 2)]
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.tiny", "moments", str(run)),
                *(str(pictures / "all"), "--out", str(part), "--shard", f"{number}/2", "--json"),
            ],
            stdout=subprocess.PIPE,
        )
        for number, part in enumerate(parts, 1)
    ]
    written = [json.loads(process.communicate()[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(entry["images"]["used"] for entry in written) == 40
    assert all(entry["images"]["used"] for entry in written)
    answer = tlcli.json("extend-classes", run, "--moments", parts[1], "--moments", parts[0])
    assert answer["memory_sha256"] == sha256_of(tlcli, joint)
    assert answer["images"]["used"] == 16
    assert answer["images"]["already_learned"] == 24
    assert answer["exact"] is True
    assert_same_head(run, joint)
    again = tlcli.json("extend-classes", run, "--moments", parts[0])
    assert again["changed"] is False


def test_moments_and_images_in_one_round(
    tlcli: CommandLine, run: Path, joint: Path, pictures: Path, tmp_path: Path
) -> None:
    tlcli("moments", run, pictures / "second", "--out", tmp_path / "sun.h5")
    tlcli("extend-classes", run, pictures / "third", "--moments", tmp_path / "sun.h5")
    assert sha256_of(tlcli, run) == sha256_of(tlcli, joint)


def test_moments_that_cannot_be_taken_in(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    other, file = tmp_path / "other", tmp_path / "sun.h5"
    tlcli("pretrain", pictures / "all", "--out", other, "--image-size", "40")
    tlcli("moments", other, pictures / "second", "--out", file)
    error = tlcli.error(5, "extend-classes", run, "--moments", file)
    assert str(file) in error
    fingerprints = [tlcli.json("rounds", "show", r)["backbone_fingerprint"] for r in (run, other)]
    assert all(fingerprint[:12] in error for fingerprint in fingerprints)
    file.write_bytes(file.read_bytes()[:-100])
    assert str(file) in tlcli.error(5, "extend-classes", run, "--moments", file)
    good = tmp_path / "good.h5"
    tlcli("moments", run, pictures / "second", "--out", good)
    twice = ("--moments", good, "--moments", good)
    assert "twice" in tlcli.error(3, "extend-classes", run, *twice) or "another" in tlcli.err
    wrong = tlcli.error(2, "extend-classes", run, "--moments", good, "--strategy", "naive")
    assert "merge" in wrong
    assert "DATA" in tlcli.error(2, "extend-classes", run)
    assert "3/2" in tlcli.error(
        2, "moments", run, pictures / "second", "--out", good, "--shard", "3/2"
    )


def test_learned_images_in_a_file_are_left_out_where_their_features_are_known(
    tlcli: CommandLine, run: Path, joint: Path, pictures: Path, tmp_path: Path
) -> None:
    file = tmp_path / "all.h5"
    tlcli("moments", run, pictures / "all", "--out", file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "empty-cache"))
        error = tlcli.error(3, "extend-classes", run, "--moments", file)
        assert "24 of 40" in error
    answer = tlcli.json("extend-classes", run, "--moments", file)
    assert answer["memory_sha256"] == sha256_of(tlcli, joint)


def test_a_file_from_before_a_class_was_renamed_says_so(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    tlcli("moments", run, pictures / "all", "--out", tmp_path / "all.h5")
    tlcli("rename-classes", run, "apple=pear")
    error = tlcli.error(3, "extend-classes", run, "--moments", tmp_path / "all.h5")
    assert "'apple' is called 'pear' now. Write the file again" in error


def test_class_names_of_all_kinds(tlcli: CommandLine, run: Path, tmp_path: Path) -> None:
    names = ["Sky", "été à Genève", "two words", "猫", "-x"]
    for number, name in enumerate(names):
        tiny.draw(tmp_path / "drawn", ["plum"], count=1 + number, seed=10 + number)
        (tmp_path / "drawn" / "plum").rename(tmp_path / "drawn" / name)
    answer = tlcli.json("extend-classes", run, tmp_path / "drawn")
    assert answer["new_classes"] == sorted(names)
    assert answer["exact"] is True
    left = json.loads(tlcli("remove-classes", run, "--json", "Sky", "two words", "--", "-x"))
    assert left["classes"] == ["apple", "leaf", "sky", "été à Genève", "猫"]
    back = tlcli.json("extend-classes", run, tmp_path / "drawn")
    assert back["memory_sha256"] == answer["memory_sha256"]
