"""`--layers` and `--views`: in every command, round and file of a run."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.conftest import CommandLine
from tests.support import runtimes, tiny
from tlcli import backbones, evaluation, runs
from tlcli.backbones import LAYERS, USUAL, Reading
from tlcli.formats import FORMATS

# Keras 3.15 copies TensorFlow's variables in a way that NumPy 2 remarks on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

WIDEST = Reading("blocks+rms", 2)
OPTIONS = ("--layers", WIDEST.layers, "--views", WIDEST.views)
WIDTH = 16 + 12 + 12
TRAINED = ("--epochs", "1", "--batch-size", "4")


def stored_of(run: Path) -> backbones.StoredBackbone:
    """The backbone of the current round."""
    opened = runs.open_run(run)
    fingerprint = opened.round().manifest.backbone_fingerprint
    return backbones.load_stored(opened.backbone_folder(fingerprint))


@pytest.fixture(scope="module")
def wide_run(tiny_backbone: None, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run after round 1, to be copied before it is changed."""
    from tlcli.cli import app

    run = tmp_path_factory.mktemp("wide") / "run"
    command = ["pretrain", str(pictures / "first"), "--out", str(run), *map(str, OPTIONS)]
    assert app.run(command) == 0
    return run


@pytest.fixture
def wide(wide_run: Path, tmp_path: Path) -> Path:
    """A run with more layers and both views, which the test may change."""
    return Path(shutil.copytree(wide_run, tmp_path / "wide"))


def test_rounds_are_exact_and_are_undone(
    tlcli: CommandLine, wide: Path, pictures: Path, tmp_path: Path
) -> None:
    """A class that comes and goes: the moments of all at once, and those of before."""
    before = tlcli.json("rounds", "show", wide)
    added = tlcli.json("extend-classes", wide, pictures / "second")
    assert stored_of(wide).reading == WIDEST and stored_of(wide).width == WIDTH
    whole = tmp_path / "whole"
    both = tmp_path / "both"
    for part in ("first", "second"):
        shutil.copytree(pictures / part, both, dirs_exist_ok=True)
    at_once = tlcli.json("pretrain", both, "--out", whole, *OPTIONS)
    assert added["exact"] and added["memory_sha256"] == at_once["memory_sha256"]
    (gone,) = (path.name for path in (pictures / "second").iterdir())
    removed = tlcli.json("remove-classes", wide, gone)
    assert removed["memory_sha256"] == before["memory_sha256"]


