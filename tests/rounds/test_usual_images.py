"""What a round says of old images that are gone, and what it goes by in their place."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tests.support.blobs import examples_of
from tlcli import backbones, heads, runs
from tlcli.config import RunsOn, no_progress
from tlcli.errors import UsageError
from tlcli.heads import LinearHead
from tlcli.rounds.parent import Parent
from tlcli.rounds.usual_images import sample_of, usual_images

pytestmark = pytest.mark.usefixtures("tiny_backbone")

OLD = list(tiny.COLOURS)[:3]


@pytest.fixture
def forgetful(tlcli: CommandLine, pictures: Path, tmp_path: Path) -> Path:
    """A run that keeps nothing of its images."""
    run = tmp_path / "forgetful"
    tlcli("pretrain", pictures / "first", "--out", run, "--memory", "none")
    return run


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unlabelled pictures of the old classes, in one folder."""
    drawn = tiny.draw(tmp_path_factory.mktemp("drawn"), OLD, count=4, seed=7)
    folder = tmp_path_factory.mktemp("usual")
    for number, path in enumerate(sorted(drawn.rglob("*.png"))):
        shutil.copy(path, folder / f"{number}.png")
    return folder


def head_of(run: Path, number: int | None = None) -> LinearHead:
    return heads.load(runs.open_run(run).round(number).file("head.h5"))


def test_every_run_keeps_the_mean_of_its_images(run: Path, forgetful: Path) -> None:
    kept, alone = head_of(run).generic, head_of(forgetful).generic
    assert kept is not None
    assert alone is not None
    assert kept.images == alone.images == 24
    np.testing.assert_allclose(kept.mean, alone.mean, atol=1e-3)


def test_a_round_says_which_share_of_the_sample_its_columns_claim(
    tlcli: CommandLine, forgetful: Path, pictures: Path, usual: Path
) -> None:
    before = head_of(forgetful)
    answer = tlcli.json("extend-classes", forgetful, pictures / "second", "--sample", usual)
    assert answer["strategy"] == "freeze-old"
    assert answer["usual"]["sample"] == 12
    assert 0 <= answer["usual"]["claimed"] <= 0.25
    assert answer["usual"]["origin"] == "the mean of the images learned before"
    after = head_of(forgetful)
    assert after.weights[:, :3].tobytes() == before.weights.tobytes()
    text = tlcli("extend-classes", forgetful, pictures / "third", "--sample", usual)
    assert "of 12 images of --sample" in text


def test_a_network_that_moves_without_old_images_keeps_what_they_look_like(
    tlcli: CommandLine, forgetful: Path, pictures: Path
) -> None:
    tlcli("extend-classes", forgetful, pictures / "second")
    before = head_of(forgetful).generic
    options = ("--unfreeze", "all", "--epochs", "1", "--batch-size", "4")
    tlcli("finetune", forgetful, pictures / "second", *options)
    after = head_of(forgetful).generic
    assert before is not None
    assert after is not None
    assert (after.images, after.mean.tobytes()) == (before.images, before.mean.tobytes())


def test_what_a_network_expects_is_mixed_with_what_is_seen() -> None:
    """The mean of new images, of which each counts, and a lead over all rounds."""
    head = LinearHead(("a", "b"), np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
    start = heads.generic.expected(np.zeros(2))
    assert start.images == start.expected > 0
    assert start.lead == 0
    first = examples_of(np.array([[1, 0]] * start.images, np.float32), ["c"] * start.images)
    second = examples_of(np.array([[0, 4]], np.float32), ["d"])
    once = heads.generic.joined(start, head, first)
    np.testing.assert_allclose(once.mean, [0.5, 0])
    twice = heads.generic.joined(once, head, second)
    count = start.images
    assert twice.lead / once.lead == pytest.approx((0.5 * count + 2) / (0.5 * (count + 1)))


def test_without_a_sample_it_claims_to_know_nothing(
    tlcli: CommandLine, forgetful: Path, pictures: Path
) -> None:
    answer = tlcli.json("extend-classes", forgetful, pictures / "second")
    assert (answer["usual"]["sample"], answer["usual"]["claimed"]) == (0, None)
    assert answer["validation"]["old_accuracy"] is None


def test_replay_rehearses_a_sample_where_nothing_is_kept(
    tlcli: CommandLine, forgetful: Path, pictures: Path, usual: Path
) -> None:
    options = ("extend-classes", forgetful, pictures / "second", "--strategy", "replay")
    assert "--sample" in tlcli.error(2, *options)
    assert tlcli.json(*options, "--sample", usual)["usual"]["origin"] == "--sample"


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [(None, 2, "does not exist"), (0, 3, "Received: 0 in"), (2, 3, "none in")],
)
def test_a_sample_that_is_none_leaves_the_run_as_it_was(
    tlcli: CommandLine,
    forgetful: Path,
    pictures: Path,
    tmp_path: Path,
    content: int | None,
    code: int,
    words: str,
) -> None:
    folder = tmp_path / "sample"
    if content is not None:
        folder.mkdir()
        for number in range(content):
            (folder / f"{number}.png").write_bytes(bytes([number]) * 9)
    error = tlcli.error(code, "extend-classes", forgetful, pictures / "second", "--sample", folder)
    assert words in error
    assert "sample" in error
    assert runs.open_run(forgetful).round().number == 1


def test_a_strategy_that_has_no_use_for_a_sample_says_so(
    tlcli: CommandLine, run: Path, pictures: Path, usual: Path
) -> None:
    error = tlcli.error(2, "extend-classes", run, pictures / "second", "--sample", usual)
    assert "--strategy freeze-old, lwf, replay. Received: strategy='merge'" in error


def test_the_generic_image_is_the_first_that_is_known(
    run: Path, pictures: Path, usual: Path
) -> None:
    parent = Parent.of(runs.open_run(run), RunsOn())
    bare, extractor = replace(parent.head, generic=None), parent.extractor
    sample = sample_of(extractor, str(usual), no_progress)
    new = replace(sample, labels=("new",) * len(sample))
    assert usual_images(parent.head, extractor, sample, new)[0].startswith("the mean of the images")
    origin, head = usual_images(bare, extractor, sample, new)
    assert origin == "the mean of --sample"
    assert head.generic is not None
    np.testing.assert_allclose(head.generic.mean, sample.vectors[:].mean(axis=0), rtol=1e-5)
    origin, head = usual_images(bare, extractor, None, new)
    assert "BatchNormalization" in origin
    projected = extractor.through(8)
    two = replace(new, labels=("a", *new.labels[1:]))
    assert "a guess: give --sample" in usual_images(bare, projected, None, two)[0]
    with pytest.raises(UsageError, match=r"one new class.*--sample DIR"):
        usual_images(bare, projected, None, new)


def test_the_backbone_tells_the_mean_that_it_expects() -> None:
    """max(0, N(β, γ²)) has the mean βΦ(β/γ) + γφ(β/γ)."""
    model = tiny.build("tiny", None, None)
    beta = np.linspace(-2, 2, 16)
    model.layers[-3].beta.assign(beta)
    found = backbones.expected_features(model)
    assert found is not None
    from scipy.stats import norm

    np.testing.assert_allclose(found, beta * norm.cdf(beta) + norm.pdf(beta), atol=2e-3)


def test_a_network_that_ends_otherwise_tells_nothing() -> None:
    keras = backbones.keras_module()
    image = keras.Input((8, 8, 3))
    added = keras.layers.Add()([keras.layers.Conv2D(4, 3)(image), keras.layers.Conv2D(4, 3)(image)])
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(added))
    assert backbones.expected_features(model) is None
