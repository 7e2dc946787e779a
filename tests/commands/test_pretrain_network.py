"""pretrain where the whole network learns: from random weights, and without labels."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import backbones, memory, runs

SIMCLR = ("--objective", "simclr", "--weights", "none", "--epochs", "2", "--batch-size", "8")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tiny.draw(tmp_path / "data", ["apple", "leaf", "sky"], count=12)


@pytest.fixture
def loose(data: Path, tmp_path: Path) -> Path:
    """The same images in one folder, some of them deeper."""
    folder = tmp_path / "loose"
    (folder / "deeper" / "down").mkdir(parents=True)
    for number, path in enumerate(sorted(data.glob("*/*.png"))):
        shutil.copy(path, folder / ("deeper/down" if number % 3 else ".") / f"{number}.png")
    return folder


def test_random_weights_are_trained_and_the_round_says_how(
    tlcli: CommandLine, data: Path, tmp_path: Path
) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    options = ("--weights", "none", "--epochs", "2", "--batch-size", "8", "--augment", "light")
    answer = tlcli.json("pretrain", data, "--out", run, *options)
    assert answer["training"]["epochs"] == 2
    assert answer["validation"]["method"] == "holdout"
    assert (run / "rounds" / "0001" / "metrics.jsonl").is_file()
    assert not (run / "training").exists()
    assert tlcli.json("pretrain", data, "--out", run, *options)["changed"] is False
    again = tlcli.json("pretrain", data, "--out", other, *options)
    assert again["backbone_fingerprint"] == answer["backbone_fingerprint"]
    assert again["memory_sha256"] == answer["memory_sha256"]


def test_a_backbone_without_labels_takes_classes_later(
    tlcli: CommandLine, loose: Path, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    answer = tlcli.json("pretrain", loose, "--out", run, *SIMCLR)
    assert answer["classes"] == []
    assert answer["images"]["used"] == 36
    stored = backbones.load_stored(
        runs.open_run(run).backbone_folder(answer["backbone_fingerprint"])
    )
    assert (stored.weights, stored.trained) == ("simclr", False)
    assert not (run / "rounds" / "0001" / "model.keras").exists()
    assert "without labels" in tlcli.error(2, "predict", run, data / "apple")
    assert "without labels" in tlcli.error(2, "evaluate", run, data)
    assert "without labels" in tlcli.error(2, "export", run, "--out", tmp_path / "model.keras")
    grown = tlcli.json("extend-classes", run, data)
    assert (grown["exact"], grown["strategy"]) == (True, "merge")
    assert grown["new_classes"] == ["apple", "leaf", "sky"]
    assert grown["validation"]["method"] == "cross-validation"
    test = tiny.draw(tmp_path / "test", ["apple", "leaf", "sky"], count=4, seed=1)
    report = tlcli.json("evaluate", run, test)
    assert [entry["round"] for entry in report["rounds"]] == [2]
    assert report["accuracy"] > 0.9
    assert "2" in tlcli("rounds", "list", run)
    joint = tlcli.json("pretrain", data, "--out", tmp_path / "joint", "--weights", run)
    assert joint["memory_sha256"] == grown["memory_sha256"]


@pytest.mark.slow
def test_strategies_on_a_run_that_knows_no_class(
    tlcli: CommandLine, loose: Path, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    tlcli("pretrain", loose, "--out", run, *SIMCLR)
    for strategy in ("freeze-old", "lwf", "naive"):
        error = tlcli.error(2, "extend-classes", run, data, "--strategy", strategy)
        assert "knows classes" in error
    options = ("--strategy", "joint", "--head", "softmax")
    assert tlcli.json("extend-classes", run, data, *options)["exact"] is True


@pytest.mark.slow
def test_labels_are_not_looked_at(tlcli: CommandLine, data: Path, loose: Path) -> None:
    """Class folders or none: the same images give the same backbone."""
    first, second = (
        tlcli.json("pretrain", source, "--out", source.parent / f"run-{source.name}", *SIMCLR)
        for source in (data, loose)
    )
    assert first["backbone_fingerprint"] == second["backbone_fingerprint"]


@pytest.mark.slow
def test_a_run_can_be_the_start_without_labels(
    tlcli: CommandLine, run: Path, loose: Path, tmp_path: Path
) -> None:
    options = ("--weights", run, "--objective", "simclr", "--epochs", "1", "--batch-size", "8")
    answer = tlcli.json("pretrain", loose, "--out", tmp_path / "new", *options)
    before = runs.open_run(run).round().manifest.backbone_fingerprint
    assert answer["backbone_fingerprint"] != before
    assert memory.load(runs.open_run(tmp_path / "new").round()).ledger == {}


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        (["--objective", "magic"], 2, "supervised, simclr"),
        ([*SIMCLR, "--head", "auto"], 2, "auto"),
        ([*SIMCLR, "--memory", "none"], 2, "memory"),
        ([*SIMCLR[:-1], "500"], 2, "batch-size=500"),
    ],
)
def test_what_cannot_be_meant(
    tlcli: CommandLine, loose: Path, tmp_path: Path, options: list[str], code: int, named: str
) -> None:
    assert named in tlcli.error(code, "pretrain", loose, "--out", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()


def test_a_folder_without_images(tlcli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    error = tlcli.error(3, "pretrain", tmp_path / "empty", "--out", tmp_path / "run", *SIMCLR)
    assert "empty" in error
    error = tlcli.error(2, "pretrain", tmp_path / "gone", "--out", tmp_path / "run", *SIMCLR)
    assert "gone" in error


@pytest.mark.slow
@pytest.mark.parametrize("options", [SIMCLR, ("--weights", "none", "--epochs", "1")])
def test_bad_images_are_found_before_the_training(
    tlcli: CommandLine, data: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    (data / "apple" / "bad.png").write_bytes(b"\x89PNG nothing")
    error = tlcli.error(3, "pretrain", data, "--out", tmp_path / "run", *options)
    assert "bad.png" in error
    assert not (tmp_path / "run").exists()
    answer = tlcli.json("pretrain", data, "--out", tmp_path / "run", *options, "--max-bad", "10%")
    assert [Path(entry["path"]).name for entry in answer["images"]["skipped"]] == ["bad.png"]


def test_a_sheet_shows_what_training_sees(tlcli: CommandLine, data: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    tlcli("data", "check", data, "--augment", "strong", "--sheet", sheet)
    content = sheet.read_bytes()
    assert content.startswith(b"\x89PNG")
    tlcli("data", "check", data, "--augment", "strong", "--sheet", sheet)
    assert sheet.read_bytes() == content
    tlcli("data", "check", data, "--augment", "none", "--sheet", sheet)
    assert sheet.read_bytes() != content
    for options, code, named in (
        (["--augment", "wild", "--sheet", sheet], 2, "wild"),
        (["--sheet", tmp_path / "sheet.jpg"], 2, "sheet.jpg"),
        (["--sheet", tmp_path / "nowhere" / "sheet.png"], 6, "nowhere"),
    ):
        assert named in tlcli.error(code, "data", "check", data, *options)


def test_blocks_of_a_backbone(tlcli: CommandLine) -> None:
    content = tlcli.json("backbones", "--blocks", "EfficientNetLite0")
    assert [block["name"] for block in content["blocks"]][-1].startswith("block")
    assert "--unfreeze" in tlcli("backbones", "--blocks", "EfficientNetLite0")
    assert "Nothing" in tlcli.error(2, "backbones", "--blocks", "Nothing")


@pytest.mark.slow
def test_the_same_images_without_labels_twice(
    tlcli: CommandLine, loose: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    tlcli("pretrain", loose, "--out", run, *SIMCLR)
    assert tlcli.json("pretrain", loose, "--out", run, *SIMCLR, "--resume")["changed"] is False
    (loose / "0.png").unlink()
    assert "is a run already" in tlcli.error(2, "pretrain", loose, "--out", run, *SIMCLR)


@pytest.mark.parametrize("count", [2, 4])
def test_too_few_images_without_labels(tlcli: CommandLine, tmp_path: Path, count: int) -> None:
    few = tiny.draw(tmp_path / "few", ["apple"], count=count)
    options = SIMCLR[:-2]
    error = tlcli.error(3, "pretrain", few, "--out", tmp_path / "run", *options)
    assert "as many held out" in error
    assert not (tmp_path / "run").exists()


def test_a_class_without_a_readable_image_is_refused_before_the_training(
    tlcli: CommandLine, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "plum").mkdir()
    (data / "plum" / "bad.png").write_bytes(b"\x89PNG nothing")
    monkeypatch.setattr("tlcli.training.fit", lambda *_: pytest.fail("trained"))
    options = ("--weights", "none", "--max-bad", "10%")
    assert "'plum'" in tlcli.error(3, "pretrain", data, "--out", tmp_path / "run", *options)


@pytest.mark.slow
def test_the_seed_decides_the_random_weights(
    tlcli: CommandLine, data: Path, tmp_path: Path
) -> None:
    """At a rate at which nothing moves, the weights are the ones that training started from."""
    still = ("--weights", "none", "--epochs", "1", "--lr", "1e-20", "--weight-decay", "0")
    first, second = (
        tlcli.json("pretrain", data, "--out", tmp_path / seed, *still, "--seed", seed)
        for seed in ("1", "2")
    )
    kernels = [
        backbones.load_model(
            backbones.load_stored(
                runs.open_run(tmp_path / seed).backbone_folder(answer["backbone_fingerprint"])
            )
        )
        .get_layer("block1a_conv")
        .get_weights()[0]
        for seed, answer in (("1", first), ("2", second))
    ]
    assert (kernels[0] != kernels[1]).any()


def test_options_of_a_training_that_does_not_take_place_are_named(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    data, usual = pictures / "first", ("--seed", "3")
    tlcli("pretrain", data, "--out", tmp_path / "a", *usual)
    assert "no effect" not in tlcli.err
    tlcli("pretrain", data, "--out", tmp_path / "b", *usual, "--epochs", "5", "--batch-size", "8")
    assert "--epochs, --batch-size: no effect, as pretrained weights" in tlcli.err
