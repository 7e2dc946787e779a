"""--memory through the command line: what each setting keeps, promises and refuses."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import heads, memory, runs
from tlcli.config import HeadOptions, RunsOn
from tlcli.rounds.selection import candidates


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that knows no feature: what a run can do follows from what it keeps."""
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "empty-cache"))


def forget_cache(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "empty-cache" / "features", ignore_errors=True)


def start(tlcli: CommandLine, pictures: Path, run: Path, *options: object) -> Path:
    tlcli("pretrain", pictures / "first", "--out", run, *options)
    return run


def head_of(run: Path, number: int | None = None) -> heads.LinearHead:
    return heads.load(runs.open_run(run).round(number).file("head.h5"))


def kept_in(run: Path) -> memory.Memory:
    return memory.load(runs.open_run(run).round())


def test_without_a_memory_old_logits_stay_or_are_distilled(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run = start(tlcli, pictures, tmp_path / "run", "--memory", "none")
    with h5py.File(run / "rounds" / "0001" / "memory.h5") as file:
        assert not {"sums", "gram"} & set(file)
    answer = tlcli.json("extend-classes", run, pictures / "second")
    assert (answer["strategy"], answer["memory"]) == ("freeze-old", "none")
    assert (answer["memory_sha256"], answer["exact"]) == (None, False)
    before, after = head_of(run, 1), head_of(run, 2)
    assert after.weights[:, :3].tobytes() == before.weights.tobytes()
    assert after.temperature == before.temperature
    distilled = tlcli.json("extend-classes", run, pictures / "third", "--strategy", "lwf")
    assert distilled["classes"] == ["apple", "leaf", "sky", "sun", "plum"]
    again = tlcli.json("extend-classes", run, pictures / "third")
    assert again["changed"] is False
    error = tlcli.error(2, "extend-classes", run, pictures / "test", "--strategy", "merge")
    assert "--memory none" in error
    assert "--old-data" in error


def test_joint_training_from_kept_features(
    tlcli: CommandLine, pictures: Path, tmp_path: Path, empty_cache: None
) -> None:
    run = start(tlcli, pictures, tmp_path / "run", "--memory", "features", "--head", "softmax")
    forget_cache(tmp_path)
    for part in ("second", "third"):
        answer = tlcli.json("extend-classes", run, pictures / part)
        assert (answer["strategy"], answer["exact"]) == ("joint", True)
        assert answer["validation"]["old_accuracy"] is not None
        assert answer["validation"]["old_accuracy_before"] is not None
    joint = tmp_path / "joint"
    tlcli("pretrain", pictures / "all", "--out", joint, "--head", "softmax")
    in_rounds = head_of(run)
    at_once = head_of(joint).ordered(in_rounds.classes)
    assert in_rounds.weights.tobytes() == at_once.weights.tobytes()
    sizes = {path.name for path in (run / "rounds" / "0003").iterdir()}
    assert sizes >= {"features-0001.h5", "features-0002.h5", "features-0003.h5"}
    linked = run / "rounds" / "0001" / "features-0001.h5"
    assert linked.stat().st_nlink == 3


def test_a_head_that_needs_features_is_refused_without_them(
    tlcli: CommandLine, pictures: Path, tmp_path: Path, empty_cache: None
) -> None:
    run = start(tlcli, pictures, tmp_path / "run", "--head", "svm")
    forget_cache(tmp_path)
    error = tlcli.error(2, "extend-classes", run, pictures / "second", "--strategy", "joint")
    assert "--old-data" in error
    assert "--memory features" in error
    given = tlcli.json(
        *("extend-classes", run, pictures / "second", "--strategy", "joint"),
        *("--old-data", pictures / "first"),
    )
    assert (given["strategy"], given["exact"]) == ("joint", True)


def test_exemplars_are_kept_in_herding_order_with_their_pixels(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run = start(tlcli, pictures, tmp_path / "run", "--exemplars-per-class", "3")
    kept = kept_in(run)
    assert (kept.setting, kept.exemplars_per_class) == ("exemplars", 3)
    assert kept.kept is not None
    assert kept.kept.labels == ("apple",) * 3 + ("leaf",) * 3 + ("sky",) * 3
    assert kept.pixels_of(kept.kept.hashes).shape == (9, tiny.IMAGE_SIZE, tiny.IMAGE_SIZE, 3)
    fresh = tiny.draw(tmp_path / "fresh", ["apple", "leaf", "sky"], count=4, seed=7)
    answer = tlcli.json(
        *("extend-classes", run, pictures / "second", "--strategy", "replay"),
        *("--test", fresh),
    )
    assert answer["exact"] is False
    assert answer["validation"]["old_accuracy"] >= 0.8
    fewer = tlcli.json("extend-classes", run, pictures / "third", "--exemplars-per-class", "2")
    assert fewer["memory"] == "exemplars"
    after = kept_in(run)
    assert after.kept is not None
    for name in ("apple", "leaf", "sky"):
        first = [h for h, n in zip(kept.kept.hashes, kept.kept.labels, strict=True) if n == name]
        now = [h for h, n in zip(after.kept.hashes, after.kept.labels, strict=True) if n == name]
        assert now == first[:2]


def test_more_exemplars_than_images_keeps_them_all_and_says_so(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    tlcli("pretrain", pictures / "first", "--out", run, "--exemplars-per-class", "50")
    assert "3 of 3 classes have fewer than 50" in tlcli.err
    kept = kept_in(run).kept
    assert kept is not None
    assert len(kept) == 24


def test_the_dial_can_be_turned_later(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, empty_cache: None
) -> None:
    def turn(*options: object, code: int = 0) -> str:
        return tlcli("extend-classes", run, pictures / "second", *options, code=code)

    turn("--memory", "features", code=3)
    assert "24 of 24" in tlcli.err
    assert "--old-data" in tlcli.err
    tlcli(
        "extend-classes",
        run,
        pictures / "second",
        "--memory",
        "features",
        "--old-data",
        pictures / "first",
    )
    forget_cache(tmp_path)
    assert kept_in(run).setting == "features"
    turned = tlcli.json("extend-classes", run, pictures / "second", "--memory", "moments")
    assert (turned["round"], turned["memory"], turned["images"]["used"]) == (3, "moments", 0)
    assert turned["images"]["already_learned"] == 8
    assert not list((run / "rounds" / "0003").glob("features*"))
    unchanged = tlcli.json("extend-classes", run, pictures / "second", "--memory", "moments")
    assert unchanged["changed"] is False
    turn("--memory", "none")
    turn("--memory", "moments", code=2)
    assert "--old-data" in tlcli.err
    turn("--memory", "moments", "--old-data", pictures / "first")
    assert kept_in(run).digest == turned["memory_sha256"]


def test_rounds_show_what_is_kept_and_what_it_costs(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run = start(tlcli, pictures, tmp_path / "run", "--memory", "features")
    (entry,) = tlcli.json("rounds", "list", run)["rounds"]
    assert entry["memory"] == "features"
    assert set(entry["bytes_by_part"]) >= {"moments", "features", "model"}
    assert (
        entry["bytes_by_part"]["features"]
        == (run / "rounds" / "0001" / "features-0001.h5").stat().st_size
    )
    assert "features" in tlcli("rounds", "list", run)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--memory", "everything"], "none, moments, features, exemplars"),
        (["--memory", "moments", "--exemplars-per-class", "3"], "--memory exemplars"),
        (["--head", "ridge", "--shrinkage", "0.1"], "lda"),
        (["--shrinkage", "2"], "0 to 1"),
        (["--priors", "guess"], "uniform, frequency"),
        (["--head", "softmax", "--class-weights", "heavy"], "none, balanced"),
        (["--class-weights", "balanced"], "softmax"),
        (["--head", "softmax", "--c", "0"], "a positive number. Received: c='0'"),
        (["--head", "svm", "--c", "nan"], "a positive number. Received: c='nan'"),
    ],
)
def test_options_that_cannot_be_meant(
    tlcli: CommandLine, pictures: Path, tmp_path: Path, options: list[str], named: str
) -> None:
    error = tlcli.error(2, "pretrain", pictures / "first", "--out", tmp_path / "run", *options)
    assert named in error
    assert not (tmp_path / "run").exists()


def test_rp_ridge_lives_behind_a_projection(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    error = tlcli.error(2, "extend-classes", run, pictures / "second", "--head", "rp-ridge")
    assert "--projection" in error
    projected = start(tlcli, pictures, tmp_path / "p", "--head", "rp-ridge", "--projection", "64")
    tlcli("extend-classes", projected, pictures / "second")
    tlcli("extend-classes", projected, pictures / "third", "--head", "lda")
    joint = tmp_path / "joint"
    options = ("--head", "lda", "--projection", "64")
    answer = tlcli.json("pretrain", pictures / "all", "--out", joint, *options)
    shown = tlcli.json("rounds", "show", projected)
    assert shown["memory_sha256"] == answer["memory_sha256"]
    assert shown["projection"]["width"] == 64
    assert tlcli.json("evaluate", projected, pictures / "test")["accuracy"] >= 0.9
    plain = start(tlcli, pictures, tmp_path / "plain")
    assert "backbone" in tlcli.error(5, "merge", projected, plain, "--out", tmp_path / "both")


def test_the_exported_model_holds_projection_and_temperature(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    from tlcli import backbones, images
    from tlcli.extractor import Extractor
    from tlcli.features import Vectors

    run = start(tlcli, pictures, tmp_path / "run", "--head", "rp-ridge", "--projection", "64")
    entry = runs.open_run(run).round()
    head, extractor = head_of(run), Extractor.of_round(runs.open_run(run), entry, RunsOn("keras"))
    assert head.temperature != 1.0
    paths = list(images.find_images([pictures / "test"]))
    batch = np.stack([images.decode(path, images.Square(tiny.IMAGE_SIZE)) for path in paths])
    model = backbones.keras_module().saving.load_model(entry.file("model.keras"))
    features = np.asarray(backbones.load_model(extractor.stored)(batch, training=False))
    assert extractor.projection is not None
    expected = head.probabilities(Vectors.of(extractor.projection.of(features)))
    np.testing.assert_allclose(model.predict(batch, verbose=0), expected, atol=1e-4)
    assert not model.get_layer("projection").trainable


def test_the_best_head_is_chosen_in_cross_validation(
    tlcli: CommandLine,
    pictures: Path,
    tmp_path: Path,
    empty_cache: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("commands.pretrain", "rounds.selection"):
        monkeypatch.setattr(f"tlcli.{module}.PROJECTION_WIDTH", 20)
    run = tmp_path / "run"
    options = ("--head", "auto", "--memory", "features")
    answer = tlcli.json("pretrain", pictures / "first", "--out", run, *options)
    tried = {entry["head"]: entry["mean_class_accuracy"] for entry in answer["head_choice"]}
    assert set(tried) == set(heads.HEADS)
    assert tried[answer["head"]] == max(tried.values())
    assert answer["validation"]["accuracy"] == tried[answer["head"]]
    text = tlcli("pretrain", pictures / "first", "--out", tmp_path / "text", "--head", "auto")
    assert "ncm-cosine" in text
    assert "softmax" not in text
    later = tlcli.json("extend-classes", run, pictures / "second", "--head", "auto")
    assert later["head_choice"]
    forget_cache(tmp_path)
    blind = tmp_path / "text"
    error = tlcli.error(2, "extend-classes", blind, pictures / "second", "--head", "auto")
    assert "--old-data" in error


def test_the_head_that_is_chosen_is_the_one_of_its_name(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    """With its temperature and its figures; nothing is left of how it was compared."""
    command = ("pretrain", pictures / "first", "--out")
    chosen = tlcli.json(*command, tmp_path / "auto", "--head", "auto")
    named = tlcli.json(*command, tmp_path / "named", "--head", chosen["head"])
    first, second = (
        runs.open_run(tmp_path / name).round(1).file("head.h5").read_bytes()
        for name in ("auto", "named")
    )
    assert first == second
    for figure in ("validation", "calibration", "memory_sha256"):
        assert chosen[figure] == named[figure]


def test_a_round_that_hurts_the_old_classes_is_not_published(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    before = sorted(path.name for path in (run / "rounds").iterdir())
    naive = ("extend-classes", run, pictures / "second", "--strategy", "naive")
    test = tiny.draw(run.parent / "test", ["apple", "leaf", "sky", "sun"], count=4, seed=7)
    error = tlcli.error(4, *naive, "--max-regression", "0.05", "--test", test)
    assert "0.05" in error
    assert "Nothing was published" in error
    assert sorted(path.name for path in (run / "rounds").iterdir()) == before
    assert "--test" in tlcli.error(2, *naive, "--max-regression", "0.05")
    only_new = tiny.draw(run.parent / "new", ["sun"], count=4, seed=7)
    assert "every old class" in tlcli.error(4, *naive, "--max-regression", "1", "--test", only_new)
    merged = tlcli.json(*naive[:3], "--max-regression", "0.05", "--test", test)
    assert merged["validation"]["old_accuracy_before"] is not None


def test_kept_features_hold_the_gate_too(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run = start(tlcli, pictures, tmp_path / "run", "--memory", "features")
    naive = ("extend-classes", run, pictures / "second", "--strategy", "naive")
    assert "fall by at most 0.05" in tlcli.error(4, *naive, "--max-regression", "0.05")
    tlcli("extend-classes", run, pictures / "second", "--max-regression", "0.05")


def test_a_known_class_gets_more_images_and_the_report_names_it(
    tlcli: CommandLine, run: Path, tmp_path: Path
) -> None:
    more = tiny.draw(tmp_path / "more", ["sky", "plum"], count=3, seed=9)
    answer = tlcli.json("extend-classes", run, more)
    assert answer["new_classes"] == ["plum"]
    assert answer["images"]["known_classes"] == ["sky"]
    assert "more of     sky" in tlcli(
        "extend-classes", run, tiny.draw(tmp_path / "again", ["sky"], count=3, seed=10)
    )


def test_the_temperature_is_reported_and_lowers_the_calibration_error(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    answer = tlcli.json("extend-classes", run, pictures / "second", "--head", "ridge")
    calibration = answer["calibration"]
    assert calibration["temperature"] == head_of(run).temperature
    assert 0 < calibration["temperature"] < 0.5
    assert calibration["ece_after"] < calibration["ece_before"]
    shown = tlcli.json("rounds", "show", run)
    assert shown["calibration"] == calibration


def test_a_class_of_one_old_image_gets_more(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(pictures / "first", tmp_path / "data"))
    later = tmp_path / "later" / "leaf"
    later.mkdir(parents=True)
    for path in sorted((data / "leaf").iterdir())[1:]:
        path.rename(later / path.name)
    run, joint = tmp_path / "run", tmp_path / "joint"
    whole = tlcli.json("pretrain", pictures / "first", "--out", joint)
    for options in (("--memory", "features"), ("--memory", "features", "--head", "softmax")):
        shutil.rmtree(run, ignore_errors=True)
        tlcli("pretrain", data, "--out", run, *options)
        answer = tlcli.json("extend-classes", run, later.parent)
        assert answer["memory_sha256"] == whole["memory_sha256"]
        assert answer["exact"] is True


@pytest.mark.parametrize("strategy", ["lwf", "naive"])
def test_one_new_image_is_enough_for_gradients_and_none_is_refused(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, strategy: str
) -> None:
    one = tiny.draw(tmp_path / "one", ["sky"], count=1, seed=11)
    answer = tlcli.json("extend-classes", run, one, "--strategy", strategy)
    assert answer["images"]["used"] == 1
    again = ("extend-classes", run, one, "--strategy", strategy, "--head", "ridge")
    assert "new images" in tlcli.error(2, *again)


def test_an_explicit_merge_solves_the_head_anew(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    tlcli("extend-classes", run, pictures / "second", "--strategy", "freeze-old")
    answer = tlcli.json("extend-classes", run, pictures / "second", "--strategy", "merge")
    assert (answer["changed"], answer["exact"]) == (True, True)
    again = tlcli.json("extend-classes", run, pictures / "second", "--strategy", "merge")
    assert again["changed"] is False


def test_exemplars_need_the_files_of_old_images(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run = start(tlcli, pictures, tmp_path / "run", "--memory", "features")
    tlcli("extend-classes", run, pictures / "second", "--memory", "exemplars", code=3)
    assert "--old-data" in tlcli.err
    rehearsed = tlcli.json(
        *("extend-classes", run, pictures / "second", "--strategy", "replay"),
        *("--exemplars-per-class", "3"),
    )
    assert rehearsed["memory"] == "features"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--distillation-weight", "nan"], "finite"),
        (["--distillation-weight", "5"], "--strategy lwf"),
        (["--bias-correction", "bic"], "--strategy replay"),
        (["--head", "auto", "--strategy", "lwf"], "merge or joint"),
    ],
)
def test_options_of_another_strategy_are_refused(
    tlcli: CommandLine, run: Path, pictures: Path, options: list[str], named: str
) -> None:
    assert named in tlcli.error(2, "extend-classes", run, pictures / "second", *options)


def test_images_that_are_learned_do_not_test(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    options = ("pretrain", pictures / "first", "--out", tmp_path / "run")
    tlcli(*options, "--test", pictures / "first", code=3)
    assert "set other images aside" in tlcli.err.lower()


def test_a_gate_is_closed_by_a_parent_that_has_learned_the_images(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    """Its accuracy on them is not what it would be on others."""
    run = start(tlcli, pictures, tmp_path / "run", "--memory", "features")
    tlcli("extend-classes", run, pictures / "second", "--strategy", "freeze-old")
    answer = tlcli.json("extend-classes", run, pictures / "third", "--strategy", "merge")
    assert answer["validation"]["old_accuracy"] is not None
    assert answer["validation"]["old_accuracy_before"] is None


def test_heads_cannot_be_compared_on_one_image_a_class(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    data = tiny.draw(tmp_path / "one", ["apple", "leaf", "sky"], count=1)
    error = tlcli.error(3, "pretrain", data, "--out", tmp_path / "run", "--head", "auto")
    assert "Name a head" in error
    tlcli("pretrain", data, "--out", tmp_path / "run")
    head = head_of(tmp_path / "run")
    assert 0.01 < head.temperature != 1.0


def test_a_projected_run_can_be_fine_tuned(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run = start(tlcli, pictures, tmp_path / "run", "--head", "softmax", "--projection", "32")
    tlcli("finetune", run, pictures / "first", "--epochs", "1")
    assert tlcli.json("evaluate", run, pictures / "test", "--ignore-unknown")["accuracy"] > 0.5


@pytest.mark.parametrize(
    ("width", "images", "expected"),
    [(1280, 500, False), (1280, 2048, True), (2304, 20_000, False)],
)
def test_a_projection_is_tried_where_it_may_bring_something(
    width: int, images: int, expected: bool
) -> None:
    labels = [f"class {number % 5}" for number in range(images)]
    for projected, known in ((None, expected), (True, True), (False, False)):
        names = candidates(HeadOptions(), labels, False, projected, width)
        assert ("rp-ridge" in names) == known
