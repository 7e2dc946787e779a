"""compare: the command, its JSON object and its text."""

import csv
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import images, strategies
from tlcli.backbones import Reading
from tlcli.commands.compare import compare
from tlcli.config import CompareConfig, Progress
from tlcli.errors import Stopped, UsageError
from tlcli.extractor import Extractor
from tlcli.features import Features
from tlcli.heads import Evidence, Fit, LinearHead, Recipe
from tlcli.heads.evidence import moments_like
from tlcli.strategies import Strategy, StrategyInput

Content = dict[str, Any]

NAMES = sorted(tiny.COLOURS)
ROUNDS = ("--rounds", "3+1+1")
DEFAULT = {
    ("merge", "lda"),
    ("merge", "ridge"),
    ("merge", "ncm"),
    ("joint", "softmax"),
    ("joint", "svm"),
    ("freeze-old", "softmax"),
    ("lwf", "softmax"),
    ("replay", "softmax"),
    ("naive", "softmax"),
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five classes that are hard to tell apart; one has two images, one has seven."""
    folder = tiny.draw(tmp_path_factory.mktemp("compare"), NAMES, count=7, contrast=0.03)
    for path in sorted((folder / NAMES[-1]).iterdir())[2:]:
        path.unlink()
    return folder


def pairs(content: Content) -> set[tuple[str, str]]:
    return {(entry["strategy"], entry["head"]) for entry in content["methods"]}


def entry_of(content: Content, strategy: str, head: str) -> Content:
    return next(
        entry
        for entry in content["methods"]
        if (entry["strategy"], entry["head"]) == (strategy, head)
    )


@pytest.mark.slow
def test_the_defaults(tlcli: CommandLine, photos: Path) -> None:
    content = tlcli.json("compare", photos, "--folds", 3)
    assert content["data"] == str(photos)
    assert content["images"] == 30
    assert content["folds"] == 3
    assert content["classes"] == NAMES
    assert content["rounds"] == [NAMES[:3], NAMES[3:4], NAMES[4:]]
    # The class with two images has one in a training fold; svm wants two.
    assert pairs(content) == DEFAULT - {("joint", "svm")}
    left_out = content["left_out"]
    assert [(entry["strategy"], entry["head"]) for entry in left_out] == [("joint", "svm")]
    assert NAMES[-1] in left_out[0]["reason"]
    assert "joint svm is left out" in tlcli.err
    for entry in content["methods"]:
        assert entry["backbone"] == "EfficientNetLite0"
        assert entry["exact"] == (entry["strategy"] in ("merge", "joint"))
        assert entry["seconds"] >= 0 and entry["bytes_kept"] > 0
        for name in ("accuracy", "mean_class_accuracy", "average_incremental_accuracy"):
            assert 0 <= entry[name]["mean"] <= 1 and entry[name]["sd"] >= 0
        assert [after["round"] for after in entry["rounds"]] == [1, 2, 3]
        last = entry["rounds"][-1]
        assert last["accuracy"] == entry["accuracy"]
        assert list(last["accuracy_by_introduction"]) == ["1", "2", "3"]
    needs = {(e["strategy"], e["needs_old_images"]) for e in content["methods"]}
    assert needs >= {("merge", "none"), ("joint", "all"), ("replay", "some"), ("naive", "none")}


def test_the_best_comes_first_and_is_named(tlcli: CommandLine, photos: Path) -> None:
    content = tlcli.json("compare", photos, *ROUNDS, "--folds", 2, "--heads", "lda,ncm,softmax")
    ranked = [entry["average_incremental_accuracy"]["mean"] for entry in content["methods"]]
    assert ranked == sorted(ranked, reverse=True)
    keys = ("backbone", "strategy", "head", "average_incremental_accuracy")
    assert all(content["best"][key] == content["methods"][0][key] for key in keys)
    assert content["best"]["behind_best"] == {"mean": 0.0, "sd": 0.0}
    free = next(e for e in content["methods"] if e["needs_old_images"] == "none")
    assert all(content["best_without_old_images"][key] == free[key] for key in keys)


def test_merge_equals_joint_training_of_lda(
    tlcli: CommandLine, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    features = Extractor.features

    def spy(
        self: Extractor, wanted: tuple[images.LabelledImage, ...], progress: Progress
    ) -> Features[images.LabelledImage]:
        found = features(self, wanted, progress)
        seen.append((self, found.examples))
        return found

    monkeypatch.setattr(Extractor, "features", spy)
    options = ("--strategies", "merge", "--heads", "lda", "--folds", 3)
    entry = tlcli.json("compare", photos, *ROUNDS, *options)["methods"][0]
    assert entry["excess_forgetting"] == {"mean": 0.0, "sd": 0.0}
    ((extractor, examples),) = seen
    fold = images.folds(examples.hashes, examples.labels, 3)
    labels = np.array(examples.labels, object)
    for after, known in zip(entry["rounds"], (3, 4, 5), strict=True):
        accuracies = []
        for number in range(3):
            classes = np.isin(labels, NAMES[:known])
            train = examples.where(classes & (fold != number))
            test = examples.where(classes & (fold == number))
            head = Recipe("lda").solve(extractor.moments(train))
            accuracies.append((head.predict(test.vectors) == np.array(test.labels)).mean())
        assert after["accuracy"]["mean"] == pytest.approx(np.mean(accuracies), abs=1e-12)
        assert after["accuracy"]["sd"] == pytest.approx(np.std(accuracies, ddof=1), abs=1e-12)
        assert 0.3 < after["accuracy"]["mean"] < 1


def test_features_are_extracted_once_and_moments_once_a_round(
    tlcli: CommandLine, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {"features": 0, "moments": 0}

    def counted(name: str) -> None:
        original = getattr(Extractor, name)

        def method(self: Extractor, *arguments: Any) -> Any:
            calls[name] += 1
            return original(self, *arguments)

        monkeypatch.setattr(Extractor, name, method)

    counted("features")
    counted("moments")
    tlcli("compare", photos, *ROUNDS, "--folds", 2, "--heads", "lda,ncm,softmax")
    assert calls == {"features": 1, "moments": 3 * 2}


def test_gradient_strategies_bring_their_reference(tlcli: CommandLine, photos: Path) -> None:
    options = ("--strategies", "freeze-old", "--heads", "softmax,lda", "--folds", 2)
    content = tlcli.json("compare", photos, *ROUNDS, *options)
    assert pairs(content) == {("freeze-old", "softmax"), ("joint", "softmax")}
    joint = entry_of(content, "joint", "softmax")
    frozen = entry_of(content, "freeze-old", "softmax")
    assert joint["excess_forgetting"] == {"mean": 0.0, "sd": 0.0}
    excess = frozen["forgetting"]["mean"] - joint["forgetting"]["mean"]
    assert frozen["excess_forgetting"]["mean"] == pytest.approx(excess)
    assert frozen["rounds"][0] == joint["rounds"][0]


def test_naive_forgets(tlcli: CommandLine, pictures: Path) -> None:
    content = tlcli.json("compare", pictures / "all", *ROUNDS, "--folds", 2, "--heads", "softmax")
    naive = entry_of(content, "naive", "softmax")
    assert naive["forgetting"]["mean"] > 0.5
    assert naive["excess_forgetting"]["mean"] > 0.5


def test_bytes_kept(tlcli: CommandLine, pictures: Path) -> None:
    options = ("--folds", 2, "--heads", "lda,softmax,svm", "--exemplars-per-class", 3)
    content = tlcli.json("compare", pictures / "all", *ROUNDS, *options)
    width, classes, images_left = 16, 5, 20
    head, frame = 4 * classes * (width + 1), 16 * width
    moments_size = 8 * (width * (width + 1) // 2 + classes * width)
    exemplars = 3 * classes * (4 * width + 3 * tiny.IMAGE_SIZE**2)
    expected = {
        "merge": head + moments_size,
        "joint": head + 4 * images_left * width,
        "freeze-old": head + frame,
        "lwf": head + frame,
        "naive": head + frame,
        "replay": head + frame + exemplars,
    }
    assert {e["strategy"]: e["bytes_kept"] for e in content["methods"]} == expected


def test_heads_behind_a_projection_are_tried_when_asked_for(
    tlcli: CommandLine, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tlcli.commands.compare.trials.PROJECTION_WIDTH", 64)
    content = tlcli.json("compare", photos, *ROUNDS, "--folds", 2, "--heads", "rp-ridge,ncm")
    assert pairs(content) == {("merge", "rp-ridge"), ("merge", "ncm")}
    wide, plain = (entry_of(content, "merge", head) for head in ("rp-ridge", "ncm"))
    assert wide["bytes_kept"] > 8 * 64 * 65 / 2 > plain["bytes_kept"]


def test_what_each_strategy_is_given(
    tlcli: CommandLine, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old images as it needs them, moments of all, and the head of the round before."""
    given: dict[str, dict[int, Evidence]] = {}
    following = strategies.following

    def spy(strategy: Strategy, told: StrategyInput) -> Fit:
        fit = following(strategy, told)

        def recorded(evidence: Evidence) -> LinearHead:
            # What follows in a round is fitted to some of the images, for the temperature.
            rounds = given.setdefault(str(told.options.strategy), {})
            rounds.setdefault(len(told.classes), evidence)
            return fit(evidence)

        return recorded

    monkeypatch.setattr(strategies, "following", spy)
    options = ("--folds", 2, "--heads", "lda,softmax", "--exemplars-per-class", 2)
    tlcli("compare", photos, "--rounds", "2+2+1", *options)
    for strategy, (second, third) in ((name, rounds.values()) for name, rounds in given.items()):
        old = Counter(third.old.labels)
        if strategy == "replay":
            assert set(old) == set(NAMES[:4]) and set(old.values()) == {2}
        elif strategy == "joint":
            assert third.old.hashes == (*second.old.hashes, *second.new.hashes)
            assert set(old) == set(NAMES[:4])
        else:
            assert not old
        assert set(third.new.labels) == set(NAMES[4:])
        assert third.parent is not None and third.parent.classes == tuple(NAMES[:4])
        assert third.moments is not None and third.moments.classes == tuple(NAMES)
    assert set(given) == {"merge", "joint", "freeze-old", "lwf", "replay", "naive"}
    parents = {name: [one.parent for one in rounds.values()] for name, rounds in given.items()}
    temperatures = {
        name: [one.temperature for one in heads if one] for name, heads in parents.items()
    }
    for name in ("lwf", "replay", "naive"):
        assert 1 not in temperatures[name], "a round would have fitted it"
    first, later = temperatures["freeze-old"]
    assert first == later == temperatures["lwf"][0]
    assert temperatures["merge"] == [1, 1], "heads solved anew are not made from probabilities"
    joint = given["joint"][5]
    seen = joint.old.joined(joint.new)
    space = given["merge"][5].moments
    assert space is not None
    assert moments_like(space, seen).digest == space.digest


@pytest.mark.slow
def test_several_backbones(tlcli: CommandLine, photos: Path) -> None:
    names = "EfficientNetLite0,MobileNetV2"
    options = ("--backbones", names, "--heads", "lda", "--folds", 2)
    content = tlcli.json("compare", photos, *ROUNDS, *options)
    assert {entry["backbone"] for entry in content["methods"]} == set(names.split(","))
    text = tlcli("compare", photos, *ROUNDS, *options)
    assert "backbone" in " ".join(text.splitlines()[2:4]).split()


def test_several_layers_and_views(tlcli: CommandLine, photos: Path) -> None:
    """Each is what `pretrain` with the same options sees, and says what it costs."""
    options = ("--heads", "lda", "--strategies", "merge", "--folds", 2)
    wanted = ("--layers", "last,blocks", "--views", "1,2")
    content = tlcli.json("compare", photos, *ROUNDS, *options, *wanted)
    found = {(entry["layers"], entry["views"]): entry for entry in content["methods"]}
    assert set(found) == {(layers, views) for layers in ("last", "blocks") for views in (1, 2)}
    assert {key: entry["width"] for key, entry in found.items()} == {
        ("last", 1): 16,
        ("last", 2): 16,
        ("blocks", 1): 28,
        ("blocks", 2): 28,
    }
    (plain,) = tlcli.json("compare", photos, *ROUNDS, *options)["methods"]
    assert plain["accuracy"] == found["last", 1]["accuracy"]
    (alone,) = tlcli.json("compare", photos, *ROUNDS, *options, "--layers", "blocks")["methods"]
    assert alone["accuracy"] == found["blocks", 1]["accuracy"]
    assert alone["milliseconds_per_image"] is None  # cached by now
    best = content["best"]
    assert found[best["layers"], best["views"]] is content["methods"][0]
    text = tlcli("compare", photos, *ROUNDS, *options, *wanted)
    assert {"layers", "views", "width"} <= {*" ".join(text.splitlines()[2:4]).split()}
    chosen = Reading(best["layers"], best["views"]).choices.items()
    flags = "".join(f" --{name} {value}" for name, value in chosen)
    assert f"--backbone EfficientNetLite0{flags} --head lda" in text


def test_layers_and_views_of_a_run(tlcli: CommandLine, photos: Path, run: Path) -> None:
    command = ("compare", photos, "--weights", run, *ROUNDS)
    assert "layers=blocks" in tlcli.error(2, *command, "--layers", "blocks")
    assert "views=1,2" in tlcli.error(2, *command, "--views", "1,2")


def test_the_backbone_of_a_run(tlcli: CommandLine, photos: Path, run: Path) -> None:
    options = (*ROUNDS, "--folds", 2, "--heads", "lda")
    plain = tlcli.json("compare", photos, *options)
    of_run = tlcli.json("compare", photos, *options, "--weights", run)
    assert of_run["methods"][0]["accuracy"] == plain["methods"][0]["accuracy"]
    assert "image-size=64" in tlcli.error(
        2, "compare", photos, "--weights", run, "--image-size", 64
    )


def test_images_that_a_trained_backbone_has_learned_are_told(
    tlcli: CommandLine, photos: Path, tmp_path: Path
) -> None:
    few = tiny.draw(tmp_path / "few", NAMES[:2], count=6, seed=70)
    training = ("--weights", "none", "--epochs", 1, "--batch-size", 4)
    tlcli("pretrain", few, "--out", tmp_path / "run", *training)
    options = ("--folds", 2, "--heads", "lda", "--strategies", "merge", "--weights")
    tlcli("compare", few, *options, tmp_path / "run")
    assert "was trained on 12 of the 12 images: the figures look better" in tlcli.err
    tlcli("compare", photos, *ROUNDS, *options, tmp_path / "run")
    assert "was trained on" not in tlcli.err


def test_a_class_with_one_image_is_learned_and_never_tested(
    tlcli: CommandLine, tmp_path: Path
) -> None:
    photos = tiny.draw(tmp_path / "photos", NAMES[:3], count=6)
    tiny.draw(photos, NAMES[3:4], count=1)
    content = tlcli.json("compare", photos, "--rounds", "3+1", "--folds", 4)
    for entry in content["methods"]:
        assert entry["rounds"][-1]["accuracy_by_introduction"]["2"] is None
        assert entry["rounds"][-1]["accuracy_by_introduction"]["1"] is not None


def test_more_folds_than_images(tlcli: CommandLine, photos: Path) -> None:
    content = tlcli.json("compare", photos, *ROUNDS, "--folds", 20, "--heads", "ncm")
    assert content["methods"][0]["accuracy"]["mean"] > 0.3


def test_one_round_has_nothing_to_forget(tlcli: CommandLine, photos: Path) -> None:
    content = tlcli.json("compare", photos, "--rounds", "5", "--folds", 2, "--heads", "lda,softmax")
    for entry in content["methods"]:
        assert entry["forgetting"] is None and entry["excess_forgetting"] is None
        assert entry["average_incremental_accuracy"] == entry["accuracy"]
    assert "–" in tlcli("compare", photos, "--rounds", "5", "--folds", 2, "--heads", "lda")


def test_the_text_names_a_method_and_its_commands(tlcli: CommandLine, photos: Path) -> None:
    text = tlcli("compare", photos, *ROUNDS, "--folds", 2, "--heads", "lda,softmax")
    assert text.startswith(f"{photos}: 30 images, 5 classes in rounds of 3+1+1, 2 folds")
    assert "tlcli pretrain FIRST --out RUN --backbone EfficientNetLite0 --head" in text
    assert "tlcli extend-classes RUN MORE" in text


def test_the_same_twice(tlcli: CommandLine, photos: Path) -> None:
    def figures() -> list[Content]:
        content = tlcli.json("compare", photos, *ROUNDS, "--folds", 2, "--heads", "ridge,softmax")
        return sorted(
            (
                {key: value for key, value in e.items() if key != "seconds"}
                for e in content["methods"]
            ),
            key=str,
        )

    assert figures() == figures()


def test_nothing_is_written_and_a_stop_leaves_nothing(
    tiny_backbone: None, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, out = tmp_path / "scratch", tmp_path / "out"
    scratch.mkdir()
    out.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    def stop(phase: str, done: int, total: int) -> None:
        if phase == "comparing" and done == 2:
            raise Stopped(2)

    config = CompareConfig(str(photos), rounds="3+2", folds=2, report=out / "report.html")
    with pytest.raises(Stopped):
        compare(config, stop)
    assert not list(scratch.iterdir()) and not list(out.iterdir())


def test_progress_counts_every_head(tiny_backbone: None, photos: Path) -> None:
    told: list[tuple[int, int]] = []

    def progress(phase: str, done: int, total: int) -> None:
        if phase == "comparing":
            told.append((done, total))

    compare(CompareConfig(str(photos), rounds="3+2", folds=2, heads=("lda", "ncm")), progress)
    assert told == [(done, 2 * 2 * 2) for done in range(9)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--strategies", "merge,marge"), "merge, joint, freeze-old, lwf, replay, naive"),
        (("--heads", "lda,lad"), "lda, ridge, rp-ridge, ncm"),
        (("--backbones", "MobilNet"), "MobileNet"),
        (("--layers", "last,block"), "blocks"),
        (("--views", "1,3"), "--views"),
        (("--strategies", "merge", "--heads", "softmax"), "solved from moments"),
        (("--strategies", "joint", "--heads", "lda"), "solved from moments"),
        (("--strategies", "lwf", "--heads", "svm,lda"), "softmax"),
        (("--strategies", "joint", "--heads", "svm"), "svm needs 2 training images"),
        (("--rounds", "3+1"), "5 classes together"),
        (("--rounds", "3+x"), "5+1+1"),
        (("--rounds", "3+0+2"), "at least one class in every round"),
        (("--rounds", "1+4"), "two classes in round 1"),
        (("--rounds", "6..."), "5 classes together"),
        (("--rounds", ""), "5+1+1"),
        (("--folds", "1"), "--folds"),
        (("--heads", ""), "--heads"),
        (("--weights", "none"), "pretrained"),
        (("--weights", "x.h5", "--backbones", "VGG16,VGG19"), "one backbone"),
        (("--engine", "steam"), "engine"),
        (("--report", "."), "is a folder"),
        (("--rounds-file", "nowhere.csv"), "nowhere.csv"),
    ],
)
def test_bad_options(
    tlcli: CommandLine, photos: Path, options: tuple[str, ...], words: str
) -> None:
    tlcli("compare", photos, *options, code=2)
    assert words in tlcli.err.splitlines()[-1]


def test_folds_are_checked_for_callers_too(photos: Path) -> None:
    with pytest.raises(UsageError, match="at least two folds"):
        compare(CompareConfig(str(photos), folds=1))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(name, 1) for name in NAMES[:-1]], f"no round for: '{NAMES[-1]}'"),
        ([(name, 1) for name in (*NAMES, "pear")], "not in DATA: 'pear'"),
        ([(name, min(place + 1, 2)) for place, name in enumerate(NAMES)], "two classes in round 1"),
        ([(name, "one") for name in NAMES], "columns class,round"),
        ([*((name, 1) for name in NAMES), (NAMES[0], 2)], "rounds 1 and 2"),
        ([], "no round for"),
    ],
)
def test_bad_rounds_files(
    tlcli: CommandLine, photos: Path, tmp_path: Path, rows: list[tuple[str, Any]], words: str
) -> None:
    path = rounds_file(tmp_path / "rounds.csv", rows)
    assert words in tlcli.error(2, "compare", photos, "--rounds-file", path)


