"""Bad input: one line, the right exit code, nothing left behind."""

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli.backbones import openvino_ir
from tlcli.extractor import Extractor


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny.draw(tmp_path / "data", ["apple", "leaf"], count=4)


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_missing_folder(tlcli: CommandLine, tmp_path: Path) -> None:
    error = tlcli.error(2, "pretrain", tmp_path / "none", "--out", tmp_path / "run")
    assert "none" in error
    assert left_in(tmp_path) == set()


def test_a_file_instead_of_a_folder(tlcli: CommandLine, data: Path, tmp_path: Path) -> None:
    picture = data / "apple" / "000.png"
    assert str(picture) in tlcli.error(3, "pretrain", picture, "--out", tmp_path / "run")
    assert left_in(tmp_path) == {"data"}


@pytest.mark.parametrize("command", [["predict"], ["triage"], ["index", "search"]])
def test_no_image_at_all(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, command: list[str]
) -> None:
    tlcli("index", "add", run, pictures / "first")
    empty = tmp_path / "empty"
    empty.mkdir()
    options = ["--false-alarms", "20%"] if command == ["triage"] else []
    error = tlcli.error(3, *command, run, empty, empty, *options)
    assert f"none that can be read in {empty} and 1 more. Give image files" in error


def test_no_class_folder(tlcli: CommandLine, data: Path, tmp_path: Path) -> None:
    tlcli.error(3, "pretrain", data / "apple", "--out", tmp_path / "run")
    assert left_in(tmp_path) == {"data"}


def test_one_class_only(tlcli: CommandLine, data: Path, tmp_path: Path) -> None:
    shutil.rmtree(data / "leaf")
    assert "'apple'" in tlcli.error(3, "pretrain", data, "--out", tmp_path / "run")


def test_an_empty_class(tlcli: CommandLine, data: Path, tmp_path: Path) -> None:
    (data / "void").mkdir()
    assert "'void'" in tlcli.error(3, "pretrain", data, "--out", tmp_path / "run")


def test_a_class_whose_images_are_all_broken(
    tlcli: CommandLine, data: Path, tmp_path: Path
) -> None:
    broken = data / "broken" / "a.png"
    broken.parent.mkdir()
    broken.write_bytes(b"not a picture")
    options = ("--out", tmp_path / "run", "--max-bad", "50%")
    assert "'broken'" in tlcli.error(3, "pretrain", data, *options)
    assert left_in(tmp_path) == {"data"}


def test_too_many_bad_images_stop_before_anything_is_saved(
    tlcli: CommandLine, data: Path, tmp_path: Path
) -> None:
    bad = data / "apple" / "000.png"
    bad.write_bytes(bad.read_bytes()[:50])
    error = tlcli.error(3, "pretrain", data, "--out", tmp_path / "run")
    assert str(bad) in error
    assert "--max-bad" in error
    assert left_in(tmp_path) == {"data"}
    before = bad.read_bytes()
    answer = tlcli.json("pretrain", data, "--out", tmp_path / "run", "--max-bad", "20%")
    assert [entry["path"] for entry in answer["images"]["skipped"]] == [str(bad)]
    assert bad.read_bytes() == before


def test_images_that_are_left_out_are_named_in_the_text(
    tlcli: CommandLine, data: Path, tmp_path: Path
) -> None:
    broken = [data / "leaf" / f"broken{number}.png" for number in range(5)]
    for path in broken:
        path.write_bytes(path.name.encode())
    text = tlcli("pretrain", data, "--out", tmp_path / "run", "--max-bad", "50%")
    assert ", 5 left out\n" in text
    named = [line.partition(":")[0] for line in text.splitlines() if "  left out  " in line]
    assert named == [
        *(f"  left out    {path}" for path in broken[:3]),
        "  left out    2 more, which --json names",
    ]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--backbone", "MobilNetV2"], "MobileNetV2"),
        (["--head", "svn"], "lda, ridge, rp-ridge, ncm, ncm-cosine, softmax, svm"),
        (["--max-bad", "2"], "max-bad"),
        (["--image-size", "0"], "image-size"),
        (["--imagesize", "3"], "--image-size"),
        (["--epochs", "many"], "epochs"),
        (["--strategy", "merge"], "It is an option of 'extend-classes'. See"),
        (["--keep", "3"], "It is an option of 'rounds prune'. See"),
    ],
)
def test_an_option_that_cannot_be_meant(
    tlcli: CommandLine, data: Path, tmp_path: Path, options: list[str], named: str
) -> None:
    assert named in tlcli.error(2, "pretrain", data, "--out", tmp_path / "run", *options)
    assert left_in(tmp_path) == {"data"}


