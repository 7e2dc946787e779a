"""finetune --objective of a metric, and what uses the projection, through the command line."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import CommandLine
from tests.support import tiny
from tests.support.mutations import write_round
from tlcli import images, runs
from tlcli.commands.finetune import finetune
from tlcli.commands.rounds import prune, rollback
from tlcli.config import (
    FinetuneConfig,
    Progress,
    PruneConfig,
    RollbackConfig,
    TrainingOptions,
)
from tlcli.features import learned
from tlcli.training import METRICS

NAMES = list(tiny.COLOURS)
LEARNED = ("--descriptor", "learned")
FAST = ("--objective", "softmax-margin", "--epochs", "2")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of five classes, and of three others that no run learns."""
    folder = tmp_path_factory.mktemp("metric")
    tiny.draw(folder / "data", NAMES, count=8, contrast=0.1)
    tiny.draw(folder / "others", NAMES[:3], count=6, seed=1, contrast=0.2)
    for name in NAMES[:3]:
        (folder / "others" / name).rename(folder / "others" / f"other {name}")
    return folder


@pytest.fixture(scope="module")
def trained(places: Path, tiny_backbone: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds, the second with a projection; to be copied before it is changed."""
    from tlcli.cli import app

    run = tmp_path_factory.mktemp("trained") / "run"
    assert app.run(["pretrain", str(places / "data"), "--out", str(run)]) == 0
    assert app.run(["finetune", str(run), str(places / "data"), *FAST]) == 0
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def projections(run: Path) -> list[str]:
    return sorted(path.stem for path in (run / "projections").glob("*"))


def current(run: Path) -> runs.Round:
    return runs.open_run(run).round()


def test_head_memory_and_backbone_are_as_before(tlcli: CommandLine, run: Path) -> None:
    first, second = (tlcli.json("rounds", "show", run, "--round", n) for n in (1, 2))
    assert second["command"] == "finetune"
    kept = ("head.h5", "memory.h5", "model.keras")
    assert [first["files"][name] for name in kept] == [second["files"][name] for name in kept]
    for name in ("backbone_fingerprint", "memory_sha256", "exact", "validation", "calibration"):
        assert first[name] == second[name]
    assert first["learned_projection"] is None
    assert [second["learned_projection"]] == projections(run)
    assert METRICS in second["files"]


def test_the_round_says_how_good_it_is_on_classes_held_out(tlcli: CommandLine, run: Path) -> None:
    training = tlcli.json("rounds", "show", run)["training"]
    assert training["objective"] == "softmax-margin"
    assert len(training["held_out_classes"]) == 2
    assert training["held_out_images"] == 16
    assert [row["descriptor"] for row in training["descriptors"]] == [
        *("plain", "whitened", "learned")
    ]
    for row in training["descriptors"]:
        assert row["recall_at_1"]["interval"][0] <= row["recall_at_1"]["value"]
    assert {row["than"] for row in training["differences"]} == {"plain", "whitened"}
    text = tlcli("rounds", "show", run)
    assert "MAP@R" in text
    assert "{" not in text.partition("MAP@R")[2]


def test_the_same_command_again_does_nothing(tlcli: CommandLine, run: Path, places: Path) -> None:
    assert not tlcli.json("finetune", run, places / "data", *FAST)["changed"]
    other = tlcli.json("finetune", run, places / "data", *FAST, "--seed", 1)
    assert other["changed"]
    assert len(projections(run)) == 2


def test_equal_commands_give_the_same_projection(
    tlcli: CommandLine, run: Path, places: Path
) -> None:
    shutil.rmtree(run / "rounds" / "0002")
    tlcli("finetune", run, places / "data", *FAST)
    assert current(run).manifest.learned_projection in projections(run)
    assert len(projections(run)) == 1


def test_images_that_were_not_learned_leave_no_trace(
    tlcli: CommandLine, run: Path, places: Path, tmp_path: Path
) -> None:
    (fingerprint,) = projections(run)
    held_out = tlcli.json("rounds", "show", run)["training"]["held_out_classes"]
    learned_from = next(name for name in NAMES if name not in held_out)
    more = Path(shutil.copytree(places / "data", tmp_path / "more"))
    photo = next((places / "others" / "other sky").iterdir())
    shutil.copy(photo, more / learned_from / "new.png")
    answer = tlcli.json("finetune", run, more, *FAST)
    assert "1 of 41 images are left out" in tlcli.err
    assert answer["images"]["used"] == 40
    assert current(run).manifest.learned_projection == fingerprint


def test_the_index_describes_by_it(tlcli: CommandLine, run: Path, places: Path) -> None:
    tlcli("index", "add", run, places / "others", *LEARNED)
    stats = tlcli.json("index", "stats", run)
    assert (stats["descriptor"], stats["width"]) == ("learned", 16)
    photo = next((places / "others" / "other sky").iterdir())
    found = json.loads(tlcli("index", "search", run, photo, "-k", 1, "--json"))
    assert found["neighbours"][0]["path"] == str(photo)
    said = json.loads(tlcli("predict", run, photo, "--by", "neighbours", "--json"))
    assert said["label"] == "other sky"


def test_the_index_keeps_its_own(tlcli: CommandLine, run: Path, places: Path) -> None:
    """A later projection does not change what an index compares."""
    tlcli("index", "add", run, places / "others", *LEARNED)
    before = tlcli("index", "search", run, places / "data", "--json")
    tlcli("finetune", run, places / "data", *FAST, "--seed", 1)
    assert tlcli("index", "search", run, places / "data", "--json") == before


def test_without_a_projection_there_are_no_learned_descriptors(
    tlcli: CommandLine, first_run: Path, places: Path, tmp_path: Path
) -> None:
    plain = Path(shutil.copytree(first_run, tmp_path / "plain"))
    add = ("index", "add", plain, places / "others", *LEARNED)
    assert "tlcli finetune --objective" in tlcli.error(2, *add)


def test_it_goes_from_round_to_round(tlcli: CommandLine, run: Path, places: Path) -> None:
    (fingerprint,) = projections(run)
    tlcli("extend-classes", run, places / "others")
    assert current(run).manifest.learned_projection == fingerprint
    tlcli("rename-classes", run, "sky=heaven")
    assert current(run).manifest.learned_projection == fingerprint
    tlcli("rounds", "rollback", run, "--to", 1)
    assert current(run).manifest.learned_projection is None
    tlcli("rounds", "rollback", run, "--to", 2)
    assert current(run).manifest.learned_projection == fingerprint
    tlcli("rounds", "verify", run)


def test_what_was_learned_from_does_not_outlive_its_classes(tlcli: CommandLine, run: Path) -> None:
    tlcli("remove-classes", run, "sky")
    assert "learned projection stays behind" in tlcli.err
    assert current(run).manifest.learned_projection is None
    assert len(projections(run)) == 1, "the round before has it"
    tlcli("rounds", "prune", run, "--keep", 1)
    assert projections(run) == []


@pytest.mark.slow
def test_another_backbone_has_none(tlcli: CommandLine, run: Path, places: Path) -> None:
    tlcli("finetune", run, places / "data", "--epochs", 1, "--unfreeze", 1, "--lr", "1e-6")
    assert "learned projection stays behind" in tlcli.err
    assert current(run).manifest.learned_projection is None


def test_damage_is_found(tlcli: CommandLine, run: Path, places: Path) -> None:
    (path,) = (run / "projections").iterdir()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert path.name in tlcli("rounds", "verify", run, code=5)
    assert path.name in tlcli.error(5, "index", "add", run, places / "others", *LEARNED)
    assert path.name in tlcli.error(5, "evaluate", run, places / "others", "--retrieval")
    path.unlink()
    path.symlink_to(places)
    assert "symbolic link" in tlcli.error(5, "index", "add", run, places / "others")


def test_retrieval_is_measured_on_classes_that_are_not_known(
    tlcli: CommandLine, run: Path, places: Path, tmp_path: Path
) -> None:
    mixed = Path(shutil.copytree(places / "others", tmp_path / "mixed"))
    tiny.draw(mixed, ["sky"], count=2, seed=5)
    shutil.copy(next((places / "data" / "sky").iterdir()), mixed / "sky" / "learned.png")
    answer = tlcli.json("evaluate", run, mixed, "--retrieval")
    assert answer["classes"] == ["other apple", "other leaf", "other sky"]
    assert (answer["images"], answer["questions"]) == (18, 18)
    assert (answer["known_classes"], answer["known_images"]) == (["sky"], 3)
    names = [row["descriptor"] for row in answer["descriptors"]]
    assert names == ["plain", "whitened", "learned"]
    for row in answer["descriptors"]:
        for key in (*(f"recall_at_{k}" for k in (1, 2, 4, 8)), "map_at_r", "one_shot", "five_shot"):
            assert 0 <= row[key]["value"] <= 1
    assert len(answer["differences"]) == 3
    text = tlcli("evaluate", run, mixed, "--retrieval")
    assert "learned against whitened" in text
    assert "3 images are left out" in text
    whole = tlcli.json("evaluate", run, mixed, "--retrieval", "--include-learned")
    assert (whole["images"], whole["known_included"]) == (21, True)


def test_a_round_that_goes_while_images_are_read_is_measured_no_more(
    tlcli: CommandLine, run: Path, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = images.scan

    def meanwhile(*given: Any, **options: Any) -> images.Listing:
        if len(runs.open_run(run).numbers()) > 1:
            rollback(RollbackConfig(run))
            prune(PruneConfig(run, keep=1))
        return read(*given, **options)

    monkeypatch.setattr(images, "scan", meanwhile)
    answer = tlcli.json("evaluate", run, places / "others", "--retrieval")
    assert answer["round"] == 3
    assert [row["descriptor"] for row in answer["descriptors"]] == ["plain", "whitened"]


def test_classes_that_the_projection_has_learned_are_left_out(
    tlcli: CommandLine, run: Path, tmp_path: Path
) -> None:
    """Also where the run does not know them any more."""
    fresh = tiny.draw(tmp_path / "fresh", ["sky", "sun"], count=3, seed=5)
    tlcli("rename-classes", run, "sky=heaven", "sun=star")
    error = tlcli.error(3, "evaluate", run, fresh, "--retrieval")
    assert "0 classes" in error
    assert "--include-learned" in error


def test_any_run_can_be_measured(
    tlcli: CommandLine, places: Path, first_run: Path, tmp_path: Path
) -> None:
    forgetful = tmp_path / "forgetful"
    tlcli("pretrain", places / "data", "--out", forgetful, "--memory", "none")
    tlcli("pretrain", places / "data", "--out", tmp_path / "random", "--projection", 8)
    tlcli("finetune", tmp_path / "random", places / "data", *FAST)
    for run, names in (
        (first_run, ["plain", "whitened"]),
        (forgetful, ["plain"]),
        (tmp_path / "random", ["plain", "learned"]),
    ):
        answer = tlcli.json("evaluate", run, places / "others", "--retrieval")
        assert [row["descriptor"] for row in answer["descriptors"]] == names


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--by", "neighbours"), "--by"),
        (("--fail-under", "0.5"), "--fail-under"),
        (("--all-rounds",), "--all-rounds"),
        (("--against", "run"), "--against"),
        (("--report", "x.html"), "x.html"),
    ],
)
def test_what_is_about_heads_is_refused(
    tlcli: CommandLine, run: Path, places: Path, options: tuple[str, ...], expected: str
) -> None:
    command = ("evaluate", run, places / "others", "--retrieval", *options)
    assert expected in tlcli.error(2, *command)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--objective", "simclr"), "`tlcli pretrain`"),
        (("--objective", "tripplet"), "Did you mean triplet?"),
        (("--objective", "triplet", "--unfreeze", "3"), "--into-backbone"),
        (("--objective", "triplet", "--augment", "strong"), "--augment"),
        (("--objective", "triplet", "--label-smoothing", "0.2"), "--label-smoothing"),
        (("--objective", "triplet", "--distillation-weight", "1"), "--distillation-weight"),
        (("--objective", "triplet", "--train-batch-norm"), "--train-batch-norm"),
        (("--objective", "triplet", "--distribute", "mirrored"), "--distribute"),
        (("--objective", "triplet", "--test", "photos"), "--test"),
        (("--objective", "triplet", "--batch-size", "10"), "batch-size=10"),
        (("--objective", "triplet", "--lr", "nan"), "nan"),
    ],
)
def test_words_that_do_not_fit_are_refused(
    tlcli: CommandLine, run: Path, places: Path, options: tuple[str, ...], expected: str
) -> None:
    assert expected in tlcli.error(2, "finetune", run, places / "data", *options).replace("\n", " ")
    assert current(run).number == 2


def test_pretrain_says_which_command_trains_a_projection(
    tlcli: CommandLine, places: Path, tmp_path: Path
) -> None:
    command = ("pretrain", places / "data", "--out", tmp_path / "new", "--objective", "triplet")
    assert "`tlcli finetune`" in tlcli.error(2, *command)


def test_too_few_classes_or_images_are_refused(
    tlcli: CommandLine, run: Path, places: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    for name in NAMES[:3]:
        shutil.copytree(places / "data" / name, few / name)
    assert "Received: 3 of 3" in tlcli.error(3, "finetune", run, few, *FAST)
    for name in NAMES[3:]:
        (few / name).mkdir()
        photo = next((places / "data" / name).iterdir())
        shutil.copy(photo, few / name)
    assert "Received: 3 of 5" in tlcli.error(3, "finetune", run, few, *FAST)
    strange = tlcli.error(3, "finetune", run, places / "others", *FAST)
    assert "extend-classes" in strange
    assert current(run).number == 2


def test_a_projection_that_does_harm_is_not_published(
    tlcli: CommandLine, run: Path, places: Path
) -> None:
    options = (
        "--objective",
        "softmax-margin",
        "--epochs",
        "1",
        "--lr",
        "100",
        "--clip-norm",
        "1e6",
    )
    answer = tlcli.json("finetune", run, places / "data", *options)
    assert "below that of plain descriptors" in tlcli.err
    assert "Nothing is published" in tlcli.err
    assert not answer["changed"]
    assert current(run).number == 2
    assert len(projections(run)) == 1
    assert not (run / "training").exists()


def interrupting(epoch: int) -> Progress:
    """Sends a signal within an epoch."""

    def progress(phase: str, done: int, total: int) -> None:
        if phase.startswith(f"epoch {epoch}/") and done:
            signal.raise_signal(signal.SIGINT)

    return progress


def test_an_interrupted_training_goes_on(tlcli: CommandLine, run: Path, places: Path) -> None:
    (fingerprint,) = projections(run)
    shutil.rmtree(run / "rounds" / "0002")
    shutil.rmtree(run / "projections")
    training = TrainingOptions(epochs=2)
    config = FinetuneConfig(run, str(places / "data"), "softmax-margin", training=training)
    with pytest.raises(KeyboardInterrupt):
        finetune(config, interrupting(2))
    assert current(run).number == 1
    assert projections(run) == []
    assert (run / "training").is_dir()
    other = ("--objective", "triplet", "--epochs", "2", "--resume")
    error = tlcli.error(2, "finetune", run, places / "data", *other)
    assert "objective was 'softmax-margin' and is 'triplet'" in error
    tlcli("finetune", run, places / "data", *FAST, "--resume")
    assert projections(run) == [fingerprint]
    assert not (run / "training").exists()


def changed(run: Path, **parts: NDArray[np.float32]) -> None:
    """Another projection in place of that of the run, with checksums that fit."""
    (path,) = (run / "projections").iterdir()
    given: dict[str, Any] = dict(parts)
    found = replace(learned.load(path, path.stem), **given)
    path.rename(path.with_name(f"{found.fingerprint}.h5"))
    path.with_name(f"{found.fingerprint}.h5").write_bytes(found.content)
    manifest = run / "rounds" / "0002" / "round.json"
    content = json.loads(manifest.read_text("utf-8"))
    write_round(manifest.parent, content | {"learned_projection": found.fingerprint})


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"matrix": np.full((16, 4), np.nan, np.float32)}, "not finite"),
        ({"matrix": np.zeros((16, 0), np.float32)}, "empty"),
        ({"matrix": np.zeros((9, 4), np.float32)}, "of shape"),
        (
            {"matrix": np.ones((9, 4), np.float32), "centre": np.ones(9, np.float32)},
            "projection of 16 numbers",
        ),
        ({"backbone": "0" * 64}, "those of another"),
    ],
)
def test_what_a_stranger_made_of_it_is_refused(
    tlcli: CommandLine, run: Path, places: Path, parts: dict[str, Any], expected: str
) -> None:
    changed(run, **parts)
    assert expected in tlcli.error(5, "index", "add", run, places / "others")
    assert expected in tlcli.error(5, "evaluate", run, places / "others", "--retrieval")
