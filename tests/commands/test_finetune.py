"""finetune through the command line: what is at hand, what is carried over, what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import backbones, evaluation, memory, runs
from tlcli.errors import StorageError
from tlcli.training import Checkpoints

NAMES = ["apple", "leaf", "sky"]
FAST = ("--unfreeze", "2", "--epochs", "2", "--augment", "light")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny.draw(tmp_path / "data", NAMES, count=16, contrast=0.3)


@pytest.fixture
def old(data: Path, tmp_path: Path) -> Path:
    """The images of two classes, taken away from `data`."""
    for name in NAMES[1:]:
        shutil.copytree(data / name, tmp_path / "old" / name)
    return tmp_path / "old"


def begun(tlcli: CommandLine, data: Path, *options: object) -> Path:
    run = data.parent / "run"
    tlcli("pretrain", data, "--out", run, *options)
    return run


def apples(data: Path) -> Path:
    """A folder with one of the three classes."""
    shutil.copytree(data / "apple", data.parent / "apples" / "apple", dirs_exist_ok=True)
    return data.parent / "apples"


def unseen(data: Path) -> Path:
    """Images like those of `data`, which no run learns."""
    return tiny.draw(data.parent / "unseen", NAMES, count=16, seed=1, contrast=0.3)


def ledger(run: Path) -> dict[str, str]:
    return dict(memory.load(runs.open_run(run).round()).ledger)


def test_the_round_says_how_it_was_trained(tlcli: CommandLine, data: Path) -> None:
    run = begun(tlcli, data)
    answer = tlcli.json("finetune", run, data, *FAST)
    summary = answer["training"]
    assert summary["epochs"] == 2
    assert summary["drift"] is None
    lines = (run / "rounds" / "0002" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert not (run / "training").exists()
    assert tlcli.json("rounds", "verify", run)["damages"] == []
    assert "epochs" in tlcli("rounds", "show", run)


def test_the_same_command_twice_is_no_second_round(tlcli: CommandLine, data: Path) -> None:
    run = begun(tlcli, data)
    tlcli("finetune", run, data, *FAST)
    assert tlcli.json("finetune", run, data, *FAST, "--resume")["changed"] is False
    assert tlcli.json("finetune", run, data, *FAST, "--seed", "1")["round"] == 3


def test_what_was_learned_and_is_not_given_is_carried_over(
    tlcli: CommandLine, data: Path, pictures: Path
) -> None:
    run = begun(tlcli, data)
    learned = ledger(run)
    answer = tlcli.json("finetune", run, apples(data), *FAST)
    assert "'leaf', 'sky'" in tlcli.err
    assert "by an estimate (a guess" in tlcli.err
    assert answer["exact"] is False
    assert answer["training"]["drift"]["images"] == 16
    assert answer["validation"]["accuracy"] is None
    assert ledger(run) == learned
    report = tlcli.json("evaluate", run, unseen(data))
    assert report["mean_class_accuracy"] > 0.6
    state = memory.load(runs.open_run(run).round())
    assert state.moments is not None
    assert state.moments.classes == tuple(NAMES)
    assert state.moments.counts.tolist() == [16, 16, 16]
    answer = tlcli.json("extend-classes", run, pictures / "third")
    assert answer["exact"] is False


@pytest.mark.numerics
def test_old_data_makes_it_exact(tlcli: CommandLine, data: Path, old: Path) -> None:
    run = begun(tlcli, data)
    shutil.copytree(run, data.parent / "other")
    given = tlcli.json("finetune", run, apples(data), "--old-data", old, *FAST)
    whole = tlcli.json("finetune", data.parent / "other", data, *FAST)
    assert given["exact"] is True
    assert given["memory_sha256"] == whole["memory_sha256"]
    assert given["backbone_fingerprint"] == whole["backbone_fingerprint"]


def test_require_exact_refuses_before_anything_is_trained(tlcli: CommandLine, data: Path) -> None:
    run = begun(tlcli, data)
    error = tlcli.error(3, "finetune", run, apples(data), "--require-exact", *FAST)
    assert "32 are missing, of 'leaf', 'sky'" in error
    assert runs.open_run(run).numbers() == [1]


def test_exemplars_are_rehearsed(tlcli: CommandLine, data: Path) -> None:
    run = begun(tlcli, data, "--exemplars-per-class", "4")
    answer = tlcli.json("finetune", run, apples(data), *FAST)
    assert answer["images"]["used"] == 16 + 4 + 4
    assert answer["validation"]["images"] > 0
    state = memory.load(runs.open_run(run).round())
    assert state.kept is not None
    assert sorted(state.kept.labels) == [name for name in NAMES for _ in range(4)]
    tlcli("finetune", run, apples(data), *FAST, "--seed", "1")
    assert tlcli.json("evaluate", run, unseen(data))["mean_class_accuracy"] > 0.6


@pytest.mark.slow
def test_all_exemplars_are_all_images(tlcli: CommandLine, data: Path) -> None:
    """With every image an exemplar nothing is missing, and the pixels are those of the files."""
    run = begun(tlcli, data, "--exemplars-per-class", "16")
    shutil.copytree(run, data.parent / "other")
    some = tlcli.json("finetune", run, apples(data), "--require-exact", *FAST)
    whole = tlcli.json("finetune", data.parent / "other", data, *FAST)
    assert some["exact"] is True
    assert some["memory_sha256"] == whole["memory_sha256"]


@pytest.mark.slow
def test_kept_features_are_carried_over(tlcli: CommandLine, data: Path) -> None:
    run = begun(tlcli, data, "--memory", "features")
    tlcli("finetune", run, apples(data), *FAST)
    state = memory.load(runs.open_run(run).round())
    assert state.kept is not None
    assert len(state.kept) == 48
    assert tlcli.json("evaluate", run, unseen(data))["mean_class_accuracy"] > 0.6


@pytest.mark.slow
def test_a_run_without_memory_publishes_the_trained_head(tlcli: CommandLine, data: Path) -> None:
    run = begun(tlcli, data, "--memory", "none")
    answer = tlcli.json("finetune", run, apples(data), *FAST)
    assert (answer["exact"], answer["memory_sha256"]) == (False, None)
    assert answer["classes"] == NAMES
    assert tlcli.json("evaluate", run, unseen(data))["mean_class_accuracy"] > 0.6


@pytest.mark.slow
def test_a_projected_run_needs_every_class(tlcli: CommandLine, data: Path) -> None:
    run = begun(tlcli, data, "--projection", "32")
    assert "'leaf', 'sky'" in tlcli.error(3, "finetune", run, apples(data), *FAST)
    assert tlcli.json("finetune", run, data, *FAST)["exact"] is True


@pytest.mark.slow
def test_new_images_of_known_classes_are_learned(tlcli: CommandLine, data: Path) -> None:
    run = begun(tlcli, data)
    more = Path(shutil.copytree(data, data.parent / "more"))
    tiny.draw(more, ["apple"], count=20, seed=5, contrast=0.3)
    answer = tlcli.json("finetune", run, more, "--old-data", data, *FAST)
    assert answer["images"]["used"] == 68
    assert answer["exact"] is True
    assert len(ledger(run)) == 68


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--batch-size", "64"], "batch-size=64"),
        (["--unfreeze", "conv99"], "block3a"),
        (["--augment", "wild"], "none, light, standard, strong"),
        (["--lr", "fast"], "`auto`"),
        (["--lr", "-1"], "`auto`"),
        (["--label-smoothing", "1"], "label-smoothing"),
    ],
)
def test_an_option_that_cannot_be_meant(
    tlcli: CommandLine, data: Path, options: list[str], named: str
) -> None:
    run = begun(tlcli, data)
    assert named in tlcli.error(2, "finetune", run, data, *options)
    assert runs.open_run(run).numbers() == [1]


@pytest.mark.slow
def test_a_class_with_one_image_is_learned_and_named(tlcli: CommandLine, data: Path) -> None:
    tiny.draw(data, ["plum"], count=1)
    run = begun(tlcli, data)
    tlcli("finetune", run, data, *FAST)
    assert "of 'plum' there is one image" in tlcli.err


def test_a_rate_that_explodes_leaves_the_round_as_it_was(tlcli: CommandLine, data: Path) -> None:
    run = begun(tlcli, data)
    wild = ("--unfreeze", "all", "--lr", "1e30", "--clip-norm", "1e30", "--epochs", "3")
    error = tlcli.error(2, "finetune", run, data, *wild)
    assert "finite loss" in error
    assert "step" in error
    assert runs.open_run(run).numbers() == [1]


@pytest.mark.slow
def test_another_command_is_not_resumed(
    tlcli: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(tlcli, data)
    _interrupt(tlcli, monkeypatch, run, data)
    options = ("--unfreeze", "1", "--lr", "0.02", "--epochs", "2", "--augment", "light")
    error = tlcli.error(2, "finetune", run, data, *options, "--resume")
    assert "lr was 0.003 and is 0.02" in error
    assert "unfreeze was '2' and is '1'" in error
    assert tlcli.json("finetune", run, data, *FAST, "--resume")["training"]["epochs"] == 2


def test_what_is_interrupted_and_not_resumed_is_given_up_aloud(
    tlcli: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(tlcli, data)
    _interrupt(tlcli, monkeypatch, run, data)
    tlcli("finetune", run, data, *FAST)
    assert "is given up" in tlcli.err


def _interrupt(
    tlcli: CommandLine, monkeypatch: pytest.MonkeyPatch, run: Path, data: Path, saves: int = 1
) -> None:
    """The disk is full after so many epochs."""
    save, calls = Checkpoints.save, []

    def full(self: Checkpoints, *arguments: Any) -> None:
        calls.append(self)
        if len(calls) > saves:
            raise StorageError("Expected room. Received: none.")
        save(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", full)
        assert "room" in tlcli.error(6, "finetune", run, data, *FAST, "--epochs", saves + 1)
    assert (run / "training" / "state.json").is_file()
    assert runs.open_run(run).numbers() == [1]


@pytest.mark.slow
def test_tensorboard_gets_the_figures(tlcli: CommandLine, data: Path, tmp_path: Path) -> None:
    run = begun(tlcli, data)
    tlcli("finetune", run, data, *FAST, "--tensorboard", tmp_path / "board")
    (events,) = (tmp_path / "board").iterdir()
    assert b"validation_accuracy" in events.read_bytes()


def test_without_tensorboard_its_option_is_refused(
    tlcli: CommandLine, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(tlcli, data)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    error = tlcli.error(2, "finetune", run, data, "--tensorboard", tmp_path / "board")
    assert "tlcli[tensorboard]" in error


def test_a_folder_for_tensorboard_that_cannot_be(
    tlcli: CommandLine, data: Path, tmp_path: Path
) -> None:
    run = begun(tlcli, data)
    (tmp_path / "file").write_text("")
    error = tlcli.error(6, "finetune", run, data, "--tensorboard", tmp_path / "file" / "board")
    assert "file/board" in error


@pytest.mark.slow
def test_features_of_two_backbones_never_meet(tlcli: CommandLine, data: Path) -> None:
    run = begun(tlcli, data)
    tlcli("finetune", run, data, "--unfreeze", "all", "--epochs", "3", "--lr", "0.05")
    first, second = (runs.open_run(run).round(number).manifest for number in (1, 2))
    assert first.backbone_fingerprint != second.backbone_fingerprint
    states = [memory.load(runs.open_run(run).round(n)).moments for n in (1, 2)]
    assert {state.fingerprint for state in states if state} == {
        first.backbone_fingerprint,
        second.backbone_fingerprint,
    }
    models = [
        backbones.load_model(
            backbones.load_stored(runs.open_run(run).backbone_folder(m.backbone_fingerprint))
        )
        for m in (first, second)
    ]
    assert backbones.statistics(models[0]) == backbones.statistics(models[1])
    assert np.any(models[0].get_weights()[0] != models[1].get_weights()[0])


@pytest.mark.slow
def test_images_that_come_back_make_it_exact_again(
    tlcli: CommandLine, data: Path, old: Path
) -> None:
    """After a round of estimates: a part of the images that were gone, then all of them."""
    run = begun(tlcli, data)
    assert tlcli.json("finetune", run, apples(data), *FAST)["exact"] is False
    part = Path(shutil.copytree(data, data.parent / "part"))
    shutil.rmtree(part / "sky")
    answer = tlcli.json("finetune", run, part, *FAST)
    assert (answer["round"], answer["exact"]) == (3, False)
    assert tlcli.json("evaluate", run, unseen(data))["mean_class_accuracy"] > 0.6
    answer = tlcli.json("finetune", run, data, *FAST)
    assert (answer["round"], answer["exact"]) == (4, True)
    assert tlcli.json("finetune", run, data, *FAST)["changed"] is False


@pytest.mark.slow
def test_an_unreadable_image_does_not_make_every_call_a_round(
    tlcli: CommandLine, data: Path
) -> None:
    run = begun(tlcli, data)
    (data / "apple" / "bad.png").write_bytes(b"\x89PNG nothing")
    options = (*FAST, "--max-bad", "10%")
    assert tlcli.json("finetune", run, data, *options)["round"] == 2
    assert tlcli.json("finetune", run, data, *options)["changed"] is False


def test_what_makes_it_worse_is_not_published(
    tlcli: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(tlcli, data)
    monkeypatch.setattr("tlcli.evaluation.accuracies", lambda answers: (0.1, 0.1))
    answer = tlcli.json("finetune", run, data, *FAST)
    assert (answer["changed"], answer["round"]) == (False, 1)
    assert "did not help: 10.0 %" in tlcli.err
    assert "Nothing is published" in tlcli.err
    assert runs.open_run(run).numbers() == [1]
    assert not (run / "training").exists()


@pytest.mark.slow
def test_one_image_less_may_be_chance(
    tlcli: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(tlcli, data)
    measured = evaluation.accuracies

    def one_less(answers: Any) -> tuple[float, float]:
        return measured(answers)[0] - 1 / len(answers.true), 1.0

    monkeypatch.setattr("tlcli.evaluation.accuracies", one_less)
    assert tlcli.json("finetune", run, data, *FAST, "--lr", "1e-9")["round"] == 2
    assert "may be chance" in tlcli.err


def test_learned_images_are_no_test(tlcli: CommandLine, data: Path, tmp_path: Path) -> None:
    run = begun(tlcli, data)
    test = tmp_path / "test"
    shutil.copytree(data, test / "learned")
    for name in NAMES:
        shutil.move(test / "learned" / name, test / name)
    (test / "learned").rmdir()
    for path in tiny.draw(tmp_path / "more", NAMES, count=4, seed=9, contrast=0.3).glob("*/*"):
        shutil.copy(path, test / path.parent.name / f"more-{path.name}")

    tlcli("finetune", run, apples(data), *FAST, "--test", test)
    assert "are learned by the run and were left out" in tlcli.err


@pytest.mark.parametrize(("test", "code"), [("nowhere", 2), ("-", 2)])
def test_a_test_that_cannot_be_is_refused_before_the_training(
    tlcli: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch, test: str, code: int
) -> None:
    run = begun(tlcli, data)
    monkeypatch.setattr("tlcli.training.fit", lambda *_: pytest.fail("trained"))
    assert test in tlcli.error(code, "finetune", run, data, *FAST, "--test", test)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["garbage", "flip"])
def test_a_damaged_state_is_named_and_can_be_given_up(
    tlcli: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    run = begun(tlcli, data)
    _interrupt(tlcli, monkeypatch, run, data)
    state = run / "training" / "state.json"
    content = state.read_text()
    state.write_text("{" if damage == "garbage" else content.replace('"steps": 0', '"steps": 1'))
    assert "state.json" in tlcli.error(5, "finetune", run, data, *FAST, "--resume")
    assert tlcli.json("finetune", run, data, *FAST)["round"] == 2


@pytest.mark.slow
def test_a_state_of_an_older_round_is_outdated(
    tlcli: CommandLine, data: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(tlcli, data)
    _interrupt(tlcli, monkeypatch, run, data)
    shutil.copytree(run / "training", data.parent / "kept")
    tlcli("extend-classes", run, pictures / "third")
    assert "cannot go on from the new round" in tlcli.err
    assert not (run / "training").exists()
    shutil.copytree(data.parent / "kept", run / "training")
    assert tlcli.json("finetune", run, data, *FAST, "--resume")["round"] == 3
    assert "it started from another round" in tlcli.err


def test_fewer_epochs_than_are_done(
    tlcli: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(tlcli, data)
    _interrupt(tlcli, monkeypatch, run, data, saves=2)
    error = tlcli.error(2, "finetune", run, data, *FAST, "--epochs", "1", "--resume")
    assert "epochs=1" in error


def test_another_engine_cannot_tell_what_is_missing(tlcli: CommandLine, data: Path) -> None:
    run = begun(tlcli, data)
    error = tlcli.error(3, "finetune", run, apples(data), *FAST, "--engine", "keras")
    assert "another arithmetic (openvino " in error
