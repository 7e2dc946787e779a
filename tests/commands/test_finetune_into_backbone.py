"""finetune --objective of a metric --into-backbone: heads on a learned projection."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import backbones, memory, runs
from tlcli.commands.finetune import finetune
from tlcli.config import FinetuneConfig, Progress, RunsOn, TrainingOptions
from tlcli.extractor import Extractor
from tlcli.images import Square
from tlcli.images.decoding import decode

NAMES = list(tiny.COLOURS)
TRAINING = ("--objective", "softmax-margin", "--epochs", "2")
INTO = (*TRAINING, "--into-backbone")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of five classes, and of two others."""
    folder = tmp_path_factory.mktemp("into")
    tiny.draw(folder / "data", NAMES, count=8, contrast=0.1)
    tiny.draw(folder / "others", NAMES[:2], count=6, seed=1, contrast=0.2)
    for name in NAMES[:2]:
        (folder / "others" / name).rename(folder / "others" / f"other {name}")
    return folder


@pytest.fixture(scope="module")
def plain(places: Path, tiny_backbone: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one round; to be copied before it is changed."""
    from tlcli.cli import app

    run = tmp_path_factory.mktemp("plain") / "run"
    assert app.run(["pretrain", str(places / "data"), "--out", str(run)]) == 0
    return run


@pytest.fixture(scope="module")
def trained(places: Path, plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, with a second round whose backbone ends in a projection."""
    from tlcli.cli import app

    run = Path(shutil.copytree(plain, tmp_path_factory.mktemp("trained") / "run"))
    assert app.run(["finetune", str(run), str(places / "data"), *INTO]) == 0
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def current(run: Path) -> runs.Round:
    return runs.open_run(run).round()


def sha256_of(tlcli: CommandLine, run: Path) -> str:
    return str(tlcli.json("rounds", "show", run)["memory_sha256"])


def test_features_have_length_one(places: Path, run: Path) -> None:
    opened = runs.open_run(run)
    photo = next((places / "others" / "other sky").iterdir())
    lengths = []
    for number in (1, 2):
        extractor = Extractor.of_round(opened, opened.round(number), RunsOn())
        pixels = decode(photo, extractor.square)
        vector = extractor.features_of_pixels(pixels[None])[:][0]
        lengths.append(float(np.linalg.norm(vector)))
    assert lengths[1] == pytest.approx(1, abs=1e-5)
    assert lengths[0] != pytest.approx(1, abs=0.05)


def test_the_round_says_what_became_of_the_head(tlcli: CommandLine, run: Path) -> None:
    first, second = (tlcli.json("rounds", "show", run, "--round", n) for n in (1, 2))
    assert second["exact"]
    assert second["learned_projection"] is None
    for name in ("backbone_fingerprint", "memory_sha256"):
        assert first[name] != second[name]
    training = second["training"]
    assert 0 <= training["head_accuracy_before"] <= 1
    assert training["head_accuracy"] == second["validation"]["accuracy"]
    assert second["validation"]["method"] == "holdout"
    assert [row["descriptor"] for row in training["descriptors"]] == [
        *("plain", "whitened", "learned")
    ]
    assert "head_accuracy_before" in tlcli("rounds", "show", run)


def test_images_that_test_the_head_have_not_trained_the_projection(
    tlcli: CommandLine, run: Path
) -> None:
    content = tlcli.json("rounds", "show", run)
    training, tested = content["training"], content["validation"]["images"]
    assert tested > 0
    assert training["learned_images"] + training["held_out_images"] + tested == 40


def test_later_rounds_equal_joint_training(
    tlcli: CommandLine, run: Path, places: Path, tmp_path: Path
) -> None:
    """Joint: on the same backbone, from all images at once; and without those that are removed."""
    every = Path(shutil.copytree(places / "data", tmp_path / "every"))
    shutil.copytree(places / "others", every, dirs_exist_ok=True)
    joint, rest = tmp_path / "joint", tmp_path / "rest"
    tlcli("pretrain", every, "--out", joint, "--weights", run)
    tlcli("pretrain", places / "others", "--out", rest, "--weights", run)
    merged = tlcli.json("merge", run, rest, "--out", tmp_path / "both")
    assert merged["memory_sha256"] == sha256_of(tlcli, joint)
    before = sha256_of(tlcli, run)
    extended = tlcli.json("extend-classes", run, places / "others")
    assert extended["memory_sha256"] == sha256_of(tlcli, joint)
    assert extended["exact"]
    assert extended["backbone_fingerprint"] == current(joint).manifest.backbone_fingerprint
    left = tlcli.json("remove-classes", run, "other apple", "other sky")
    assert left["memory_sha256"] == before
    assert "the backbone cannot" in tlcli.err


def test_runs_with_and_without_it_are_not_merged(
    tlcli: CommandLine, plain: Path, run: Path, tmp_path: Path
) -> None:
    assert "backbone" in tlcli.error(5, "merge", run, plain, "--out", tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_answers_are_the_same_in_an_exported_file(
    tlcli: CommandLine, run: Path, places: Path, tmp_path: Path
) -> None:
    import keras

    photo = next((places / "data" / "plum").iterdir())
    said = json.loads(tlcli("predict", run, photo, "--json"))
    pixels = decode(photo, Square.of(tiny.IMAGE_SIZE, {}))[None]
    for path in (run / "rounds" / "0002" / "model.keras", tmp_path / "model.keras"):
        if not path.exists():
            tlcli("export", run, "--format", "keras", "--out", path)
        found = np.asarray(keras.saving.load_model(path)(pixels))[0]
        assert float(found.max()) == pytest.approx(said["probability"], abs=1e-4)
        assert current(run).classes[int(found.argmax())] == said["label"]


def test_the_index_describes_by_it(tlcli: CommandLine, run: Path, places: Path) -> None:
    tlcli("index", "add", run, places / "others", "--descriptor", "plain")
    assert tlcli.json("index", "stats", run)["width"] == 16
    photo = next((places / "others" / "other sky").iterdir())
    assert json.loads(tlcli("predict", run, photo, "--by", "neighbours", "--json"))["label"] == (
        "other sky"
    )
    answer = tlcli.json("evaluate", run, places / "others", "--retrieval")
    assert [row["descriptor"] for row in answer["descriptors"]] == ["plain", "whitened"]


def test_the_same_command_again_does_nothing(tlcli: CommandLine, run: Path, places: Path) -> None:
    assert not tlcli.json("finetune", run, places / "data", *INTO)["changed"]
    assert current(run).number == 2


@pytest.mark.slow
@pytest.mark.slow
def test_the_backbone_can_be_trained_with_it(tlcli: CommandLine, run: Path, places: Path) -> None:
    before = current(run).manifest.backbone_fingerprint
    options = ("--epochs", "1", "--unfreeze", "1", "--lr", "1e-6")
    assert tlcli.json("finetune", run, places / "data", *options)["exact"]
    assert current(run).manifest.backbone_fingerprint != before


@pytest.mark.slow
def test_new_images_are_learned_too(
    tlcli: CommandLine, plain: Path, places: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(plain, tmp_path / "run"))
    more = Path(shutil.copytree(places / "data", tmp_path / "more"))
    shutil.copy(next((places / "others" / "other sky").iterdir()), more / "sky" / "new.png")
    assert tlcli.json("finetune", run, more, *INTO)["images"]["used"] == 41
    assert len(memory.load(current(run)).ledger) == 41


def test_a_projection_beside_the_backbone_stays_behind(
    tlcli: CommandLine, plain: Path, places: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(plain, tmp_path / "run"))
    tlcli("finetune", run, places / "data", *TRAINING)
    text = tlcli("finetune", run, places / "data", *INTO)
    assert "accuracy of the head on held-out images" in text
    assert "learned against whitened" in text
    assert "learned projection stays behind" in tlcli.err
    assert current(run).manifest.learned_projection is None
    descriptors = tlcli.json("rounds", "show", run)["training"]["descriptors"]
    assert [row["descriptor"] for row in descriptors] == ["plain", "whitened", "learned"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [("--projection", "8"), ("--memory", "none"), ("--head", "softmax")]
)
def test_runs_of_every_kind_can_be_given_one(
    tlcli: CommandLine, places: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    first = tlcli.json("pretrain", places / "data", "--out", run, *options)
    second = tlcli.json("finetune", run, places / "data", *INTO)
    assert second["changed"]
    assert (second["head"], second["memory"]) == (first["head"], first["memory"])
    assert bool(current(run).manifest.projection) == ("--projection" in options)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--into-backbone",), "softmax-margin"),
        ((*TRAINING, "--unfreeze", "3"), "unfreeze='3'"),
        ((*INTO, "--unfreeze", "9"), "unfreeze='9'"),
        ((*INTO, "--unfreeze", "1", "--train-batch-norm"), "--train-batch-norm"),
        ((*INTO, "--unfreeze", "1", "--label-smoothing", "0.2"), "--label-smoothing"),
        ((*INTO, "--augment", "strong"), "--augment"),
        ((*TRAINING, "--test", "photos"), "--test"),
    ],
)
def test_words_that_do_not_fit_are_refused(
    tlcli: CommandLine, run: Path, places: Path, options: tuple[str, ...], expected: str
) -> None:
    assert expected in tlcli.error(2, "finetune", run, places / "data", *options)
    assert current(run).number == 2


def test_images_that_are_gone_are_asked_for(
    tlcli: CommandLine, plain: Path, places: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(plain, tmp_path / "run"))
    few = Path(shutil.copytree(places / "data", tmp_path / "few"))
    next((few / "plum").iterdir()).unlink()
    error = tlcli.error(3, "finetune", run, few, *INTO)
    assert "1 are missing, of 'plum'" in error
    assert "--into-backbone" in error
    assert current(run).number == 1
    assert tlcli.json("finetune", run, few, *INTO, "--old-data", places / "data")["exact"]


def weights(run: Path, number: int) -> dict[str, list[np.ndarray]]:
    """Of the layers of a round's backbone."""
    opened = runs.open_run(run)
    fingerprint = opened.round(number).manifest.backbone_fingerprint
    model = backbones.load_model(backbones.load_stored(opened.backbone_folder(fingerprint)))
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


LAYERS = (*INTO, "--unfreeze", "1", "--augment", "light")


@pytest.fixture(scope="module")
def with_layers(places: Path, plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose last block learned with the projection."""
    from tlcli.cli import app

    run = Path(shutil.copytree(plain, tmp_path_factory.mktemp("layers") / "run"))
    assert app.run(["finetune", str(run), str(places / "data"), *LAYERS]) == 0
    return run


@pytest.mark.slow
def test_the_top_of_the_backbone_learns_with_it(tlcli: CommandLine, with_layers: Path) -> None:
    before, after = weights(with_layers, 1), weights(with_layers, 2)
    moved = {
        name
        for name, arrays in before.items()
        if any((one != other).any() for one, other in zip(arrays, after[name], strict=True))
    }
    assert moved == {"block3a_conv"}, "neither frozen layers nor BatchNormalization"
    assert after.keys() - before.keys() == {"metric_1"}
    content = tlcli.json("rounds", "show", with_layers)
    assert content["exact"]
    assert content["validation"]["method"] == "holdout"
    assert [row["descriptor"] for row in content["training"]["descriptors"]] == [
        *("plain", "whitened", "learned")
    ]


@pytest.mark.slow
def test_a_training_of_layers_that_was_interrupted_goes_on(
    tlcli: CommandLine, plain: Path, with_layers: Path, places: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(plain, tmp_path / "run"))
    training = TrainingOptions(epochs=2, augment="light")
    data = str(places / "data")
    config = FinetuneConfig(run, data, "softmax-margin", True, "1", training=training)
    with pytest.raises(KeyboardInterrupt):
        finetune(config, interrupting(2))
    assert current(run).number == 1
    tlcli("finetune", run, data, *LAYERS, "--resume")
    wanted, found = current(with_layers).manifest, current(run).manifest
    assert found.backbone_fingerprint == wanted.backbone_fingerprint
    assert found.memory_sha256 == wanted.memory_sha256


def interrupting(epoch: int) -> Progress:
    """Sends a signal within an epoch."""

    def progress(phase: str, done: int, total: int) -> None:
        if phase.startswith(f"epoch {epoch}/") and done:
            signal.raise_signal(signal.SIGINT)

    return progress


@pytest.mark.slow
def test_an_interrupted_training_goes_on(
    tlcli: CommandLine, plain: Path, trained: Path, places: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(plain, tmp_path / "run"))
    training = TrainingOptions(epochs=2)
    config = FinetuneConfig(run, str(places / "data"), "softmax-margin", True, training=training)
    with pytest.raises(KeyboardInterrupt):
        finetune(config, interrupting(2))
    assert current(run).number == 1
    assert (run / "training").is_dir()
    error = tlcli.error(2, "finetune", run, places / "data", *TRAINING, "--resume")
    assert "into-backbone" in error
    tlcli("finetune", run, places / "data", *INTO, "--resume")
    wanted = current(trained).manifest
    found = current(run).manifest
    assert found.backbone_fingerprint == wanted.backbone_fingerprint
    assert found.memory_sha256 == wanted.memory_sha256
    assert not (run / "training").exists()
