"""The main job through the command line: pretrain, extend-classes, finetune, evaluate, predict."""

import hashlib
import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import backbones, heads, images, runs

ROUND_KEYS = {
    "run",
    "round",
    "command",
    "strategy",
    "head",
    "backbone",
    "backbone_fingerprint",
    "classes",
    "new_classes",
    "images",
    "memory",
    "memory_sha256",
    "exact",
    "validation",
    "seconds",
}
EVALUATE_KEYS = {
    "run",
    "round",
    "images",
    "skipped",
    "accuracy",
    "mean_class_accuracy",
    "top5_accuracy",
    "old_accuracy",
    "new_accuracy",
    "ece",
    "log_loss",
    "per_class",
    "rounds",
    "average_incremental_accuracy",
    "forgetting",
    "gates",
}


def three_rounds(tlcli: CommandLine, run: Path, pictures: Path, *options: str) -> None:
    for part in ("second", "third"):
        tlcli("extend-classes", run, pictures / part, *options)


def labels_of(tlcli: CommandLine, run: Path, folder: Path) -> dict[str, str]:
    lines = tlcli("predict", run, folder, "--json").splitlines()
    return {line["path"]: line["label"] for line in map(json.loads, lines)}


def head_of(run: Path, number: int | None = None) -> heads.LinearHead:
    return heads.load(runs.open_run(run).round(number).file("head.h5"))


def batch_of(folder: Path) -> np.ndarray:
    return np.stack(
        [images.decode(path, images.Square(32)) for path in images.find_images([folder])]
    )


