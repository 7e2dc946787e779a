"""Engines: the same numbers from Keras and OpenVINO, whatever stands beside an image."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support import tiny
from tests.support.arrays import Floats, Pixels
from tlcli import backbones, engines
from tlcli.backbones import openvino_ir
from tlcli.errors import EngineUnavailable, RunError, UsageError
from tlcli.images import PROCESSORS

# Keras 3.15 copies TensorFlow's variables in a way that NumPy 2 remarks on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COUNT = 70
"""More than two batches of Keras, and more than all requests of OpenVINO."""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> backbones.StoredBackbone:
    model = tiny.build("MobileNet", 32, backbones.Random())
    return backbones.store(model, "MobileNet", "none", tmp_path_factory.mktemp("tiny") / "backbone")


@pytest.fixture(scope="module")
def images() -> Pixels:
    return backbones.probe_images(32, COUNT)


def opened(stored: backbones.StoredBackbone, name: str) -> engines.Engine:
    (choice,) = engines.choices(stored, name)
    assert choice.name == name
    return choice.open()


def features(engine: engines.Engine, images: Pixels) -> Floats:
    return np.array(list(engine.features(iter(images))))


@pytest.fixture(scope="module")
def by_engine(
    stored: backbones.StoredBackbone, images: Pixels
) -> dict[str, tuple[engines.Engine, Floats]]:
    """Each engine with its features of all images."""
    pairs = {name: opened(stored, name) for name in ("keras", "openvino")}
    return {name: (engine, features(engine, images)) for name, engine in pairs.items()}


def test_openvino_agrees_with_keras(
    by_engine: dict[str, tuple[engines.Engine, Floats]], stored: backbones.StoredBackbone
) -> None:
    (_, expected), (_, received) = by_engine["keras"], by_engine["openvino"]
    assert received.dtype == np.float32
    spread = np.sqrt(expected.var(axis=0).mean())
    assert np.abs(received - expected).max() <= openvino_ir.TOLERANCE * spread
    assert stored.openvino_deviation is not None
    assert stored.openvino_deviation <= openvino_ir.TOLERANCE


@pytest.mark.parametrize("name", ["keras", "openvino"])
def test_a_vector_depends_on_its_image_alone(
    by_engine: dict[str, tuple[engines.Engine, Floats]], images: Pixels, name: str
) -> None:
    engine, expected = by_engine[name]
    order = np.random.default_rng(0).permutation(COUNT)
    np.testing.assert_array_equal(features(engine, images[order]), expected[order])
    for count in (1, 2, 31, 33):
        np.testing.assert_array_equal(features(engine, images[:count]), expected[:count])
    assert list(engine.features(iter([]))) == []


def test_the_number_of_streams_does_not_matter(
    stored: backbones.StoredBackbone,
    by_engine: dict[str, tuple[engines.Engine, Floats]],
    images: Pixels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, expected = by_engine["openvino"]
    for count in (1, 3):
        monkeypatch.setattr("tlcli.images.PROCESSORS", count)
        np.testing.assert_array_equal(features(opened(stored, "openvino"), images), expected)


@pytest.mark.parametrize("name", ["keras", "openvino"])
def test_few_images_are_read_ahead(
    by_engine: dict[str, tuple[engines.Engine, Floats]], images: Pixels, name: str
) -> None:
    engine, _ = by_engine[name]
    taken = 0

    def endless() -> Iterator[Pixels]:
        nonlocal taken
        while True:
            taken += 1
            yield images[0]

    vectors = engine.features(endless())
    for _ in range(5):
        next(vectors)
    vectors.close()
    assert taken <= 5 + max(engines.KERAS_BATCH, 2 * PROCESSORS)


def test_an_error_among_the_images_leaves_the_engine_usable(
    by_engine: dict[str, tuple[engines.Engine, Floats]], images: Pixels
) -> None:
    engine, expected = by_engine["openvino"]

    def failing() -> Iterator[Pixels]:
        yield images[0]
        yield images[1]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(engine.features(failing()))
    np.testing.assert_array_equal(features(engine, images[:9]), expected[:9])


def names(stored: backbones.StoredBackbone, wanted: str = "auto") -> list[str]:
    return [choice.name for choice in engines.choices(stored, wanted)]


def test_auto_is_openvino_and_then_keras(stored: backbones.StoredBackbone) -> None:
    assert names(stored) == ["openvino", "keras"]
    assert names(replace(stored, openvino_deviation=None)) == ["keras"]


def test_auto_is_keras_on_a_gpu(
    stored: backbones.StoredBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_has_gpu", lambda: True)
    assert names(stored) == ["keras"]
    assert names(stored, "openvino") == ["openvino"]


def test_bf16_is_openvino_alone(stored: backbones.StoredBackbone) -> None:
    quick = replace(stored, precision="bf16")
    assert names(quick) == names(quick, "openvino") == ["openvino"]
    with pytest.raises(UsageError, match="bf16"):
        engines.choices(quick, "keras")


def test_what_cannot_be_meant_is_refused(stored: backbones.StoredBackbone) -> None:
    with pytest.raises(UsageError, match="keras, openvino"):
        engines.choices(stored, "torch")
    with pytest.raises(EngineUnavailable, match="stored without it"):
        engines.choices(replace(stored, openvino_deviation=None), "openvino")


@pytest.mark.parametrize("file", ["openvino.bin", "openvino.xml"])
def test_a_damaged_backbone_is_not_run(
    stored: backbones.StoredBackbone, tmp_path: Path, file: str
) -> None:
    for path in stored.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = bytearray((tmp_path / file).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / file).write_bytes(content)
    with pytest.raises(RunError, match=file):
        opened(replace(stored, folder=tmp_path), "openvino")


def test_a_missing_openvino_is_unavailable(
    stored: backbones.StoredBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineUnavailable, match="cannot run it here"):
        opened(stored, "openvino")


@pytest.mark.parametrize("first", ["keras_module", "tensorflow_module", "openvino_module"])
def test_openvino_reports_to_nobody(first: str) -> None:
    """Its converter would, whatever imports it: Keras' export does so by itself."""
    code = (
        f"from tlcli.backbones import runtime; runtime.{first}()\n"
        "from openvino.tools.ovc import telemetry_utils\n"
        "assert telemetry_utils.tm.__name__ == 'openvino.tools.ovc.telemetry_stub'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.returncode, done.stderr


@pytest.mark.slow
def test_openvino_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.support import tiny; from tlcli import backbones\n"
        "model = tiny.build('MobileNet', 32, None)\n"
        "stored = backbones.store(model, 'MobileNet', 'none', Path(sys.argv[1]) / 'backbone')\n"
        "assert stored.openvino_deviation is not None"
    )
    (home := tmp_path / "home").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not (home / "intel").exists()


def test_openvino_needs_no_tensorflow(stored: backbones.StoredBackbone, tmp_path: Path) -> None:
    code = (
        "import sys, numpy; from pathlib import Path; from tlcli import backbones, engines\n"
        "choice = engines.choices(backbones.load_stored(Path(sys.argv[1])), 'auto')[0]\n"
        "list(choice.open().features(iter(backbones.probe_images(32, 3))))\n"
        "sys.exit(', '.join({'tensorflow', 'keras'} & set(sys.modules)) or None)"
    )
    command = [sys.executable, "-c", code, str(stored.folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


SIGNALLED = """
import gc, os, signal, sys
from pathlib import Path
from tlcli.backbones import compiled

networks = [compiled(Path(sys.argv[1]), 32, "f32", 1) for _ in range(2)]
while networks:
    del networks[0]
    gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGINT)
"""


def test_signals_are_handled_after_two_networks_are_gone(stored: backbones.StoredBackbone) -> None:
    """Two cores of OpenVINO would leave the handler without a stack."""
    command = [sys.executable, "-c", SIGNALLED, str(stored.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
