"""tlcli adopt: a classifier that exists becomes round 1."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CommandLine
from tests.support import classifiers, tiny
from tests.support.arrays import Doubles, Floats
from tests.support.runtimes import RUNTIMES
from tlcli import backbones
from tlcli.formats import FORMATS

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]

CLASSES = classifiers.CLASSES
SORTED = tuple(sorted(CLASSES))
LEVELS = tuple(classifiers.LEVELS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, names, and pictures of their size."""
    folder = tmp_path_factory.mktemp("adopted")
    classifiers.by_colour().save(folder / "inside.keras")
    classifiers.by_brightness().save(folder / "outside.h5")
    classifiers.by_colour(SORTED).save(folder / "sorted.keras")
    (folder / "names.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "levels.txt").write_text("\n".join(LEVELS) + "\n")
    classifiers.draw_levels(folder / "levels")
    tiny.draw(folder / "drawn", list(tiny.COLOURS))
    for path in (folder / "drawn").rglob("*.png"):
        sized = folder / ("sized" if path.parent.name in CLASSES else "new") / path.parent.name
        sized.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.resize((classifiers.SIZE, classifiers.SIZE)).save(sized / path.name)
    return folder


@pytest.fixture(scope="module")
def adopted(folder: Path, tiny_backbone: None) -> Path:
    """A run of the model that scales pixels itself; not to be changed."""
    from tlcli.cli import app

    run = folder / "run"
    names = folder / "names.txt"
    arguments = ["adopt", folder / "inside.keras", "--classes", names, "--out", run]
    assert app.run([str(argument) for argument in arguments]) == 0
    return run


@pytest.fixture
def run(adopted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(adopted, tmp_path / "run"))


def probabilities(
    tlcli: CommandLine, run: Path, paths: list[Path], names: Sequence[str]
) -> Doubles:
    """(n, C) as `predict` gives them, in the order of `names`."""
    lines = tlcli("predict", run, *paths, "--json", "--top", len(names)).splitlines()
    found = {entry["path"]: entry["top"] for entry in map(json.loads, lines)}
    by_name = [{one["label"]: one["probability"] for one in found[str(path)]} for path in paths]
    return np.array([[entry[name] for name in names] for entry in by_name])


def pixels_of(paths: list[Path]) -> Floats:
    return np.stack([np.asarray(Image.open(path).convert("RGB"), np.float32) for path in paths])


@pytest.mark.parametrize("shape", classifiers.SHAPES)
def test_the_run_answers_as_the_model(
    tlcli: CommandLine, folder: Path, tmp_path: Path, shape: str
) -> None:
    keras = backbones.keras_module()
    keras.utils.set_random_seed(3)
    model = classifiers.SHAPES[shape]()
    path = tmp_path / "model.keras"
    model.save(path)
    units = model.outputs[0].shape[-1]
    names = [f"class {number}" for number in range(max(2, units))]
    (tmp_path / "names.txt").write_text("\n".join(names))
    arguments = ("--classes", tmp_path / "names.txt", "--out", tmp_path / "run")
    content = tlcli.json("adopt", path, *arguments)
    assert content["classes"] == names
    assert content["adoption"]["deviation"] <= 1e-4

    size = model.inputs[0].shape[1]
    paths = sorted((folder / "sized").rglob("*.png"))[:8]
    images = pixels_of(paths)
    if size != classifiers.SIZE:
        shutil.rmtree(folder / shape, ignore_errors=True)
        (folder / shape).mkdir()
        paths = [folder / shape / f"{number}.png" for number in range(8)]
        grey = np.random.default_rng(0).integers(0, 256, (8, size, size), np.uint8)
        for path, image in zip(paths, grey, strict=True):
            Image.fromarray(image).save(path)
        images = grey[..., None].astype(np.float32)
    expected = np.asarray(model.predict(images, verbose=0, batch_size=4))
    if units == 1:
        if model.layers[-1].activation.__name__ == "linear":
            expected = 1 / (1 + np.exp(-expected))
        expected = np.concatenate([1 - expected, expected], axis=1)
    received = probabilities(tlcli, tmp_path / "run", paths, names)
    np.testing.assert_allclose(received, expected, atol=1e-4)


def test_what_the_round_says(tlcli: CommandLine, folder: Path, adopted: Path) -> None:
    content = json.loads((adopted / "rounds" / "0001" / "report.json").read_text())
    assert content["command"] == "adopt"
    assert (content["round"], content["backbone"]) == (1, "adopted")
    assert tuple(content["classes"]) == CLASSES
    assert (content["memory"], content["exact"], content["validation"]) == ("none", False, None)
    adoption = content["adoption"]
    assert adoption["model"] == str(folder / "inside.keras")
    assert adoption["last_layer"].endswith("(Dense)")
    assert adoption["scaled_by"].endswith("(Rescaling)")
    assert content["calibration"]["temperature"] == 1.0
    details = tlcli.json("rounds", "show", adopted)
    assert details["adoption"] == adoption
    assert "last_layer" in tlcli("rounds", "show", adopted)
    assert "none" in tlcli("rounds", "verify", adopted) or True


def test_the_columns_keep_their_bits(folder: Path, adopted: Path) -> None:
    from tlcli import heads

    head = heads.load(adopted / "rounds" / "0001" / "head.h5")
    weights, bias = classifiers.by_colour().layers[-1].get_weights()
    np.testing.assert_array_equal(head.weights, weights)
    np.testing.assert_array_equal(head.bias, bias)


def test_the_same_command_again_is_a_no_op(tlcli: CommandLine, folder: Path, run: Path) -> None:
    arguments = (folder / "inside.keras", "--classes", folder / "names.txt", "--out", run)
    assert tlcli.json("adopt", *arguments)["changed"] is False
    changed = folder / "changed.keras"
    shutil.copy(folder / "sorted.keras", changed)
    error = tlcli.error(2, "adopt", changed, "--classes", folder / "names.txt", "--out", run)
    assert "is a run already" in error


def test_another_model_under_the_same_name_is_no_no_op(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    path, names = tmp_path / "model.keras", folder / "names.txt"
    shutil.copy(folder / "inside.keras", path)
    tlcli("adopt", path, "--classes", names, "--out", tmp_path / "run")
    shutil.copy(folder / "sorted.keras", path)
    error = tlcli.error(2, "adopt", path, "--classes", names, "--out", tmp_path / "run")
    assert "is a run already" in error


def test_a_refused_model_leaves_no_folder(tlcli: CommandLine, folder: Path, tmp_path: Path) -> None:
    tlcli.error(2, "adopt", folder / "inside.keras", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


# What the classes are called


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.txt", "sky\napple\nleaf\n"),
        ("names.txt", "\ufeffsky\r\napple\r\n\r\nleaf"),
        ("class_indices.json", '{"apple": 1, "leaf": 2, "sky": 0}'),
        ("labels.json", '{"1": "apple", "2": "leaf", "0": "sky"}'),
        ("labels.json", '["sky", "apple", "leaf"]'),
    ],
)
def test_names_come_from_a_file(
    tlcli: CommandLine, folder: Path, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    arguments = ("--classes", tmp_path / name, "--out", tmp_path / "run")
    assert tuple(tlcli.json("adopt", folder / "inside.keras", *arguments)["classes"]) == CLASSES


def test_names_are_the_sorted_folders_of_images(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    arguments = ("--test", folder / "sized", "--out", tmp_path / "run")
    content = tlcli.json("adopt", folder / "sorted.keras", *arguments)
    assert tuple(content["classes"]) == SORTED
    assert content["validation"]["accuracy"] == 1.0


def test_names_come_from_a_model_that_tlcli_wrote(
    tlcli: CommandLine, adopted: Path, tmp_path: Path
) -> None:
    path = tmp_path / "exported.keras"
    tlcli("export", adopted, "--format", "keras", "--out", path)
    content = tlcli.json("adopt", path, "--out", tmp_path / "again")
    assert tuple(content["classes"]) == CLASSES


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("names.txt", "sky\napple\n", "Expected 3 class names"),
        ("names.txt", "sky\napple\nleaf\nsun\n", "4 in"),
        ("names.txt", "sky\napple\nsky\n", "'sky' more than once"),
        ("names.txt", "sky\n e\u0301 \n\u00e9", "more than once"),
        ("names.json", '{"sky": 0, "apple": 2, "leaf": 3}', "columns other than 0 to 2"),
        ("names.json", '{"sky": 0', "Correct the file"),
        ("names.json", "3", "neither a list"),
        ("names.json", '{"sky": [0], "apple": 1, "leaf": 2}', "Correct the file"),
        ("names.txt", b"\xff\xfe\x00", "Correct the file"),
        ("none.txt", None, "No such file"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    tlcli: CommandLine,
    folder: Path,
    tmp_path: Path,
    name: str,
    content: str | bytes | None,
    part: str,
) -> None:
    if content is not None:
        raw = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(raw)
    arguments = ("--classes", tmp_path / name, "--out", tmp_path / "run")
    assert part in tlcli.error(2, "adopt", folder / "inside.keras", *arguments)


def test_without_names_it_says_how_to_give_them(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    error = tlcli.error(2, "adopt", folder / "inside.keras", "--out", tmp_path / "run")
    assert "3 classes" in error
    assert "--classes FILE" in error


def test_images_of_other_classes_are_refused(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    arguments = ("--classes", folder / "names.txt", "--out", tmp_path / "run")
    error = tlcli.error(3, "adopt", folder / "inside.keras", *arguments, "--test", folder / "new")
    assert "'plum', 'sun'" in error
    shutil.copytree(folder / "sized" / "sky", tmp_path / "part" / "sky")
    shutil.copytree(folder / "sized" / "leaf", tmp_path / "part" / "leaf")
    given = ("--data", tmp_path / "part")
    error = tlcli.error(3, "adopt", folder / "inside.keras", *arguments, *given)
    assert "none of 'apple'" in error


# What pixels look like


def test_without_images_an_unknown_scaling_is_asked_for(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    arguments = ("--classes", folder / "levels.txt", "--out", tmp_path / "run")
    error = tlcli.error(2, "adopt", folder / "outside.h5", *arguments)
    assert "--scaling" in error
    assert ", ".join(backbones.SCALINGS) in error
    assert "--test DATA" in error


def test_all_scalings_are_tried_on_images_and_shown(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    arguments = ("--classes", folder / "levels.txt", "--test", folder / "levels")
    text = tlcli("adopt", folder / "outside.h5", *arguments, "--out", tmp_path / "run")
    table = text.partition("scaling   accuracy")[2]
    assert next(line.split()[0] for line in table.splitlines()[2:]) == "0-1"
    content = tlcli.json("rounds", "show", tmp_path / "run")["adoption"]
    assert (content["scaling"], content["tried_on"]) == ("0-1", 40)
    assert {entry["scaling"] for entry in content["scalings"]} == {*backbones.SCALINGS}
    assert content["scalings"][0]["accuracy"] == 1.0

    paths = sorted(folder.glob("levels/*/*.png"))
    expected = classifiers.by_brightness().predict(pixels_of(paths) / 255, verbose=0)
    received = probabilities(tlcli, tmp_path / "run", paths, LEVELS)
    np.testing.assert_allclose(received, expected, atol=1e-4)


def test_a_scaling_that_is_named_is_not_doubted_without_images(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    arguments = ("--classes", folder / "levels.txt", "--scaling", "0-1", "--out", tmp_path / "run")
    content = tlcli.json("adopt", folder / "outside.h5", *arguments)
    assert (content["adoption"]["scaling"], content["adoption"]["scalings"]) == ("0-1", [])


def test_an_unknown_scaling_gets_the_list(tlcli: CommandLine, folder: Path, tmp_path: Path) -> None:
    arguments = ("--scaling", "tensorflow", "--out", tmp_path / "run")
    error = tlcli.error(2, "adopt", folder / "outside.h5", *arguments)
    assert "caffe" in error


def test_a_model_that_is_right_by_chance_alone_is_refused(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "wrong.txt").write_text("apple\nleaf\nsky\n")
    arguments = ("--classes", tmp_path / "wrong.txt", "--test", folder / "sized")
    error = tlcli.error(3, "adopt", folder / "inside.keras", *arguments, "--out", tmp_path / "run")
    assert "chance (33%)" in error
    assert "order of the names" in error


def test_exchanged_names_are_noticed(tlcli: CommandLine, folder: Path, tmp_path: Path) -> None:
    names = [*tiny.COLOURS]
    classifiers.by_colour(names).save(tmp_path / "five.keras")
    exchanged = [names[1], names[0], *names[2:]]
    (tmp_path / "names.txt").write_text("\n".join(exchanged))
    arguments = ("--classes", tmp_path / "names.txt", "--test", folder / "drawn")
    tlcli("adopt", tmp_path / "five.keras", *arguments, "--out", tmp_path / "run")
    assert "'apple', 'sky' are given another name of these" in tlcli.err


def test_scalings_that_images_cannot_tell_apart_are_not_guessed(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    colours = [tiny.COLOURS[name] for name in CLASSES]
    classifiers.nearest(colours).save(tmp_path / "robust.keras")
    arguments = ("--classes", folder / "names.txt", "--test", folder / "sized")
    error = tlcli.error(
        2, "adopt", tmp_path / "robust.keras", *arguments, "--out", tmp_path / "run"
    )
    assert "0-1" in error.partition("Received")[2]
    assert "Name it with --scaling" in error
    named = (*arguments, "--scaling", "0-1", "--out", tmp_path / "run")
    assert tlcli.json("adopt", tmp_path / "robust.keras", *named)["adoption"]["scaling"] == "0-1"


def test_a_scaling_that_is_hardly_better_is_said(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    for name in LEVELS:
        (few / name).mkdir(parents=True)
        shutil.copy(folder / "levels" / name / "000.png", few / name)
    arguments = ("--classes", folder / "levels.txt", "--test", few, "--out", tmp_path / "run")
    content = tlcli.json("adopt", folder / "outside.h5", *arguments)
    assert content["adoption"]["scaling"] == "0-1"
    assert "0-1 is hardly better than" in tlcli.err


# What is remembered


def test_with_its_images_later_rounds_equal_joint_training(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    names = ("--classes", folder / "names.txt")
    run, other = tmp_path / "run", tmp_path / "other"
    first = tlcli.json(
        "adopt", folder / "inside.keras", *names, "--data", folder / "sized", "--out", run
    )
    assert (first["memory"], first["images"]["used"], first["exact"]) == ("moments", 24, False)
    assert first["calibration"]["temperature"] >= 1.0
    assert first["validation"] is None
    second = tlcli.json("extend-classes", run, folder / "new")
    assert (second["strategy"], second["head"], second["exact"]) == ("merge", "lda", True)
    joint = tlcli.json("pretrain", folder / "drawn", "--weights", run, "--out", other)
    assert sorted(joint["classes"]) == sorted(second["classes"])
    sized = tmp_path / "sized"
    shutil.copytree(folder / "sized", sized)
    shutil.copytree(folder / "new", sized, dirs_exist_ok=True)
    joint = tlcli.json("pretrain", sized, "--weights", run, "--out", tmp_path / "joint")
    assert joint["memory_sha256"] == second["memory_sha256"]


def test_a_class_is_added_without_the_old_images(
    tlcli: CommandLine, folder: Path, run: Path, tmp_path: Path
) -> None:
    paths = sorted((folder / "sized").rglob("*.png"))
    before = probabilities(tlcli, run, paths, CLASSES)
    content = tlcli.json("extend-classes", run, folder / "new")
    assert (content["strategy"], content["memory"]) == ("freeze-old", "none")
    assert content["classes"] == [*CLASSES, "plum", "sun"]
    after = probabilities(tlcli, run, paths, content["classes"])
    old = after[:, : len(CLASSES)]
    ratio = old / old.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(ratio, before, atol=1e-6)
    for format_name, row in FORMATS.items():
        path = tmp_path / f"model{row.suffix}"
        tlcli("export", run, "--format", format_name, "--out", path)
        received, classes = RUNTIMES[format_name](path, pixels_of(paths))
        assert classes == content["classes"]
        np.testing.assert_allclose(received, after, atol=1e-3)


@pytest.mark.parametrize("option", ["--sample", "--data"])
def test_what_images_usually_look_like_is_remembered(
    tlcli: CommandLine, folder: Path, tmp_path: Path, option: str
) -> None:
    from tlcli import heads

    names, run = ("--classes", folder / "names.txt"), tmp_path / "run"
    content = tlcli.json(
        "adopt", folder / "inside.keras", *names, option, folder / "sized", "--out", run
    )
    head = heads.load(run / "rounds" / "0001" / "head.h5")
    assert head.generic and head.generic.images == 24
    colours = np.array([tiny.COLOURS[name] for name in CLASSES]) / 255
    np.testing.assert_allclose(head.generic.mean, colours.mean(axis=0), atol=0.02)
    assert head.generic.lead > 0
    if option == "--sample":
        assert (content["memory"], content["images"]["used"]) == ("none", 0)
        assert content["calibration"]["temperature"] == 1.0
    arguments = ("--strategy", "freeze-old")
    second = tlcli.json("extend-classes", run, folder / "new", *arguments)
    assert second["usual"]["origin"] == "the mean of the images learned before"


def test_a_sample_is_in_place_of_the_images(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    images = ("--data", folder / "sized", "--sample", folder / "sized")
    error = tlcli.error(2, "adopt", folder / "inside.keras", *images, "--out", tmp_path / "run")
    assert "Leave --sample out" in error


@pytest.mark.parametrize("strategy", ["joint", "merge"])
def test_classes_without_images_are_never_solved_away(
    tlcli: CommandLine, folder: Path, run: Path, strategy: str
) -> None:
    """What the run learns later are not all images of its classes."""
    for _ in range(2):
        error = tlcli.error(2, "extend-classes", run, folder / "new", "--strategy", strategy)
        assert "Expected" in error
        tlcli("extend-classes", run, folder / "new", "--strategy", "lwf")
    details = tlcli.json("rounds", "show", run)
    assert [entry["name"] for entry in details["classes"]][: len(CLASSES)] == [*CLASSES]


def test_memory_cannot_begin_without_the_old_images(
    tlcli: CommandLine, folder: Path, run: Path
) -> None:
    tlcli.error(2, "extend-classes", run, folder / "new", "--memory", "moments")


def test_memory_is_of_images(tlcli: CommandLine, folder: Path, tmp_path: Path) -> None:
    arguments = ("--classes", folder / "names.txt", "--memory", "features")
    error = tlcli.error(2, "adopt", folder / "inside.keras", *arguments, "--out", tmp_path / "run")
    assert "--data" in error


def test_an_adopted_class_is_removed_and_the_others_stay(
    tlcli: CommandLine, folder: Path, run: Path
) -> None:
    tlcli("extend-classes", run, folder / "new")
    content = tlcli.json("remove-classes", run, "apple")
    assert content["classes"] == ["sky", "leaf", "plum", "sun"]
    content = tlcli.json("remove-classes", run, "plum")
    assert content["classes"] == ["sky", "leaf", "sun"]
    assert tlcli.json("remove-classes", run, "plum")["changed"] is False


def test_the_network_is_fine_tuned(
    tlcli: CommandLine, folder: Path, run: Path, tmp_path: Path
) -> None:
    tlcli("extend-classes", run, folder / "new")
    everything = tmp_path / "everything"
    shutil.copytree(folder / "sized", everything)
    shutil.copytree(folder / "new", everything, dirs_exist_ok=True)
    options = ("--unfreeze", "1", "--epochs", "1", "--batch-size", "8")
    content = tlcli.json("finetune", run, everything, *options)
    assert content["classes"] == [*CLASSES, "plum", "sun"]
    tlcli.error(2, "finetune", run, everything, "--unfreeze", "99")


def test_the_network_is_fine_tuned_without_the_old_images(
    tlcli: CommandLine, folder: Path, run: Path, tmp_path: Path
) -> None:
    one = tmp_path / "one"
    shutil.copytree(folder / "new" / "plum", one / "plum")
    tlcli("extend-classes", run, one, "--strategy", "lwf")
    options = ("--unfreeze", "1", "--epochs", "1", "--batch-size", "4")
    content = tlcli.json("finetune", run, one, *options)
    assert content["memory"] == "none"
    assert content["classes"] == [*CLASSES, "plum"]
    error = tlcli.error(2, "extend-classes", run, one, "--strategy", "joint")
    assert "all old images" in error


# Options and models that are refused


@pytest.mark.parametrize("option", ["--backbone", "--weights"])
def test_options_of_imagenet_are_for_imagenet(
    tlcli: CommandLine, folder: Path, tmp_path: Path, option: str
) -> None:
    arguments = (option, "MobileNetV2", "--out", tmp_path / "run")
    error = tlcli.error(2, "adopt", folder / "inside.keras", *arguments)
    assert f"Expected {option} with imagenet alone" in error


@pytest.mark.parametrize(
    ("option", "value"), [("--classes", "names.txt"), ("--scaling", "0-1"), ("--image-size", "64")]
)
def test_options_of_files_are_for_files(
    tlcli: CommandLine, tmp_path: Path, option: str, value: str
) -> None:
    error = tlcli.error(2, "adopt", "imagenet", option, value, "--out", tmp_path / "run")
    assert f"Expected {option} with a file alone" in error


def test_a_network_that_answers_by_the_batch_is_refused(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    """Each image's answer depends on the others."""
    keras = backbones.keras_module()
    image = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3)(keras.layers.Rescaling(1 / 255)(image))
    x = keras.layers.GlobalAveragePooling2D()(x - keras.ops.mean(x, axis=0, keepdims=True))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))
    model.save(tmp_path / "batch.keras")
    arguments = ("--classes", folder / "names.txt", "--out", tmp_path / "run")
    tlcli("adopt", tmp_path / "batch.keras", *arguments, code=2)
    assert "other images of a batch" in tlcli.err
    assert not (tmp_path / "run").exists()


def test_a_detector_is_refused(tlcli: CommandLine, folder: Path, tmp_path: Path) -> None:
    keras = backbones.keras_module()
    image = keras.Input((32, 32, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(image))
    outputs = {"boxes": keras.layers.Dense(4)(x), "classes": keras.layers.Dense(3)(x)}
    keras.Model(image, outputs).save(tmp_path / "detector.keras")
    arguments = ("--classes", folder / "names.txt", "--out", tmp_path / "run")
    assert "2 outputs" in tlcli.error(2, "adopt", tmp_path / "detector.keras", *arguments)


def test_a_model_for_any_size_asks_for_one(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    classifiers.any_size().save(tmp_path / "any.keras")
    arguments = ("--classes", folder / "names.txt", "--out", tmp_path / "run")
    error = tlcli.error(2, "adopt", tmp_path / "any.keras", *arguments)
    assert "--image-size" in error
    content = tlcli.json("adopt", tmp_path / "any.keras", *arguments, "--image-size", 40)
    assert content["classes"] == [*CLASSES]


def test_a_model_for_images_that_are_not_square_says_what_to_put_in_front(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    keras = backbones.keras_module()
    image = keras.Input((32, 48, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(image))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))
    model.save(tmp_path / "wide.keras")
    arguments = ("--classes", folder / "names.txt", "--out", tmp_path / "run")
    error = tlcli.error(2, "adopt", tmp_path / "wide.keras", *arguments)
    advice = "keras.Sequential([keras.Input((48, 48, 3)), keras.layers.Resizing(32, 48), model])"
    assert advice in error
    square = eval(advice, {"keras": keras, "model": model})
    square.save(tmp_path / "square.keras")
    assert tlcli.json("adopt", tmp_path / "square.keras", *arguments)["classes"] == [*CLASSES]


def test_another_size_than_the_model_has_is_refused(
    tlcli: CommandLine, folder: Path, tmp_path: Path
) -> None:
    arguments = ("--classes", folder / "names.txt", "--out", tmp_path / "run")
    error = tlcli.error(2, "adopt", folder / "inside.keras", *arguments, "--image-size", 64)
    assert f"Give --image-size {classifiers.SIZE}" in error


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("keras_metadata.pb", "import tf_keras; tf_keras.models.load_model("),
        ("saved_model.pb", "a graph of TensorFlow and no layers"),
        (None, "model.save('model.keras')"),
    ],
)
def test_a_folder_is_refused_with_what_to_type(
    tlcli: CommandLine, folder: Path, tmp_path: Path, part: str | None, words: str
) -> None:
    given = tmp_path / "given"
    given.mkdir()
    if part is not None:
        (given / part).write_bytes(b"")
    error = tlcli.error(
        2, "adopt", given, "--classes", folder / "names.txt", "--out", tmp_path / "r"
    )
    assert words in error


def test_a_run_is_adopted_already(
    tlcli: CommandLine, folder: Path, run: Path, tmp_path: Path
) -> None:
    error = tlcli.error(2, "adopt", run, "--out", tmp_path / "again")
    assert "is a run already" in error
    assert f"tlcli extend-classes {run} DATA" in error


@pytest.mark.parametrize(
    "words",
    [
        ("extend-classes", "{new}", "--strategy", "merge"),
        ("extend-classes", "{new}", "--strategy", "joint", "--old-data", "{old}"),
        ("extend-classes", "{new}", "--old-data", "{old}", "--memory", "moments"),
        ("extend-classes", "{new}", "--memory", "features"),
        ("predict", "{old}", "--unknown-at", "0.05"),
        ("triage", "{old}"),
        ("rename-classes", "sky=apple"),
        ("rename-classes", "plum=apple"),
    ],
    ids=" ".join,
)
def test_what_needs_images_of_adopted_classes_says_how_to_begin_with_them(
    tlcli: CommandLine, folder: Path, run: Path, words: tuple[str, ...]
) -> None:
    """No advice leads to a command that is refused in turn."""
    if "plum=apple" in words:
        tlcli("extend-classes", run, folder / "new")
    command, *rest = [word.format(new=folder / "new", old=folder / "sized") for word in words]
    error = tlcli.error(2, command, run, *rest)
    assert "'apple', 'leaf', 'sky', with which it was adopted" in error
    assert "tlcli adopt MODEL --data DATA" in error
    assert "apple" in tlcli("rounds", "show", run)


def test_names_change_without_any_image(tlcli: CommandLine, folder: Path, run: Path) -> None:
    from tlcli import heads

    before = heads.load(run / "rounds" / "0001" / "head.h5")
    content = tlcli.json("rename-classes", run, "apple=fruit")
    assert content["classes"] == ["sky", "fruit", "leaf"]
    after = heads.load(run / "rounds" / "0002" / "head.h5")
    assert after.weights.tobytes() == before.weights.tobytes()
