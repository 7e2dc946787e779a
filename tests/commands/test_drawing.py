"""How a run draws its images, `--fit` and `--white-level`: in every command, round and file."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import backbones, heads, images, runs
from tlcli.images import DEFAULT_FIT, FITS, Square

OTHER_FITS = sorted(set(FITS) - {DEFAULT_FIT})
CLASSES = [*tiny.COLOURS]
TRAINED = ("--epochs", "1", "--batch-size", "4")


def oblong(folder: Path, classes: list[str], seed: int = 0) -> Path:
    """Pictures three times as wide as high, whose colour is in the middle third alone."""
    for path in sorted(tiny.draw(folder, classes, seed=seed).rglob("*.png")):
        middle = Image.open(path).resize((32, 32))
        wide = Image.effect_noise((96, 32), 90).convert("RGB")
        wide.paste(middle, (32, 0))
        wide.save(path)
    return folder


def fitted_by_hand(folder: Path, fit: str) -> Path:
    """The same as squares of 32 pixels, made without tlcli."""
    for path in sorted(folder.rglob("*.png")):
        image = Image.open(path)
        if fit == "crop":
            image.crop((32, 0, 64, 32)).save(path)
        else:
            square = Image.new("RGB", (32, 32), images.square.PAD)
            square.paste(image.resize((32, 11), Image.Resampling.BILINEAR), (0, 10))
            square.save(path)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Oblong pictures of two rounds and a test."""
    folder = tmp_path_factory.mktemp("oblong")
    for part, classes, seed in (
        ("first", CLASSES[:3], 0),
        ("second", CLASSES[3:], 0),
        ("more", CLASSES, 5),
        ("test", CLASSES, 1),
    ):
        oblong(folder / part, classes, seed)
    return folder


def head_of(run: Path) -> heads.LinearHead:
    return heads.load(runs.open_run(run).round().file("head.h5"))


def drawing_of(run: Path) -> dict[str, object]:
    """As the backbone of the current round has it."""
    opened = runs.open_run(run)
    fingerprint = opened.round().manifest.backbone_fingerprint
    return dict(backbones.load_stored(opened.backbone_folder(fingerprint)).drawing)


@pytest.mark.parametrize("fit", OTHER_FITS)
def test_every_command_draws_images_as_the_run_does(
    tlcli: CommandLine, data: Path, tmp_path: Path, fit: str
) -> None:
    """A run of oblong pictures is that of squares which were made by hand before."""
    by_hand = Path(shutil.copytree(data, tmp_path / "squares"))
    fitted_by_hand(by_hand, fit)
    answers = []
    for source, options in ((data, ("--fit", fit)), (by_hand, ())):
        run = tmp_path / f"run of {source.name}"
        tlcli("pretrain", source / "first", "--out", run, *options)
        tlcli("extend-classes", run, source / "second")
        measured = tlcli.json("evaluate", run, source / "test")
        lines = tlcli("predict", run, source / "test", "--json").splitlines()
        labels = [json.loads(line)["label"] for line in lines]
        head = head_of(run)
        answers.append((measured["accuracy"], labels, head.weights.tobytes(), head.bias.tobytes()))
    assert answers[0] == answers[1]


def test_squash_is_what_no_option_gives(tlcli: CommandLine, data: Path, tmp_path: Path) -> None:
    plain = tlcli.json("pretrain", data / "first", "--out", tmp_path / "plain")
    named = tlcli.json("pretrain", data / "first", "--out", tmp_path / "named", "--fit", "squash")
    for key in ("memory_sha256", "backbone_fingerprint"):
        assert plain[key] == named[key]