def test_an_image_size_below_the_minimum(
    tlcli: CommandLine, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore_real_backbones(monkeypatch)
    options = ("--backbone", "Xception", "--weights", "none", "--image-size", "64")
    assert "71" in tlcli.error(2, "pretrain", data, "--out", tmp_path / "run", *options)


def test_weights_that_cannot_be_downloaded(
    tlcli: CommandLine, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore_real_backbones(monkeypatch)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    options = ("--backbone", "MobileNet", "--image-size", "32")
    error = tlcli.error(7, "pretrain", data, "--out", tmp_path / "run", *options)
    assert "EfficientNetLite0" in error
    assert "run" not in left_in(tmp_path)


def restore_real_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    from tlcli import backbones
    from tlcli.backbones import network

    monkeypatch.setattr(backbones, "build", network.build)


def test_weights_that_are_not_there(
    tlcli: CommandLine, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore_real_backbones(monkeypatch)
    options = ("--out", tmp_path / "run", "--weights", tmp_path / "missing.h5")
    assert "missing.h5" in tlcli.error(2, "pretrain", data, *options)


def test_weights_that_do_not_fit(
    tlcli: CommandLine, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore_real_backbones(monkeypatch)
    weights = tmp_path / "other.weights.h5"
    tiny.build("tiny", None, None).save_weights(weights)
    options = ("--backbone", "MobileNet", "--image-size", "32", "--weights", weights)
    assert str(weights) in tlcli.error(2, "pretrain", data, "--out", tmp_path / "run", *options)
    assert "run" not in left_in(tmp_path)


def test_a_run_that_exists(tlcli: CommandLine, run: Path, data: Path, tmp_path: Path) -> None:
    assert f"`tlcli extend-classes {run} {data}`" in tlcli.error(2, "pretrain", data, "--out", run)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    assert str(foreign) in tlcli.error(2, "pretrain", data, "--out", foreign)
    assert left_in(foreign) == {"thesis.txt"}


@pytest.mark.parametrize("command", ["extend-classes", "finetune", "evaluate", "predict"])
def test_a_run_that_does_not_exist_or_is_none(
    tlcli: CommandLine, data: Path, tmp_path: Path, command: str
) -> None:
    assert "nowhere" in tlcli.error(2, command, tmp_path / "nowhere", data)
    assert "pretrain" in tlcli.error(5, command, data, data)


def test_a_run_that_is_newer_is_refused_and_left_untouched(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    manifest = run / "rounds" / "0001" / "round.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 99}))
    before = manifest.read_bytes()
    error = tlcli.error(5, "extend-classes", run, pictures / "second")
    assert "99" in error
    assert "Upgrade" in error
    assert manifest.read_bytes() == before


@pytest.mark.parametrize("name", ["round.json", "head.h5", "memory.h5"])
def test_a_run_that_is_damaged(tlcli: CommandLine, run: Path, pictures: Path, name: str) -> None:
    path = run / "rounds" / "0001" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert str(path) in tlcli.error(5, "extend-classes", run, pictures / "second")


@pytest.mark.parametrize(
    ("file", "command"), [("openvino.bin", "predict"), ("model.keras", "extend-classes")]
)
def test_a_backbone_that_is_damaged(
    tlcli: CommandLine, run: Path, tmp_path: Path, file: str, command: str
) -> None:
    [path] = run.glob(f"backbones/*/{file}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    unseen = tiny.draw(tmp_path / "unseen", ["apple"], seed=7007)
    assert str(path) in tlcli.error(5, command, run, unseen)


def test_an_unknown_class_at_evaluation(tlcli: CommandLine, run: Path, pictures: Path) -> None:
    error = tlcli.error(3, "evaluate", run, pictures / "test")
    assert "'plum', 'sun'" in error
    assert "Did you mean" not in error
    report = tlcli.json("evaluate", run, pictures / "test", "--ignore-unknown")
    assert report["images"] == 12


def test_a_name_that_was_mistyped_is_told(tlcli: CommandLine, run: Path, tmp_path: Path) -> None:
    meant = "Did you mean 'apple' for 'Aple'? "
    assert meant in tlcli.error(2, "remove-classes", run, "Aple")
    assert meant in tlcli.error(2, "rename-classes", run, "Aple=pear")
    tiny.draw(tmp_path / "test", ["apple", "leaf"], count=2, seed=3)
    (tmp_path / "test" / "apple").rename(tmp_path / "test" / "Aple")
    assert meant in tlcli.error(3, "evaluate", run, tmp_path / "test")


def test_a_class_whose_name_is_written_otherwise_is_new_and_said(
    tlcli: CommandLine, run: Path, tmp_path: Path
) -> None:
    tiny.draw(tmp_path / "more", ["apple", "sun"], count=3, seed=3)
    (tmp_path / "more" / "apple").rename(tmp_path / "more" / "Ap_ple")
    assert tlcli.json("extend-classes", run, tmp_path / "more")["new_classes"] == ["Ap_ple", "sun"]
    assert "'Ap_ple' is a new class beside 'apple'. " in tlcli.err
    assert "'sun'" not in tlcli.err


def test_finetune_needs_known_classes_and_known_layers(
    tlcli: CommandLine, run: Path, data: Path, pictures: Path
) -> None:
    assert "'sky'" in tlcli.error(3, "finetune", run, data, "--require-exact")
    assert "'sun'" in tlcli.error(3, "finetune", run, pictures / "second")
    error = tlcli.error(2, "finetune", run, pictures / "first", "--unfreeze", "conv99")
    assert "block3a" in error


def test_too_few_images_to_hold_some_out(tlcli: CommandLine, tmp_path: Path) -> None:
    single = tiny.draw(tmp_path / "single", ["apple", "leaf"], count=1)
    tlcli("pretrain", single, "--out", tmp_path / "run")
    assert "hold some out" in tlcli.error(3, "finetune", tmp_path / "run", single)
    options = ("--out", tmp_path / "other", "--weights", "none")
    assert "hold some out" in tlcli.error(3, "pretrain", single, *options)
    assert left_in(tmp_path) == {"single", "run"}


def test_unreadable_test_images_are_named(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    test = Path(shutil.copytree(pictures / "test", tmp_path / "test"))
    (test / "sun" / "broken.png").write_bytes(b"broken")
    tlcli("extend-classes", run, pictures / "second", "--test", test, code=3)  # plum is unknown
    shutil.rmtree(test / "plum")
    answer = tlcli.json("extend-classes", run, pictures / "second", "--test", test)
    assert "broken.png" in tlcli.err
    assert answer["validation"]["images"] == 16


@pytest.mark.parametrize("command", ["pretrain", "extend-classes"])
def test_test_images_that_nobody_can_know_are_refused_before_features_are_computed(
    tlcli: CommandLine,
    run: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("features were computed")

    monkeypatch.setattr(Extractor, "features", refuse)
    words: dict[str, tuple[object, ...]] = {
        "pretrain": (pictures / "first", "--out", tmp_path / "new"),
        "extend-classes": (run, pictures / "second"),
    }
    given = words[command]
    assert "'plum'" in tlcli.error(3, command, *given, "--test", pictures / "test")


def test_no_permission_to_write(
    tlcli: CommandLine, run: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "Permission denied" in tlcli.error(6, "extend-classes", run, pictures / "second")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_bug_names_its_log(
    tlcli: CommandLine, run: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tlcli import heads

    monkeypatch.setattr(heads, "load", lambda path: 1 / 0)
    error = tlcli.error(1, "predict", run, data)
    assert "ZeroDivisionError" in Path(error.split()[-1]).read_text()


def test_the_config_file(
    tlcli: CommandLine, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[pretrain]\nhead = "softmax"\n[rounds.show]\nround = 1\n')
    command = ("--config", config, "pretrain", data)
    assert tlcli.json(*command, "--out", tmp_path / "a")["head"] == "softmax"
    assert tlcli.json(*command, "--out", tmp_path / "b", "--head", "lda")["head"] == "lda"
    monkeypatch.setenv("TLCLI_PRETRAIN_HEAD", "lda")
    assert tlcli.json(*command, "--out", tmp_path / "c")["head"] == "lda"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[pretrain]\nbackbon = "MobileNet"\n', "'backbone'"),
        ("[pretrian]\nseed = 1\n", "'pretrain'"),
        ("[rounds.sho]\n", "'show'"),
        ("pretrain = 3\n", "[pretrain]"),
        ("[pretrain\n", "TOML"),
        ('[pretrain]\nepochs = "many"\n', "epochs"),
    ],
)
def test_a_config_that_cannot_be_meant(
    tlcli: CommandLine, data: Path, tmp_path: Path, text: str, named: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(text)
    out = tmp_path / "run"
    assert named in tlcli.error(2, "--config", config, "pretrain", data, "--out", out)


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--engine", "torch", "openvino"),
        ("--precision", "f16", "bf16"),
    ],
)
def test_an_unknown_engine_or_precision(
    tlcli: CommandLine, data: Path, tmp_path: Path, option: str, value: str, named: str
) -> None:
    error = tlcli.error(2, "pretrain", data, "--out", tmp_path / "run", option, value)
    assert value in error
    assert named in error
    assert left_in(tmp_path) == {"data"}


def test_a_precision_that_the_processor_lacks(
    tlcli: CommandLine,
    data: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where no other test has left these images' features in the cache."""
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    nowhere = openvino_ir.Precision(capability="that no processor has")
    monkeypatch.setitem(openvino_ir.PRECISIONS, "bf16", nowhere)
    run = tmp_path / "run"
    error = tlcli.error(2, "pretrain", data, "--out", run, "--precision", "bf16")
    assert "no bf16 arithmetic" in error
    assert left_in(tmp_path) == {"data"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--format", "onnx2"], "onnx2"),
        (["--out", "model.h5"], "model.h5. Rename --out."),
        (["--out", "model.onnx"], "model.onnx. Add --format onnx, or rename --out."),
        (["--format", "onnx"], "model.keras. Add --format keras, or rename --out."),
        (["--out", "model"], "model. Rename --out."),
    ],
)
def test_an_export_that_cannot_be_meant(
    tlcli: CommandLine, run: Path, tmp_path: Path, options: list[str], named: str
) -> None:
    assert named in tlcli.error(2, "export", run, "--out", tmp_path / "model.keras", *options)
    assert not (tmp_path / "model.keras").exists()


@pytest.mark.parametrize("place", ["data/run", "data/apple/run", "data/../data/run", "linked/run"])
def test_a_run_among_the_classes(
    tlcli: CommandLine, data: Path, tmp_path: Path, place: str
) -> None:
    """Its pictures of curves would be a class the next time."""
    (tmp_path / "linked").symlink_to(data)
    assert "outside of DATA" in tlcli.error(2, "pretrain", data, "--out", tmp_path / place)
    error = tlcli.error(2, "adopt", "imagenet", "--data", data, "--out", tmp_path / place)
    assert "outside of DATA" in error
    assert left_in(data) == {"apple", "leaf"}


def test_a_file_where_a_folder_is_to_be(tlcli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("mine")
    assert "is a file" in tlcli.error(2, "demo", "--out", tmp_path / "thesis")
    assert (tmp_path / "thesis").read_text() == "mine"


def test_an_export_into_a_missing_folder(tlcli: CommandLine, run: Path, tmp_path: Path) -> None:
    target = tmp_path / "none" / "model.keras"
    assert str(target.parent) in tlcli.error(6, "export", run, "--out", target)
