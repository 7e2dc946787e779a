"""OpenVINO beside a stored backbone, and prepared backbones in the cache."""

import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from tests.support import tiny
from tests.support.disk import largest_file
from tlcli import backbones, cache
from tlcli.backbones import openvino_ir
from tlcli.errors import EngineUnavailable, StorageError

Prepare = Callable[..., tuple[backbones.StoredBackbone, int]]

# Keras 3.15 copies TensorFlow's variables in a way that NumPy 2 remarks on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAME = "MobileNet"
NOTHING: dict[str, str] = {}


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.build(NAME, 32, backbones.Random())


def is_without_openvino(stored: backbones.StoredBackbone) -> bool:
    return stored.openvino_deviation is None and not list(stored.folder.glob("openvino.*"))


def test_features_that_differ_are_refused(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(openvino_ir, "TOLERANCE", 1e-12)
    stored = backbones.store(model, NAME, "none", tmp_path)
    assert is_without_openvino(stored)
    assert backbones.load_stored(tmp_path) == stored
    (record,) = caplog.records
    assert "runs with Keras" in record.message
    assert "differ" in record.message


def test_nan_features_are_refused(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_ir, "deviation", lambda *_: float("nan"))
    assert is_without_openvino(backbones.store(model, NAME, "none", tmp_path))


def test_without_openvino_there_is_keras(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert is_without_openvino(backbones.store(model, NAME, "none", tmp_path))
    assert len(caplog.records) == 1


def test_what_openvino_cannot_express_runs_with_keras(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(folder: Path, *_: object) -> NoReturn:
        (folder / "openvino.xml").write_text("half")
        raise RuntimeError("Check 'x' failed at y.cpp:1:\nunsupported operation: Erfc")

    monkeypatch.setattr(model, "export", lambda path, **_: fail(tmp_path))
    assert is_without_openvino(backbones.store(model, NAME, "none", tmp_path))
    assert "unsupported operation: Erfc" in caplog.text


def test_a_full_disk_is_not_taken_for_a_network_that_openvino_cannot_express(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as disk:

        def fail(*_: object, **__: object) -> NoReturn:
            disk.enter_context(largest_file(10))
            raise RuntimeError("basic_ios::clear: iostream error")

        monkeypatch.setattr(model, "export", fail)
        with pytest.raises(StorageError, match=r"openvino\.bin.*too large"):
            backbones.store(model, NAME, "none", tmp_path)


def test_precision_is_part_of_the_fingerprint(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = openvino_ir.compiled
    asked = []

    def record(folder: Path, size: int, precision: str, streams: int) -> Any:
        asked.append(precision)
        return compiled(folder, size, "f32", streams)

    monkeypatch.setattr(openvino_ir, "compiled", record)
    plain = backbones.store(model, NAME, "none", tmp_path / "f32")
    quick = backbones.store(model, NAME, "none", tmp_path / "bf16", "bf16")
    assert asked == ["f32", "f32", "bf16"]
    assert (plain.precision, quick.precision) == ("f32", "bf16")
    assert plain.fingerprint != quick.fingerprint
    assert plain.files == quick.files


def test_bf16_is_refused_where_it_cannot_be(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = openvino_ir.Precision(capability="that no processor has")
    monkeypatch.setitem(openvino_ir.PRECISIONS, "bf16", nowhere)
    with pytest.raises(EngineUnavailable, match=r"no bf16 arithmetic.*Leave --precision out"):
        backbones.store(model, NAME, "none", tmp_path, "bf16")


def test_the_deviation_is_in_units_of_the_spread(tmp_path: Path, model: Any) -> None:
    backbones.store(model, NAME, "none", tmp_path)
    images = backbones.probe_images(32)
    features = np.asarray(model(images))
    spread = np.sqrt(features.var(axis=0).mean())
    shifted = features.copy()
    shifted[3, 5] += 0.5 * spread
    assert openvino_ir.deviation(tmp_path, images, features) < 1e-4
    assert openvino_ir.deviation(tmp_path, images, shifted) == pytest.approx(0.5, rel=0.05)


@pytest.fixture
def prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any) -> Prepare:
    """Prepare the backbone in a new folder; how often it was built so far.

    The export is a stand-in: it takes longer than everything else.
    """

    def export(model: Any, folder: Path) -> None:
        for file in backbones.OPENVINO_FILES:
            (folder / file).write_text(f"{file} of {model.name}")

    monkeypatch.setattr(openvino_ir, "export", export)
    monkeypatch.setattr(openvino_ir, "deviation", lambda *_: 1e-6)
    monkeypatch.setattr(openvino_ir, "compiled", lambda *_, **__: None)
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "cache"))
    weights = tmp_path / "some.weights.h5"
    model.save_weights(weights)
    built = []

    def build() -> Any:
        built.append(1)
        return model

    def call(
        name: str = NAME,
        size: int = 32,
        precision: str = "f32",
        drawing: dict[str, Any] = NOTHING,
        weights: Path = weights,
    ) -> tuple[backbones.StoredBackbone, int]:
        folder = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        folder.mkdir()
        source = backbones.WeightsFile(str(weights))
        return backbones.prepare(name, size, source, precision, drawing, folder, build), len(built)

    return call


def contents(stored: backbones.StoredBackbone) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in stored.folder.iterdir()}


def kept() -> list[Path]:
    return sorted((cache.folder() / "backbones").iterdir())


def test_a_backbone_is_prepared_once(prepare: Prepare) -> None:
    first, _ = prepare()
    second, built = prepare()
    assert built == 1
    assert contents(second) == contents(first)
    assert second == backbones.load_stored(second.folder)


@pytest.mark.parametrize(
    "other",
    [{"name": "MobileNetV2"}, {"size": 48}, {"precision": "bf16"}, {"drawing": {"fit": "crop"}}],
    ids=str,
)
def test_another_backbone_is_another_entry(prepare: Prepare, other: dict[str, Any]) -> None:
    prepare()
    assert prepare(**other)[1] == 2
    assert len(kept()) == 2


def test_other_weights_are_another_entry(prepare: Prepare, tmp_path: Path) -> None:
    prepare()
    path = tmp_path / "some.weights.h5"
    path.write_bytes(path.read_bytes() + b"x")
    assert prepare()[1] == 2


@pytest.mark.parametrize("file", ["model.keras", "openvino.bin", "backbone.json"])
def test_damage_is_noticed_and_repaired(
    prepare: Prepare, caplog: pytest.LogCaptureFixture, file: str
) -> None:
    first, _ = prepare()
    path = kept()[0] / file
    path.write_bytes(path.read_bytes()[:-7])
    second, built = prepare()
    assert built == 2
    assert contents(second) == contents(first)
    assert len([record for record in caplog.records if "prepared again" in record.message]) == 1
    assert prepare()[1] == 2


def test_a_cache_that_cannot_be_written_is_done_without(
    prepare: Prepare, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("in the way")
    assert prepare()[1] == 1
    assert prepare()[1] == 2
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_full_disk_is_no_damage_of_what_is_kept(prepare: Prepare) -> None:
    prepare()
    with largest_file(1000), pytest.raises(StorageError, match="too large"):
        prepare()
    assert prepare()[1] == 1


def test_a_half_copied_backbone_is_not_taken(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill: nothing has the final name before it is whole."""
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.rename", _refuse)
        prepare()
    assert kept() == []
    assert prepare()[1] == 2


def _refuse(*_: object) -> NoReturn:
    raise OSError("no rename")