def test_runs_that_draw_otherwise_are_not_mixed(
    tlcli: CommandLine, data: Path, tmp_path: Path
) -> None:
    crop, pad = tmp_path / "crop", tmp_path / "pad"
    tlcli("pretrain", data / "first", "--out", crop, "--fit", "crop")
    tlcli("pretrain", data / "second", "--out", pad, "--fit", "pad")
    error = tlcli.error(5, "merge", crop, pad, "--out", tmp_path / "both")
    assert "fit crop" in error and "fit pad" in error and str(pad) in error
    tlcli("moments", pad, data / "more", "--out", tmp_path / "moments.h5")
    error = tlcli.error(5, "extend-classes", crop, "--moments", tmp_path / "moments.h5")
    assert "--fit" in error
    alike = tmp_path / "alike"
    tlcli("pretrain", data / "second", "--out", alike, "--fit", "crop")
    assert tlcli.json("merge", crop, alike, "--out", tmp_path / "merged")["exact"] is True
    assert drawing_of(tmp_path / "merged") == {"fit": "crop"}


def test_the_backbone_of_another_run_brings_its_fit(
    tlcli: CommandLine, data: Path, tmp_path: Path
) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    command = ("pretrain", data / "first", "--out")
    tlcli(*command, first, "--fit", "crop", "--white-level", 4095)
    error = tlcli.error(2, *command, again, "--weights", first, "--fit", "pad")
    assert "fit" in error and "crop" in error and not again.exists()
    assert "white-level" in tlcli.error(
        2, *command, again, "--weights", first, "--white-level", 1023
    )
    answer = tlcli.json(*command, again, "--weights", first)
    assert answer["images"]["from_cache"] == answer["images"]["used"]
    assert drawing_of(again) == {"fit": "crop", "white_level": 4095}


def test_fine_tuning_keeps_the_fit(tlcli: CommandLine, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    keeping = ("--memory", "exemplars", "--exemplars-per-class", 2)
    tlcli("pretrain", data / "first", "--out", run, "--fit", "pad", *keeping)
    more = oblong(tmp_path / "more", CLASSES[:3], seed=7)
    tlcli("finetune", run, more, "--old-data", data / "first", "--unfreeze", 1, *TRAINED)
    assert drawing_of(run) == {"fit": "pad"}
    assert tlcli.json("rounds", "show", run)["drawing"]["fit"] == "pad"


def test_a_network_trained_from_scratch_has_its_fit(
    tlcli: CommandLine, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("--weights", "none", "--fit", "crop", *TRAINED)
    tlcli("pretrain", data / "more", "--out", run, *options)
    assert drawing_of(run) == {"fit": "crop"}


def test_a_fit_that_there_is_not_is_refused_before_anything_is_read(
    tlcli: CommandLine, tmp_path: Path
) -> None:
    error = tlcli.error(2, "pretrain", tmp_path / "none", "--out", tmp_path / "run", "--fit", "cut")
    assert "fit" in error and all(name in error for name in FITS)


def test_a_fit_of_a_newer_program_is_refused(
    tlcli: CommandLine, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    tlcli("pretrain", data / "first", "--out", run, "--fit", "crop")
    (path,) = run.glob("backbones/*/backbone.json")
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"drawing": {"fit": "seam carving"}}))
    assert "Update" in tlcli.error(5, "predict", run, data / "test")


def test_the_keras_model_and_exports_say_how_images_are_drawn(
    tlcli: CommandLine, data: Path, tmp_path: Path
) -> None:
    run, path = tmp_path / "run", tmp_path / "model.keras"
    tlcli("pretrain", data / "first", "--out", run, "--fit", "pad")
    assert "fitted by pad" in tlcli("export", run, "--out", path)
    assert tlcli.json("export", run, "--out", path)["fit"] == "pad"
    told = {"size": tiny.IMAGE_SIZE, "fit": "pad", "white_level": None}
    for archive in (path, runs.open_run(run).round().file("model.keras")):
        with zipfile.ZipFile(archive) as opened:
            assert json.loads(opened.read("metadata.json"))["images"] == told
    found = [*images.find_images([data / "first"])]
    pixels = np.stack([images.decode(one, Square(tiny.IMAGE_SIZE, "pad")) for one in found])
    model = backbones.keras_module().saving.load_model(path)
    received = model.predict(pixels, verbose=0).max(axis=1)
    lines = tlcli("predict", run, *found, "--json").splitlines()
    expected = [json.loads(line)["probability"] for line in lines]
    np.testing.assert_allclose(received, expected, atol=1e-4)


