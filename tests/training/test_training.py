"""The loop and its learners on a tiny backbone."""

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from tests.support import tiny
from tests.support.arrays import Pixels
from tlcli import backbones, heads, training
from tlcli.config import TrainingOptions, no_progress
from tlcli.errors import DataError, StorageError, UsageError
from tlcli.training import (
    Checkpoints,
    Examples,
    ImageSource,
    TrainingSetup,
    contrastive,
    learner,
    loop,
)
from tlcli.training.augmentation import SHEETS, augmenter
from tlcli.training.losses import nt_xent

SIZE = 32
CLASSES = ("a", "b", "c")
OPTIONS = TrainingOptions(
    epochs=3, lr=1e-2, backbone_lr_factor=0.5, batch_size=8, augment="light", patience=9
)
STRONG = replace(OPTIONS, augment="strong")


class Stop(BaseException):
    """What the handler of these tests raises."""


def source(count: int, seed: int = 0) -> ImageSource:
    """Noise around a grey that depends on the class, which is the row modulo 3."""
    rng = np.random.default_rng(seed)
    grey = 90 + 20 * (np.arange(count) % 3)
    pixels = np.clip(grey[:, None, None, None] + rng.normal(0, 40, (count, SIZE, SIZE, 3)), 0, 255)
    hashes = tuple(f"{row:064x}" for row in range(count))
    return ImageSource(hashes, nothing_loaded, pixels.astype(np.uint8))


def nothing_loaded(hashes: object) -> NoReturn:
    raise AssertionError(f"loaded {hashes}")


def pixels_of(whole: ImageSource) -> Pixels:
    assert whole.decoded is not None
    return whole.decoded


def examples(count: int, seed: int = 0) -> Examples:
    return Examples(source(count, seed), np.arange(count) % 3)


def setting(folder: Path, **options: Any) -> TrainingSetup:
    """The tiny network with random weights; block by block, from the output."""
    model = tiny.build("tiny", SIZE, backbones.Random())
    layers = [[f"block{n}a_conv", f"block{n}a_bn"] for n in (3, 2, 1)]
    fields: dict[str, Any] = {
        "statistics": False,
        "options": OPTIONS,
        "checkpoints": Checkpoints(folder, {}),
        "resume": True,
        "callback": lambda epoch: None,
        "progress": no_progress,
    }
    return TrainingSetup(model, layers, **{**fields, **options})


def begun() -> heads.LinearHead:
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.1, (16, 3)).astype(np.float32)
    return heads.LinearHead(CLASSES, weights, np.zeros(3, np.float32), temperature=2.0)


def start() -> training.Start:
    return training.Start(begun())


def fit(
    setting: TrainingSetup, **changes: Any
) -> tuple[heads.LinearHead, training.TrainingHistory]:
    return training.fit(setting, start(), examples(30), examples(12, seed=1), **changes)


def weights_of(setting: TrainingSetup) -> list[np.ndarray]:
    return list(setting.model.get_weights())


def assert_same(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    assert all((x == y).all() for x, y in zip(a, b, strict=True))


def stopping_at(call: int) -> Any:
    """A report of progress that sends SIGTERM to this process at its n-th call."""
    calls = []

    def progress(phase: str, done: int, total: int) -> None:
        calls.append(phase)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGTERM)

    return progress


@pytest.fixture
def raising() -> Any:
    """SIGTERM raises `Stop`."""

    def handler(number: int, frame: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGTERM, handler)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("raising")
@pytest.mark.parametrize(
    ("statistics", "given"), [(True, OPTIONS), pytest.param(False, STRONG, marks=pytest.mark.slow)]
)
def test_a_stopped_training_continues_bit_for_bit(
    tmp_path: Path, statistics: bool, given: TrainingOptions
) -> None:
    options: dict[str, Any] = {"statistics": statistics, "options": given}
    whole = setting(tmp_path / "a", **options)
    head, history = fit(whole)
    for call in (3, 5):
        with pytest.raises(Stop):
            fit(setting(tmp_path / "b", **options, progress=stopping_at(call)))
    last = setting(tmp_path / "b", **options)
    other, again = fit(last)
    assert_same(weights_of(last), weights_of(whole))
    np.testing.assert_array_equal(other.weights, head.weights)
    assert [e.loss for e in again.epochs] == [e.loss for e in history.epochs]
    assert again.best == history.best


@pytest.mark.slow
@pytest.mark.usefixtures("raising")
def test_training_without_labels_continues_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tlcli.training.augmentation.VIEWS", "light")

    def run(**options: Any) -> TrainingSetup:
        given = setting(tmp_path / str(options.pop("name")), statistics=True, **options)
        training.fit_without_labels(given, source(30), source(8, seed=1))
        return given

    whole = run(name="a")
    with pytest.raises(Stop):
        run(name="b", progress=stopping_at(6))
    assert_same(weights_of(run(name="b")), weights_of(whole))