def test_the_mirror_image_is_answered_alike(
    tlcli: CommandLine, wide: Path, pictures: Path, tmp_path: Path
) -> None:
    """Of squares: those of other shapes are not drawn symmetrically to the last bit."""
    answers = []
    for mirrored in (False, True):
        folder = tmp_path / str(mirrored)
        folder.mkdir()
        for number, path in enumerate(sorted((pictures / "test").glob("*/*.png"))):
            image = Image.open(path).convert("RGB").resize((tiny.IMAGE_SIZE, tiny.IMAGE_SIZE))
            (ImageOps.mirror(image) if mirrored else image).save(folder / f"{number:03d}.png")
        lines = tlcli("predict", wide, folder, "--json", "--top", 3).splitlines()
        answers.append([[top["probability"] for top in json.loads(line)["top"]] for line in lines])
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-4)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_takes_the_raw_image(
    tlcli: CommandLine, wide: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / f"model{FORMATS[name].suffix}"
    answer = tlcli.json("export", wide, "--format", name, "--out", out)
    assert 0 <= answer["check"]["deviation"] < 1e-3
    if name == "openvino":  # a second openvino.Core in this process can crash it
        return
    images = backbones.probe_images(tiny.IMAGE_SIZE, 4).astype(np.float32)
    received, _ = runtimes.RUNTIMES[name](out, images)
    again, _ = runtimes.RUNTIMES[name](out, np.ascontiguousarray(images[:, :, ::-1]))
    np.testing.assert_allclose(received, again, atol=1e-3)


def test_features_of_other_layers_are_not_mixed(
    tlcli: CommandLine, wide: Path, pictures: Path, tmp_path: Path
) -> None:
    plain, table = tmp_path / "plain", tmp_path / "moments.h5"
    tlcli("pretrain", pictures / "first", "--out", plain)
    assert "--layers" in tlcli.error(5, "merge", wide, plain, "--out", tmp_path / "both")
    tlcli("moments", plain, pictures / "second", "--out", table)
    assert "--layers" in tlcli.error(5, "extend-classes", wide, "--moments", table)


def test_the_backbone_of_another_run_brings_its_reading(
    tlcli: CommandLine, wide: Path, pictures: Path, tmp_path: Path
) -> None:
    command = ("pretrain", pictures / "first", "--out", tmp_path / "again", "--weights", wide)
    for option, value in (("layers", USUAL.layers), ("views", USUAL.views)):
        error = tlcli.error(2, *command, f"--{option}", value)
        assert f"{option}={value}" in error and str(getattr(WIDEST, option)) in error
    tlcli(*command)
    assert stored_of(tmp_path / "again").fingerprint == stored_of(wide).fingerprint


def test_fine_tuning_keeps_the_reading(tlcli: CommandLine, wide: Path, tmp_path: Path) -> None:
    before = stored_of(wide).fingerprint
    more = tiny.draw(tmp_path / "more", list(tiny.COLOURS)[:3], seed=7)
    answer = tlcli.json("finetune", wide, more, "--unfreeze", 1, *TRAINED)
    after = stored_of(wide)
    assert answer["round"] == 2 and after.fingerprint != before
    assert (after.reading, after.width) == (WIDEST, WIDTH)


def test_a_network_is_trained_with_its_reading(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("--weights", "none", *TRAINED, *OPTIONS)
    tlcli("pretrain", pictures / "first", "--out", run, *options)
    assert stored_of(run).reading == WIDEST


def test_as_usual_is_what_no_option_gives(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    usual = ("--layers", USUAL.layers, "--views", USUAL.views)
    plain = tlcli.json("pretrain", pictures / "first", "--out", tmp_path / "plain")
    named = tlcli.json("pretrain", pictures / "first", "--out", tmp_path / "named", *usual)
    for key in ("memory_sha256", "backbone_fingerprint"):
        assert plain[key] == named[key]
    config = json.loads((tmp_path / "plain" / "rounds" / "0001" / "round.json").read_bytes())
    assert "reading" not in config["config"]


def test_the_same_command_again_does_nothing(
    tlcli: CommandLine, wide: Path, pictures: Path
) -> None:
    command = ("pretrain", pictures / "first", "--out", wide)
    assert tlcli.json(*command, *OPTIONS)["round"] == 1
    assert "other images or options" in tlcli.error(2, *command)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--layers", "block"), "blocks"),
        (("--layers", "all"), ", ".join(LAYERS)),
        (("--views", "3"), "--views"),
        (("--views", "0"), "--views"),
    ],
)
def test_what_there_is_not_is_refused(
    tlcli: CommandLine, tmp_path: Path, options: tuple[str, str], said: str
) -> None:
    tlcli("pretrain", tmp_path / "none", "--out", tmp_path / "run", *options, code=2)
    assert said in tlcli.err
    assert not (tmp_path / "run").exists()


def test_the_best_layers_are_chosen_in_cross_validation(
    tlcli: CommandLine, tiny_backbone: None, tmp_path: Path
) -> None:
    """The run is the one of that name, bit for bit, and the command a second time does nothing."""
    hard = tiny.draw(tmp_path / "hard", ("apple", "leaf", "plum"), 20, contrast=0.02)
    command = ("pretrain", hard, "--out", tmp_path / "auto", "--layers", "auto")
    answer = tlcli.json(*command, "--views", 2)
    tried = {entry["layers"]: entry for entry in answer["layers_choice"]}
    assert set(tried) == set(LAYERS)
    figures = {name: entry["mean_class_accuracy"] for name, entry in tried.items()}
    chosen = stored_of(tmp_path / "auto").reading
    assert len(set(figures.values())) > 1
    assert figures[chosen.layers] == max(figures.values())
    assert answer["layers_choice"][0]["layers"] == chosen.layers
    assert chosen.views == 2
    assert [tried[name]["width"] for name in LAYERS] == sorted(
        entry["width"] for entry in tried.values()
    )
    named = ("--layers", chosen.layers, "--views", 2)
    again = tlcli.json("pretrain", hard, "--out", tmp_path / "named", *named)
    assert answer["memory_sha256"] == again["memory_sha256"]
    assert again["layers_choice"] == []
    assert not tlcli.json(*command, "--views", 2)["changed"]


def test_the_layers_that_are_chosen_are_shown(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    options = ("--layers", "auto", "--head", "auto")
    text = tlcli("pretrain", pictures / "first", "--out", tmp_path / "run", *options)
    assert "layers in cross-validation, the best first:" in text
    assert "blocks+rms" in text and "heads in cross-validation" in text


def test_layers_are_chosen_on_some_images_of_each_class(
    tlcli: CommandLine, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the head is solved from all of them."""
    seen = []
    measured = evaluation.accuracies

    def counted(answers: evaluation.HeldOutPredictions) -> tuple[float, float]:
        seen.append(Counter(answers.true))
        return measured(answers)

    monkeypatch.setattr(evaluation, "accuracies", counted)
    monkeypatch.setattr("tlcli.rounds.layers.MOST_IMAGES", 9)
    run = tmp_path / "run"
    answer = tlcli.json("pretrain", pictures / "first", "--out", run, "--layers", "auto")
    assert len(seen) == len(LAYERS) and all(len(set(one.values())) == 1 for one in seen)
    classes = len(answer["classes"])
    assert seen[0].total() == 9 // classes * classes < answer["images"]["used"]
    assert answer["validation"]["images"] == answer["images"]["used"]


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        (("--weights", "none"), 2, "a network that is trained already"),
        (("--objective", "simclr"), 2, "a network that is trained already"),
        (("--layers", "all"), 2, "layers='all'"),
    ],
)
def test_layers_that_cannot_be_chosen(
    tlcli: CommandLine,
    pictures: Path,
    tmp_path: Path,
    options: tuple[str, ...],
    code: int,
    named: str,
) -> None:
    command = ("pretrain", pictures / "first", "--out", tmp_path / "run", "--layers", "auto")
    assert named in tlcli.error(code, *command, *options)
    assert not (tmp_path / "run").exists()


def test_layers_of_one_image_a_class_cannot_be_chosen(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    for folder in sorted((pictures / "first").iterdir()):
        target = tmp_path / "single" / folder.name
        target.mkdir(parents=True)
        shutil.copy(sorted(folder.iterdir())[0], target)
    error = tlcli.error(
        3, "pretrain", tmp_path / "single", "--out", tmp_path / "run", "--layers", "auto"
    )
    assert "at least two images of a class with --layers auto" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("choice", ["--layers", "--head"])
def test_nothing_can_be_chosen_on_images_of_one_group(
    tlcli: CommandLine, pictures: Path, tmp_path: Path, choice: str
) -> None:
    images = sorted((pictures / "first").glob("*/*.png"))
    rows = [f"{path},{path.parent.name},one\n" for path in images]
    (tmp_path / "list.csv").write_text("".join(["path,label,group\n", *rows]))
    options = ("--out", tmp_path / "run", choice, "auto")
    error = tlcli.error(3, "pretrain", tmp_path / "list.csv", *options)
    assert "in two groups where they are grouped. Received: none that can be held out" in error


def test_the_layers_of_another_run_are_not_chosen_anew(
    tlcli: CommandLine, wide: Path, pictures: Path, tmp_path: Path
) -> None:
    command = ("pretrain", pictures / "first", "--out", tmp_path / "run", "--weights", wide)
    assert "layers=auto" in tlcli.error(2, *command, "--layers", "auto")