# --- dark and flat images


def deep(folder: Path, classes: list[str], seed: int = 0) -> Path:
    """Grey of 12 bits in PNGs of 16, whose classes differ in brightness."""
    for number, name in enumerate(classes):
        random = np.random.default_rng([seed, number])
        (folder / name).mkdir(parents=True)
        for index in range(6):
            values = np.clip(random.normal(800 + 1000 * number, 300, (20, 20)), 0, 4095)
            Image.fromarray(values.astype(np.uint16)).save(folder / name / f"{index}.png")
    return folder


def few_levels(err: str) -> list[str]:
    return [line for line in err.splitlines() if "levels from dark to bright" in line]


def test_each_command_warns_once_of_dark_images(tlcli: CommandLine, tmp_path: Path) -> None:
    run = tmp_path / "run"
    tlcli("pretrain", deep(tmp_path / "a", ["one", "two"]), "--out", run)
    (warning,) = few_levels(tlcli.err)
    assert "12 of 12 images" in warning and "--white-level" in warning
    assert str(tmp_path / "a" / "one" / "0.png") in warning
    for command, name in (("extend-classes", "b"), ("evaluate", "c"), ("predict", "d")):
        tlcli(command, run, deep(tmp_path / name, ["one", "two"], seed=ord(name)))
        (warning,) = few_levels(tlcli.err)
        assert "12 of 12 images" in warning


def test_predict_counts_over_all_its_parts(tlcli: CommandLine, run: Path, tmp_path: Path) -> None:
    for number in range(100):
        Image.new("RGB", (8, 8), (number, 255, 0)).save(tmp_path / f"{number}.png")
    tlcli("predict", run, *sorted(tmp_path.glob("*.png")))
    (warning,) = few_levels(tlcli.err)
    assert "100 of 100 images" in warning and "100 of them have one colour" in warning


def test_images_of_usual_contrast_are_no_matter(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    tlcli("pretrain", tiny.draw(tmp_path / "new", CLASSES, seed=3), "--out", tmp_path / "run")
    assert not few_levels(tlcli.err)


def test_the_white_level_makes_dark_images_bright(tlcli: CommandLine, tmp_path: Path) -> None:
    run, data = tmp_path / "run", deep(tmp_path / "a", ["one", "two"])
    answer = tlcli.json("pretrain", data, "--out", run, "--white-level", 4095)
    assert not few_levels(tlcli.err)
    assert drawing_of(run) == {"white_level": 4095}
    bright = deep(tmp_path / "b", ["one", "two"])
    for path in bright.rglob("*.png"):
        values = np.asarray(Image.open(path)).astype(np.int64)
        Image.fromarray(((values * 255 + 2047) // 4095).astype(np.uint8)).save(path)
    tlcli("pretrain", bright, "--out", tmp_path / "bright")
    np.testing.assert_array_equal(head_of(run).weights, head_of(tmp_path / "bright").weights)
    assert answer["exact"] is True


@pytest.mark.parametrize("level", ["0", "65536", "white"])
def test_a_white_level_that_there_is_not_is_refused(
    tlcli: CommandLine, tmp_path: Path, level: str
) -> None:
    command = ("pretrain", tmp_path / "none", "--out", tmp_path / "run", "--white-level", level)
    tlcli(*command, code=2)
    assert "--white-level" in tlcli.err


def test_data_check_counts_dark_flat_and_long_images(tlcli: CommandLine, tmp_path: Path) -> None:
    data = deep(oblong(tmp_path / "data", ["apple"]), ["one", "two"])
    Image.new("RGB", (40, 40), "teal").save(data / "one" / "flat.png")
    answer = tlcli.json("data", "check", data)
    assert (answer["few_levels"], answer["one_colour"], answer["elongated"]) == (13, 1, 8)
    text = " ".join(answer["problems"])
    assert "Of one colour throughout: 1 file." in text
    assert "`tlcli pretrain`): 12 files." in text and "--fit" in text