def test_a_killed_training_continues_from_its_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill leaves no time to save: here every save after the second is lost."""
    whole = setting(tmp_path / "a")
    fit(whole)
    save, calls = Checkpoints.save, []

    def third_fails(self: Checkpoints, *arguments: Any) -> None:
        calls.append(self)
        if len(calls) == 3:
            raise Stop
        save(self, *arguments)

    monkeypatch.setattr(Checkpoints, "save", third_fails)
    with pytest.raises(Stop):
        fit(setting(tmp_path / "b"))
    monkeypatch.undo()
    last = setting(tmp_path / "b")
    fit(last)
    assert_same(weights_of(last), weights_of(whole))


def test_epochs_may_be_raised(tmp_path: Path) -> None:
    fit(setting(tmp_path))
    _, history = fit(setting(tmp_path, options=replace(OPTIONS, epochs=5)))
    assert [entry.epoch for entry in history.epochs] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_without_resume_training_begins_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(setting(tmp_path))
    _, history = fit(setting(tmp_path, resume=False))
    assert len(history.epochs) == 3
    assert "--resume" in caplog.text


def test_the_best_epoch_is_kept(tmp_path: Path) -> None:
    wild = replace(OPTIONS, lr=0.3, epochs=5, augment="none")
    given = setting(tmp_path, options=wild)
    before = weights_of(given)
    good, _ = fit(setting(tmp_path / "good", options=replace(OPTIONS, augment="none")))
    _, history = training.fit(given, training.Start(good), examples(30), examples(12, seed=1))
    figures = [entry.measured for entry in history.epochs]
    assert history.kept == max(figures)
    assert figures[history.best - 1] == history.kept
    kept = Checkpoints(tmp_path, {}).load()
    assert kept is not None
    assert_same(kept[2][:1], [given.model.get_layer("block3a_conv").get_weights()[0]])
    assert any((a != b).any() for a, b in zip(weights_of(given), before, strict=True))


def test_patience_ends_the_training(tmp_path: Path) -> None:
    options = replace(OPTIONS, lr=1e-12, epochs=20, patience=2, augment="none")
    _, history = fit(setting(tmp_path, options=options))
    assert len(history.epochs) < 20


def test_batch_normalization_and_frozen_layers_keep_their_bits(tmp_path: Path) -> None:
    given = setting(tmp_path)
    given = replace(given, layers=given.layers[:1])
    before = {layer.name: layer.get_weights() for layer in given.model.layers}
    fit(given)
    moved = {
        layer.name
        for layer in given.model.layers
        if any((a != b).any() for a, b in zip(before[layer.name], layer.get_weights(), strict=True))
    }
    assert moved == {"block3a_conv"}


def test_batch_normalization_learns_where_it_is_asked_to(tmp_path: Path) -> None:
    given = setting(tmp_path, statistics=True)
    before = backbones.statistics(given.model)
    fit(given)
    assert backbones.statistics(given.model) != before


@pytest.mark.slow
def test_the_settings_of_layers_are_as_before(tmp_path: Path) -> None:
    given = setting(tmp_path, statistics=True)
    before = given.model.get_config()
    fit(given)
    assert given.model.get_config() == before


def test_dropout_is_off_below_what_learns() -> None:
    layers = backbones.keras_module().layers
    image = backbones.keras_module().Input((4,))
    x = layers.Dense(64, name="low")(layers.Dropout(0.5, name="first")(image))
    x = layers.Dense(64, name="high")(layers.Dropout(0.5, name="second")(x))
    model = backbones.keras_module().Model(image, x)
    data = np.ones((2, 4), np.float32)

    def random(names: list[str]) -> bool:
        with learner.training_mode(model, [names], statistics=False):
            a, b = (model(data, training=True).numpy() for _ in "ab")
        return bool((a != b).any())

    assert random(["low", "high"])
    assert not random(["high"])
    assert model.get_layer("first").rate == model.get_layer("second").rate == 0.5


@pytest.mark.skipif(
    "ONEDNN_MAX_CPU_ISA" in os.environ,
    reason="TensorFlow asks the processor for bfloat16, and oneDNN may not use it",
)
def test_mixed_precision_learns_and_leaves_the_backbone_as_it_was(tmp_path: Path) -> None:
    given = setting(tmp_path, options=replace(OPTIONS, mixed_precision="on", lr=0.05))
    before, config = weights_of(given), given.model.get_config()
    _, history = fit(given)
    assert all(np.isfinite(entry.loss) for entry in history.epochs)
    assert given.model.get_config() == config
    assert {weight.dtype for weight in weights_of(given)} == {np.dtype("float32")}
    full = setting(tmp_path / "full", options=replace(OPTIONS, lr=0.05))
    _, exact = fit(full)
    assert history.epochs[0].loss != exact.epochs[0].loss
    assert history.epochs[0].loss == pytest.approx(exact.epochs[0].loss, rel=0.1)
    assert len(before) == len(weights_of(given))


def test_layers_learn_more_slowly_towards_the_input(tmp_path: Path) -> None:
    given = setting(tmp_path)
    top = [backbones.keras_module().Variable(np.zeros(3, np.float32))]
    options = replace(OPTIONS, backbone_lr_factor=0.1, layer_decay=0.5)
    groups = learner.groups_of(given.model, given.layers, top, options)
    assert [group.share for group in groups] == [1.0, 0.1, 0.05, 0.025]
    assert len(groups[-1].variables) == 4


@pytest.mark.slow
def test_a_search_finds_the_rate_and_leaves_everything_as_it_was(tmp_path: Path) -> None:
    options = replace(OPTIONS, lr=None, augment="none")
    _, history = fit(setting(tmp_path / "a", options=options))
    assert 1e-5 <= history.peak <= 0.1
    known = setting(tmp_path / "b", options=replace(options, lr=history.peak))
    searched = setting(tmp_path / "c", options=options)
    fit(known)
    fit(searched)
    assert_same(weights_of(searched), weights_of(known))


def test_a_loss_that_is_not_finite_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = loop._Loop._count
    calls = []

    def broken(self: Any, loss: float, *others: Any) -> None:
        calls.append(loss)
        make(self, float("nan") if len(calls) == 6 else loss, *others)

    monkeypatch.setattr(loop._Loop, "_count", broken)
    with pytest.raises(UsageError, match="nan in epoch 2 at step 2"):
        fit(setting(tmp_path))
    loaded = Checkpoints(tmp_path, {}).load()
    assert loaded is not None
    assert len(loaded[0].epochs) == 1


def test_a_disk_that_is_full_ends_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise StorageError("Expected room.")

    monkeypatch.setattr(Checkpoints, "save", full)
    with pytest.raises(StorageError):
        fit(setting(tmp_path))


def test_a_batch_larger_than_the_data(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch-size=31"):
        fit(setting(tmp_path, options=replace(OPTIONS, batch_size=31)))
    _, history = fit(setting(tmp_path, options=replace(OPTIONS, batch_size=None)))
    assert len(history.epochs) == 3


def test_nothing_to_validate_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="hold some out"):
        training.fit(setting(tmp_path), start(), examples(12), examples(0))


def test_a_teacher_holds_the_answers_that_no_image_holds(tmp_path: Path) -> None:
    """Of three classes only two have images; the third is still answered as before."""
    rows = np.flatnonzero(np.arange(60) % 3 < 2)
    everything = source(60)
    assert everything.decoded is not None
    seen = ImageSource(tuple(map(str, rows)), everything.load, everything.decoded[rows])
    learned = Examples(seen, rows % 3)
    options = replace(OPTIONS, epochs=20, patience=99, lr=0.05, augment="none", label_smoothing=0.0)
    moved = []
    for weight in (0.0, 30.0):
        given = setting(tmp_path / str(weight), options=options)
        teacher = training.Teacher(tiny.build("tiny", SIZE, backbones.Random()), begun(), weight)
        head, _ = training.fit(given, start(), learned, learned, teacher)
        unseen = everything.decoded[2::3].astype(np.float32)
        before = begun().probabilities(teacher.model(unseen).numpy())[:, 2].mean()
        after = head.probabilities(given.model(unseen).numpy())[:, 2].mean()
        moved.append(abs(after - before))
    assert moved[1] < 0.5 * moved[0]


def test_nt_xent_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    first, second = (
        z / np.linalg.norm(z, axis=1, keepdims=True) for z in rng.normal(size=(2, 5, 4))
    )
    z = np.concatenate([first, second])
    similar = np.exp(z @ z.T / 0.5)
    losses = []
    for i in range(10):
        j = (i + 5) % 10
        losses.append(-np.log(similar[i, j] / (similar[i].sum() - similar[i, i])))
    loss, _ = nt_xent(first.astype(np.float32), second.astype(np.float32), 0.5)
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)


def test_nt_xent_of_perfect_and_of_useless_views() -> None:
    perfect = np.eye(6, dtype=np.float32)
    loss, found = nt_xent(perfect, perfect, 0.1)
    assert float(found) == 1.0
    assert float(loss) < 0.01
    alike = np.ones((6, 1), np.float32)
    loss, _ = nt_xent(alike, alike, 0.1)
    assert float(loss) == pytest.approx(np.log(11), rel=1e-3)


def test_a_training_that_does_not_spread_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tlcli.training.contrastive.LEAST_SPREAD", 2.0)
    monkeypatch.setattr("tlcli.training.augmentation.VIEWS", "none")
    given = setting(tmp_path, statistics=True, options=replace(OPTIONS, epochs=9))
    with pytest.raises(UsageError, match="collapsed"):
        training.fit_without_labels(given, source(30), source(8, seed=1))
    loaded = Checkpoints(tmp_path, {}).load()
    assert loaded is not None
    assert len(loaded[0].epochs) == contrastive.GRACE


def test_a_collapse_is_noticed() -> None:
    contrastive.require_spread(np.eye(4))
    for alike in (np.tile([1.0, 0.0], (9, 1)), 1e-5 * np.eye(4)):
        with pytest.raises(UsageError, match="collapsed"):
            contrastive.require_spread(alike)


@pytest.mark.parametrize("preset", SHEETS)
def test_every_preset_gives_images_and_labels(preset: str) -> None:
    keras = backbones.keras_module()
    raw = keras.ops.convert_to_tensor(pixels_of(source(6)).astype(np.float32))
    labels = keras.ops.one_hot(np.arange(6) % 3, 3)
    changes = augmenter(preset, seed=5)
    states = [np.array(state.numpy()) for state in changes.generators]
    images, targets = changes.mix(changes.change(raw), labels)
    assert images.shape == raw.shape
    assert float(keras.ops.min(images)) >= -1e-3
    assert float(keras.ops.max(images)) <= 255.001
    np.testing.assert_allclose(targets.numpy().sum(axis=1), 1, atol=1e-5)
    assert bool(keras.ops.any(images != raw)) == (preset != "none")
    assert bool(keras.ops.any(targets != labels)) == SHEETS[preset].mixes
    for state, value in zip(changes.generators, states, strict=True):
        state.assign(value)
    again, _ = changes.mix(changes.change(raw), labels)
    np.testing.assert_array_equal(again.numpy(), images.numpy())


def test_images_that_do_not_fit_into_memory_are_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tlcli.training.image_source.IN_MEMORY_BYTES", 0)
    whole = source(10)
    row = {key: place for place, key in enumerate(whole.hashes)}
    asked: list[str] = []

    def load(hashes: Sequence[str]) -> Pixels:
        asked.extend(hashes)
        return pixels_of(whole)[[row[key] for key in hashes]]

    read = ImageSource.of(whole.hashes, load, SIZE, no_progress)
    assert asked == []
    order = np.random.default_rng(0).permutation(10)
    got = list(read.batches(order, 4))
    assert [len(batch) for batch in got] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(got), pixels_of(whole)[order])


@pytest.mark.parametrize(
    ("unfreeze", "expected"),
    [
        ("1", [["block3a_conv", "block3a_bn"]]),
        ("block2a_bn", [["block3a_conv", "block3a_bn"], ["block2a_bn"]]),
        ("all", [[f"block{n}a_conv", f"block{n}a_bn"] for n in (3, 2, 1)]),
    ],
)
def test_what_unfreeze_means(unfreeze: str, expected: list[list[str]]) -> None:
    model = tiny.build("EfficientNetLite0", SIZE, backbones.Random())
    assert training.blocks_to_train(model, "EfficientNetLite0", unfreeze) == expected


@pytest.mark.parametrize("unfreeze", ["0", "4", "", "conv99"])
def test_what_matches_nothing_lists_the_blocks(unfreeze: str) -> None:
    model = tiny.build("EfficientNetLite0", SIZE, backbones.Random())
    with pytest.raises(UsageError, match="block1a, block2a, block3a"):
        training.blocks_to_train(model, "EfficientNetLite0", unfreeze)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "EfficientNetB0", "ResNet50V2"])
def test_statistics_of_real_networks_keep_their_bits(tmp_path: Path, name: str) -> None:
    model = backbones.build(name, SIZE, backbones.Random())
    layers = training.blocks_to_train(model, name, "all")
    before, first = backbones.statistics(model), model.get_weights()
    width = int(model.output_shape[1])
    head = heads.LinearHead(CLASSES, np.zeros((width, 3), np.float32), np.zeros(3, np.float32))
    options = replace(OPTIONS, epochs=1, patience=1)
    given = replace(setting(tmp_path, options=options), model=model, layers=layers)
    learned = examples(24)
    training.fit(given, training.Start(head), learned, learned)
    assert backbones.statistics(model) == before
    moved = [bool((a != b).any()) for a, b in zip(first, model.get_weights(), strict=True)]
    assert any(moved)
