"""The main job on real photographs with real weights: what the docs say it shows."""

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import independent
from tlcli import backbones, evaluation, heads, images, memory, runs, strategies
from tlcli.config import RunsOn, no_progress
from tlcli.extractor import Extractor
from tlcli.heads import Evidence, Recipe
from tlcli.images import ImageFile

HERE = Path(__file__).parents[2]
SHARED = HERE.parent / "shared"
CALTECH = SHARED / "data" / "caltech51"
MOBILENET = SHARED / "weights" / "mobilenet_v2_imagenet_no_top.weights.h5"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CALTECH.is_dir(), reason="the photographs are not beside the checkout"),
]


def call(*arguments: object) -> str:
    """Run the installed command line in a process of its own; its standard output."""
    command = [sys.executable, "-m", "tlcli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def tlcli(*arguments: object) -> Any:
    """The one JSON object that a command prints."""
    return json.loads(call(*arguments, "--json"))


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 classes, then 10, then 1: 25 images a class to learn, 15 others to test."""
    folder = tmp_path_factory.mktemp("splits")
    script = HERE / "scripts" / "bench" / "split.py"
    subprocess.run([sys.executable, script, CALTECH, folder], check=True)
    return folder


FINETUNE = ["--unfreeze", "all", "--epochs", "1"]
BACKBONES = {
    "EfficientNetLite0": ([], 0.95),
    "MobileNetV2": (["--backbone", "MobileNetV2", "--weights", MOBILENET], 0.935),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_three_rounds_without_old_images_equal_joint_training(
    splits: Path, tmp_path: Path, name: str
) -> None:
    options, limit = BACKBONES[name]
    rounds, joint = tmp_path / "rounds", tmp_path / "joint"
    tlcli("pretrain", splits / "round1.csv", "--out", rounds, *options)
    tlcli("extend-classes", rounds, splits / "round2.csv")
    last = tlcli("extend-classes", rounds, splits / "round3.csv")
    at_once = tlcli("pretrain", splits / "joint.csv", "--out", joint, *options)
    assert last["memory_sha256"] == at_once["memory_sha256"]
    assert last["exact"] is True
    report = tlcli("evaluate", rounds, splits / "test.csv", "--all-rounds")
    assert report["mean_class_accuracy"] >= limit
    tested = images.scan(splits / "test.csv").images
    independent.assert_agrees(report, call, {str(image.path): image.label for image in tested})
    assert [entry["class"] for entry in report["per_class"]][-1] == "yin_yang"
    assert len(report["per_class"]) == 51
    assert report["accuracy"] == tlcli("evaluate", joint, splits / "test.csv")["accuracy"]
    state = memory.load(runs.open_run(rounds).round())
    assert state.moments is not None
    assert state.moments.saturated == 0
    assert report["log_loss"] < 0.25
    assert report["ece"] < 0.03
    joint_loss = tlcli("evaluate", joint, splits / "test.csv")["log_loss"]
    assert report["log_loss"] == pytest.approx(joint_loss, rel=0.1)


def test_removed_classes_and_moments_of_two_processes(splits: Path, tmp_path: Path) -> None:
    run, joint = tmp_path / "run", tmp_path / "joint"
    first = tlcli("pretrain", splits / "round1.csv", "--out", run, "--no-keras-model")
    whole = tlcli("pretrain", splits / "joint.csv", "--out", joint, "--no-keras-model")
    parts = [tmp_path / "1.h5", tmp_path / "2.h5"]
    for number, part in enumerate(parts, 1):
        tlcli("moments", run, splits / "joint.csv", "--shard", f"{number}/2", "--out", part)
    grown = tlcli("extend-classes", run, "--moments", parts[0], "--moments", parts[1])
    assert grown["memory_sha256"] == whole["memory_sha256"]
    assert grown["images"]["already_learned"] == 1000
    names = [name for name in whole["classes"] if name not in first["classes"]]
    left = tlcli("remove-classes", joint, *names)
    assert left["memory_sha256"] == first["memory_sha256"]


def test_the_head_is_chosen_and_old_classes_are_held_by_a_gate(
    splits: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("--memory", "features", "--no-keras-model")
    tlcli("pretrain", splits / "round2.csv", "--out", run, "--head", "auto", *options)
    answer = tlcli("extend-classes", run, splits / "round3.csv", "--max-regression", "0.05")
    assert answer["validation"]["old_accuracy"] >= 0.9
    assert answer["exact"] is True


def test_freeze_old_on_real_features(splits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tlcli("pretrain", splits / "round1.csv", "--out", run)
    tlcli("extend-classes", run, splits / "round2.csv", "--strategy", "freeze-old")
    before, after = (heads.load(runs.open_run(run).round(n).file("head.h5")) for n in (1, 2))
    vectors = np.random.default_rng(0).gamma(1, 1, (500, 1280)).astype(np.float32)
    np.testing.assert_array_equal(after.logits(vectors)[:, :40], before.logits(vectors))
    report = tlcli("evaluate", run, splits / "test.csv", "--ignore-unknown")
    assert report["new_accuracy"] >= 0.8
    assert report["old_accuracy"] >= 0.6


def test_the_last_round_in_plain_keras_gives_the_same_labels(splits: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tlcli("pretrain", splits / "round2.csv", "--out", run)
    listing = images.scan(splits / "test.csv")
    known = [image for image in listing.images if image.label in runs.open_run(run).round().classes]
    pixels = np.stack([images.decode(image.path, images.Square(224)) for image in known])
    np.save(tmp_path / "pixels.npy", pixels)
    script = (
        "import sys, json, zipfile, numpy, keras\n"
        "model = keras.saving.load_model(sys.argv[1])\n"
        "names = json.loads(zipfile.ZipFile(sys.argv[1]).read('metadata.json'))['classes']\n"
        "answer = model.predict(numpy.load(sys.argv[2]), verbose=0)\n"
        "numpy.save(sys.argv[3], answer)\n"
        "print(json.dumps(names))\n"
        "assert not any(name.startswith('tlcli') for name in sys.modules)"
    )
    model = run / "rounds" / "0001" / "model.keras"
    paths = [str(model), str(tmp_path / "pixels.npy"), str(tmp_path / "answer.npy")]
    command = [sys.executable, "-c", script, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    names = json.loads(done.stdout)
    answer = np.load(tmp_path / "answer.npy")
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "tlcli",
            "predict",
            str(run),
            *(str(image.path) for image in known),
            "--json",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    ours = [json.loads(line) for line in process.stdout.splitlines()]
    assert [line["label"] for line in ours] == [names[column] for column in answer.argmax(axis=1)]
    np.testing.assert_allclose(
        [line["probability"] for line in ours], answer.max(axis=1), atol=1e-4
    )


def test_finetune_raises_the_validation_accuracy_and_leaves_batch_normalization(
    tmp_path: Path,
) -> None:
    """On small blurred flowers, far from what the backbone was trained on."""
    run, flowers = tmp_path / "run", tmp_path / "flowers"
    for path in sorted((SHARED / "data" / "flowers128").glob("*/*"))[::2]:
        (flowers / path.parent.name).mkdir(parents=True, exist_ok=True)
        (flowers / path.parent.name / path.name).symlink_to(path)
    tlcli("pretrain", flowers, "--out", run, "--image-size", "128")
    answer = tlcli("finetune", run, flowers, *FINETUNE)
    validation = answer["validation"]
    assert validation["accuracy"] > head_only_accuracy(run, flowers)
    first, second = (statistics(run, number) for number in (1, 2))
    assert len(first) == 98
    for before, after in zip(first, second, strict=True):
        np.testing.assert_array_equal(before, after)


def head_only_accuracy(run: Path, data: Path) -> float:
    """Of the head of round 1, on the images that fine-tuning holds out too."""
    opened = runs.open_run(run)
    extractor = Extractor.of_round(opened, opened.round(1), RunsOn())
    examples = extractor.features(images.scan(data).images, no_progress).examples
    evidence = Evidence(extractor.moments(examples), examples, extractor.no_examples())
    fit = strategies.first(Recipe())
    answers = evaluation.hold_out(fit, evidence, opened.round(1).classes, False)
    figures = answers.validation(())
    assert figures.accuracy is not None
    return figures.accuracy


def statistics(run: Path, number: int) -> list[np.ndarray]:
    """Moving means and variances of every BatchNormalization layer of a round's backbone."""
    opened = runs.open_run(run)
    folder = opened.backbone_folder(opened.round(number).manifest.backbone_fingerprint)
    model = backbones.load_model(backbones.load_stored(folder))
    return [
        weight.numpy()
        for weight in model.weights
        if weight.name in ("moving_mean", "moving_variance")
    ]


@pytest.mark.parametrize("name", BACKBONES)
def test_openvino_agrees_with_keras_on_photographs(tmp_path: Path, name: str) -> None:
    """Differences are in units of the features' spread over the photographs."""
    photos = [
        ImageFile(path, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(CALTECH.glob("*/image_0001.jpg"))
    ]
    weights = backbones.weights_of(str(MOBILENET) if name == "MobileNetV2" else "imagenet")
    stored = backbones.store(backbones.build(name, None, weights), name, "", tmp_path / name)
    keras, openvino = (
        Extractor.of(stored, RunsOn(engine), None).features(photos, no_progress).vectors[:]
        for engine in ("keras", "openvino")
    )
    spread = np.sqrt(keras.var(axis=0).mean())
    assert np.abs(openvino - keras).max() <= 1e-4 * spread


def test_a_long_extraction_is_saved_on_the_way(
    splits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the first segment, begun again: what was saved is not computed again."""
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "cache"))
    code = (
        "from tlcli.features import feature_cache; feature_cache.SEGMENT_SECONDS = 2.0\n"
        "from tlcli.cli import main; main()"
    )
    run = tmp_path / "run"
    arguments = ["pretrain", str(splits / "joint.csv"), "--out", str(run)]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    while not list((tmp_path / "cache").glob("features/*/*.h5")):
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    answer = tlcli(*arguments)
    assert 0 < answer["images"]["from_cache"] < answer["images"]["used"] == 1275
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "other"))
    assert (
        answer["memory_sha256"]
        == tlcli("pretrain", splits / "joint.csv", "--out", tmp_path / "again")["memory_sha256"]
    )