def rounds_file(path: Path, rows: list[tuple[str, Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("class", "round"), *rows])
    return path


def test_rounds_from_a_file(tlcli: CommandLine, photos: Path, tmp_path: Path) -> None:
    rows = [(name, 7 if name == "apple" else 3) for name in reversed(NAMES)]
    path = rounds_file(tmp_path / "rounds.csv", rows)
    options = ("--folds", 2, "--heads", "ncm")
    content = tlcli.json("compare", photos, "--rounds-file", path, *options)
    assert content["rounds"] == [[name for name in NAMES if name != "apple"], ["apple"]]
    message = tlcli.error(2, "compare", photos, "--rounds-file", path, "--rounds", "4+1")
    assert "--rounds-file and --rounds" in message
    (tmp_path / "other.csv").write_text("name;number\n", "utf-8")
    message = tlcli.error(2, "compare", photos, "--rounds-file", tmp_path / "other.csv")
    assert "no round for" in message or "columns class,round" in message


def test_unusable_data(tlcli: CommandLine, tmp_path: Path) -> None:
    alone = tiny.draw(tmp_path / "alone", NAMES[:1])
    assert "two classes" in tlcli.error(3, "compare", alone)
    single = tiny.draw(tmp_path / "single", NAMES[:3], count=1)
    assert "two images of a class" in tlcli.error(3, "compare", single)
    bad = tiny.draw(tmp_path / "bad", NAMES[:3])
    (bad / NAMES[0] / "broken.png").write_bytes(b"no image")
    assert "broken.png" in tlcli.error(3, "compare", bad)
    content = tlcli.json("compare", bad, "--max-bad", "5%", "--heads", "ncm", "--rounds", "2+1")
    assert content["images"] == 24 and "broken.png" in content["skipped"][0]["path"]


def test_names_in_a_config_file(tlcli: CommandLine, photos: Path, tmp_path: Path) -> None:
    config = tmp_path / "compare.toml"
    config.write_text('[compare]\nheads = ["ncm", "lda"]\nfolds = 2\nstrategies = "merge"\n')
    content = tlcli.json("--config", config, "compare", photos)
    assert pairs(content) == {("merge", "ncm"), ("merge", "lda")}