def test_round_commands_answer_with_the_keys_of_the_contract(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    answer = tlcli.json("extend-classes", run, pictures / "second")
    assert set(answer) >= ROUND_KEYS
    assert tlcli.err == ""
    assert answer["round"] == 2
    assert answer["strategy"] == "merge"
    assert answer["classes"] == ["apple", "leaf", "sky", "sun"]
    assert answer["new_classes"] == ["sun"]
    assert answer["images"]["used"] == 8
    assert set(answer["seconds"]) >= {"features", "head", "save", "total"}


def test_old_accuracy_is_null_without_old_images_and_measured_with_a_test_set(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    blind = tlcli.json("extend-classes", run, pictures / "second")["validation"]
    assert (blind["accuracy"], blind["old_accuracy"]) == (None, None)
    assert blind["new_accuracy"] >= 0.8
    seen = tlcli.json("extend-classes", run, pictures / "third", "--test", pictures / "test")
    assert seen["validation"]["method"] == "test"
    assert seen["validation"]["old_accuracy"] >= 0.8


def test_merge_in_rounds_equals_joint_training(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    three_rounds(tlcli, run, pictures)
    joint = tmp_path / "joint"
    answer = tlcli.json("pretrain", pictures / "all", "--out", joint)
    current = tlcli.json("rounds", "show", run)
    assert answer["memory_sha256"] == current["memory_sha256"]
    assert answer["exact"] is current["exact"] is True
    assert labels_of(tlcli, run, pictures / "test") == labels_of(tlcli, joint, pictures / "test")
    in_rounds, at_once = head_of(run), head_of(joint).ordered(head_of(run).classes)
    np.testing.assert_array_equal(in_rounds.weights, at_once.weights)
    np.testing.assert_array_equal(in_rounds.bias, at_once.bias)


def test_evaluate_answers_with_every_class_and_the_matrix_of_rounds(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    three_rounds(tlcli, run, pictures)
    report = tlcli.json("evaluate", run, pictures / "test")
    assert set(report) >= EVALUATE_KEYS
    assert [entry["class"] for entry in report["per_class"]] == [
        "apple",
        "leaf",
        "sky",
        "sun",
        "plum",
    ]
    assert [entry["introduced_in_round"] for entry in report["per_class"]] == [1, 1, 1, 2, 3]
    assert [set(entry["accuracy_by_introduction"]) for entry in report["rounds"]] == [
        {"1"},
        {"1", "2"},
        {"1", "2", "3"},
    ]
    text = tlcli("evaluate", run, pictures / "test")
    assert all(name in text for name in ("plum", "after round 3", "forgetting"))


def test_gates_decide_the_exit_code_and_the_report_is_printed_all_the_same(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    three_rounds(tlcli, run, pictures, "--strategy", "naive")
    test = pictures / "test"
    report = tlcli.json("evaluate", run, test, "--fail-under", "99%", code=4)
    assert report["gates"][0]["passed"] is False
    assert "fail-under" in tlcli.err
    tlcli.json("evaluate", run, test, "--max-regression", "0.01", code=4)
    tlcli.json("evaluate", run, test, "--fail-under", "0.01", "--max-regression", "1", code=0)


def test_freeze_old_leaves_the_old_logits_bit_identical_in_a_new_process(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    before = head_of(run)
    tlcli("extend-classes", run, pictures / "second", "--strategy", "freeze-old")
    vectors = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    np.save(run.parent / "vectors.npy", vectors)
    script = (
        "import sys, numpy, pathlib; from tlcli import heads, runs\n"
        "run, vectors, out = map(pathlib.Path, sys.argv[1:])\n"
        "head = heads.load(runs.open_run(run).round().file('head.h5'))\n"
        "numpy.save(out, head.logits(numpy.load(vectors)))"
    )
    paths = [run, run.parent / "vectors.npy", run.parent / "logits.npy"]
    subprocess.run([sys.executable, "-c", script, *map(str, paths)], check=True)
    logits = np.load(run.parent / "logits.npy")
    assert logits.shape == (300, 4)
    np.testing.assert_array_equal(logits[:, :3], before.logits(vectors))
    assert tlcli.json("rounds", "show", run)["exact"] is False


def test_naive_forgets_and_merge_does_not(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    naive = Path(shutil.copytree(run, tmp_path / "naive"))
    three_rounds(tlcli, run, pictures)
    three_rounds(tlcli, naive, pictures, "--strategy", "naive")
    merged = tlcli.json("evaluate", run, pictures / "test")
    forgot = tlcli.json("evaluate", naive, pictures / "test")
    assert merged["old_accuracy"] >= 0.8
    assert forgot["old_accuracy"] <= 0.3


def test_softmax_head_is_measured_in_every_class_and_grows_by_freeze_old(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run = tmp_path / "softmax"
    answer = tlcli.json("pretrain", pictures / "first", "--out", run, "--head", "softmax")
    assert answer["validation"]["method"] == "cross-validation"
    assert answer["validation"]["images"] == 24
    assert tlcli.json("extend-classes", run, pictures / "second")["strategy"] == "freeze-old"
    answer = tlcli.json("extend-classes", run, pictures / "third", "--head", "lda")
    assert (answer["strategy"], answer["exact"]) == ("merge", True)


def test_finetune_keeps_batch_normalization_and_rebuilds_what_depended_on_the_backbone(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run, data = tmp_path / "run", tmp_path / "data"
    tiny.draw(data, ["apple", "leaf", "sky"], count=20, contrast=0.02)
    tlcli("pretrain", data, "--out", run)
    answer = tlcli.json("finetune", run, data, "--unfreeze", "2", "--lr", "0.01")
    opened = runs.open_run(run)
    old, new = (
        backbones.load_model(backbones.load_stored(opened.backbone_folder(fingerprint)))
        for fingerprint in (
            opened.round(1).manifest.backbone_fingerprint,
            answer["backbone_fingerprint"],
        )
    )
    for before, after in zip(old.layers, new.layers, strict=True):
        for name in ("moving_mean", "moving_variance"):
            if hasattr(before, name):
                np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    moved = [
        layer.name
        for layer, other in zip(old.layers, new.layers, strict=True)
        if any(
            (a != b).any() for a, b in zip(layer.get_weights(), other.get_weights(), strict=True)
        )
    ]
    assert moved
    assert all(name.startswith(("block2a", "block3a")) for name in moved)
    assert answer["validation"]["method"] == "holdout"
    assert answer["exact"] is True
    tlcli("extend-classes", run, pictures / "second")
    report = tlcli.json("evaluate", run, pictures / "test", "--ignore-unknown")
    assert [entry["round"] for entry in report["rounds"]] == [1, 2, 3]


def test_finetune_on_some_of_the_images_says_that_the_others_are_carried_over(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    some = Path(shutil.copytree(pictures / "first", tmp_path / "some"))
    (some / "apple" / "000.png").unlink()
    answer = tlcli.json("finetune", run, some, "--epochs", "1")
    assert answer["exact"] is False
    assert "of 24 learned images 1 are not given" in tlcli.err
    assert tlcli.json("extend-classes", run, pictures / "second")["exact"] is False


def test_random_weights_are_trained_as_a_whole(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    options = ("--weights", "none", "--epochs", "2", "--batch-size", "8")
    answer = tlcli.json("pretrain", pictures / "first", "--out", tmp_path / "run", *options)
    assert answer["validation"]["method"] == "holdout"


def test_weights_of_another_run_give_its_backbone(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    answer = tlcli.json("pretrain", pictures / "test", "--out", other, "--weights", run)
    fingerprint = runs.open_run(run).round().manifest.backbone_fingerprint
    assert answer["backbone_fingerprint"] == fingerprint
    error = tlcli.error(
        2, "pretrain", pictures / "test", "--out", tmp_path / "b", "--weights", run,
        "--backbone", "ResNet50",
    )  # fmt: skip
    assert "EfficientNetLite0" in error


def test_the_same_command_again_is_a_no_op_that_says_so(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    tlcli("extend-classes", run, pictures / "second")
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "nothing to do" in tlcli("extend-classes", run, pictures / "second")
    answer = tlcli.json("extend-classes", run, pictures / "second")
    assert answer["images"]["used"] == 0
    assert answer["images"]["already_learned"] == 8
    assert "nothing to do" in tlcli("pretrain", pictures / "first", "--out", run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_the_same_command_elsewhere_gives_the_same_round(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    twin = tmp_path / "twin"
    tlcli("pretrain", pictures / "first", "--out", twin)
    for name in ("head.h5", "memory.h5", "model.keras"):
        first, second = (path / "rounds" / "0001" / name for path in (run, twin))
        assert first.read_bytes() == second.read_bytes(), name


def test_more_images_of_a_known_class_are_added_to_it(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    more = Path(shutil.copytree(pictures / "test" / "apple", tmp_path / "more" / "apple"))
    answer = tlcli.json("extend-classes", run, more.parent)
    assert answer["new_classes"] == []
    assert answer["images"]["used"] == 4
    error = tlcli.error(
        2, "extend-classes", run, pictures / "test" / "..", "--strategy", "nonsense"
    )
    assert "merge, joint, freeze-old, lwf, replay, naive" in error


def test_an_image_that_was_learned_under_another_label_is_left_out(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    wrong = Path(shutil.copytree(pictures / "second", tmp_path / "wrong"))
    shutil.copy(pictures / "first" / "apple" / "000.png", wrong / "sun" / "apple.png")
    assert "learned before as 'apple'" in tlcli.error(3, "extend-classes", run, wrong)
    answer = tlcli.json("extend-classes", run, wrong, "--max-bad", "20%")
    assert answer["images"]["used"] == 8
    assert "apple.png" in answer["images"]["skipped"][0]["path"]


def test_predict_answers_a_line_an_image_and_a_line_an_error(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    good = pictures / "test" / "sky"
    answer = tlcli("predict", run, good, broken, tmp_path / "missing.png", "--json")
    lines = [json.loads(line) for line in answer.splitlines()]
    assert [line.get("label") for line in lines] == ["sky"] * 4 + [None] * 2
    assert set(lines[0]) == {"path", "label", "probability", "top"}
    assert [entry["probability"] for entry in lines[0]["top"]] == sorted(
        (entry["probability"] for entry in lines[0]["top"]), reverse=True
    )
    assert set(lines[-1]) == {"path", "error"}
    assert tlcli("predict", run, good).splitlines()[0].startswith("sky\t")
    tlcli("predict", run, broken, code=3)


def test_model_keras_is_an_ordinary_keras_model(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    """Plain Keras in a process that never imports tlcli gives the same labels from raw images."""
    tlcli("extend-classes", run, pictures / "second")
    batch = batch_of(pictures / "test")
    expected = list(labels_of(tlcli, run, pictures / "test").values())
    np.save(run.parent / "batch.npy", batch)
    script = (
        "import sys, json, zipfile, numpy, keras\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "names = json.loads(zipfile.ZipFile(sys.argv[1]).read('metadata.json'))['classes']\n"
        "batch = numpy.load(sys.argv[2])\n"
        "for pixels in (batch, batch.astype('float32')):\n"
        "    columns = model.predict(pixels, verbose=0).argmax(axis=1)\n"
        "    print(json.dumps([names[column] for column in columns]))\n"
        "assert not any(name.startswith('tlcli') for name in sys.modules)"
    )
    model = run / "rounds" / "0002" / "model.keras"
    command = [sys.executable, "-c", script, str(model), str(run.parent / "batch.npy")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=run.parent)
    first, second = map(json.loads, done.stdout.splitlines())
    assert first == second == expected


def test_rounds_list_show_and_verify(tlcli: CommandLine, run: Path, pictures: Path) -> None:
    tlcli("extend-classes", run, pictures / "second")
    listed = tlcli.json("rounds", "list", run)["rounds"]
    assert [entry["round"] for entry in listed] == [1, 2]
    assert "extend-classes" in tlcli("rounds", "list", run)
    assert "memory_sha256" in tlcli("rounds", "show", run, "--round", 1)
    assert "intact" in tlcli("rounds", "verify", run)
    head = run / "rounds" / "0001" / "head.h5"
    head.write_bytes(head.read_bytes()[:-1])
    assert tlcli.json("rounds", "verify", run, code=5)["intact"] is False
    assert str(head) in tlcli.err
    assert "0001" in tlcli.error(5, "evaluate", run, pictures / "test", "--ignore-unknown")


def test_moments_are_the_only_trace_of_old_images_in_the_run(run: Path) -> None:
    with h5py.File(run / "rounds" / "0001" / "memory.h5") as file:
        ledger = {"ledger_names", "ledger_hashes", "ledger_classes"}
        assert set(file) == {"classes", "counts", "sums", "gram"} | ledger


def test_a_round_without_model_keras_and_its_export(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    tlcli("extend-classes", run, pictures / "second")
    tlcli("extend-classes", other, pictures / "second", "--no-keras-model")
    assert not (other / "rounds" / "0002" / "model.keras").exists()
    tlcli("rounds", "verify", other)
    assert labels_of(tlcli, other, pictures / "test") == labels_of(tlcli, run, pictures / "test")
    exported = tlcli.json("export", other, "--out", tmp_path / "model.keras")
    written = (tmp_path / "model.keras").read_bytes()
    assert written == (run / "rounds" / "0002" / "model.keras").read_bytes()
    assert exported["sha256"] == hashlib.sha256(written).hexdigest()
    assert exported["classes"] == ["apple", "leaf", "sky", "sun"]


def without_openvino(version: Callable[[str], str]) -> Callable[[str], str]:
    def answer(name: str) -> str:
        return version("no-such-library" if name == "openvino" else name)

    return answer


def test_keras_takes_over_where_openvino_fails_and_it_is_said_once(
    tlcli: CommandLine, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.draw(tmp_path / "data", ["sun", "plum"], seed=31)
    test = tiny.draw(tmp_path / "test", ["sun", "plum"], count=2, seed=32)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "openvino", None)
        patch.setattr(importlib.metadata, "version", without_openvino(importlib.metadata.version))
        tlcli("extend-classes", run, data, "--test", test)
        slower, mixed = tlcli.err.splitlines()
        assert "runs with Keras" in slower
        assert "2 kinds of arithmetic" in mixed
        more = tiny.draw(tmp_path / "more", ["sun"], count=2, seed=33)
        error = tlcli.error(2, "extend-classes", run, more, "--engine", "openvino")
        assert "--engine" in error
    found = tlcli.json("evaluate", run, test)
    assert found["images"] == 4
    assert tlcli.err == ""


def test_both_engines_give_the_same_answers(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    test = tiny.draw(tmp_path / "test", ["apple", "sky", "leaf"], count=5, seed=34)
    answers = [
        [json.loads(line) for line in tlcli("predict", run, test, "--json", *options).splitlines()]
        for options in (["--engine", "keras"], ["--engine", "openvino"])
    ]
    for keras, openvino in zip(*answers, strict=True):
        assert keras["label"] == openvino["label"]
        assert keras["probability"] == pytest.approx(openvino["probability"], abs=1e-3)
