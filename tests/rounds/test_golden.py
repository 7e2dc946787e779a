"""One hash on every processor with AVX2 and FMA: digits, drawn photographs, the default backbone.

scripts/check --slow runs this file with other instruction sets and BLAS kernels, which stand in for
other processors.
"""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlcli import arithmetic, heads, runs

pytestmark = [pytest.mark.slow, pytest.mark.numerics]

OPENVINO = "2026.4"
"""With which the golden values were computed."""


@dataclass(frozen=True)
class Golden:
    """What a run is known by."""

    arithmetic: tuple[str, ...]
    memory_sha256: str
    head: str
    """SHA-256 of weights and biases, classes in sorted order."""


DIGITS = Golden(
    ("openvino b96cd5182781",),
    "28b702ed0f9060ee6963c690962f4c7536d948833e21f74050350a0b30e4b79b",
    "9e2c84ba389ce6948aa65692d31c89867bf7aca3e5613a146879070c8798192a",
)
PHOTOGRAPHS = Golden(
    ("openvino e879837e4a7c",),
    "8f436f578616728c0df3dbd7e003666067650cef80ae7042028266f58d2ca6c8",
    "54baeb93cb231e1a1d0e2bf3d45f82270bdcba77a80dbf6d67eff436a3a2b5d4",
)


def tlcli(*arguments: object) -> dict[str, Any]:
    """The JSON object that a command prints, in a process of its own."""
    command = [sys.executable, "-m", "tlcli", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def known_by(run: Path) -> Golden:
    entry = runs.open_run(run).round()
    head = heads.load(entry.file("head.h5")).ordered(sorted(entry.classes))
    hasher = hashlib.sha256(np.ascontiguousarray(head.weights).tobytes() + head.bias.tobytes())
    manifest = entry.manifest
    return Golden(manifest.arithmetic, str(manifest.memory_sha256), hasher.hexdigest())


def assert_golden(received: Golden, golden: Golden) -> None:
    """Compare; where features have other bits for a reason, the run has to say so."""
    if received.arithmetic != golden.arithmetic and (reason := why_other_bits()):
        assert received.memory_sha256 != golden.memory_sha256
        pytest.skip(f"{reason}: {received.arithmetic[0]}, memory {received.memory_sha256[:12]}")
    assert received == golden


def why_other_bits() -> str | None:
    """What this machine, or the way it is asked to compute, has that the promise is not about."""
    if missing := {"avx2", "fma"} - set(arithmetic.processor().get("flags", "").split()):
        return f"no {' and '.join(sorted(missing))}"
    if (most := os.environ.get("ONEDNN_MAX_CPU_ISA", "")) in ("SSE41", "AVX"):
        return f"ONEDNN_MAX_CPU_ISA={most}"
    version = importlib.metadata.version("openvino")
    return None if version.startswith(OPENVINO) else f"OpenVINO {version}"


def photographs(folder: Path) -> Path:
    """Three classes of eight pictures: soft shapes of a palette, with grain."""
    random = np.random.RandomState(0)
    for name in ("coast", "forest", "street"):
        palette = random.randint(0, 256, (4, 6, 3))
        (folder / name).mkdir(parents=True)
        for number in range(8):
            soft = np.clip(palette + random.randint(-60, 60, palette.shape), 0, 255)
            image = Image.fromarray(soft.astype(np.uint8)).resize(
                (300, 200), Image.Resampling.BICUBIC
            )
            grain = random.randint(-12, 13, (200, 300, 3))
            grained = np.clip(np.asarray(image, np.int64) + grain, 0, 255).astype(np.uint8)
            Image.fromarray(grained).save(folder / name / f"{number}.png")
    return folder


def test_digits_learned_in_rounds_have_the_golden_hash(tmp_path: Path) -> None:
    told = tlcli("demo", "--out", tmp_path / "demo")
    assert told["equals_joint_training"] is True
    received = known_by(tmp_path / "demo" / "merge")
    assert known_by(tmp_path / "demo" / "joint") == received
    assert_golden(received, DIGITS)


def test_photographs_have_the_golden_hash(tmp_path: Path) -> None:
    tlcli("pretrain", photographs(tmp_path / "photographs"), "--out", tmp_path / "run")
    assert_golden(known_by(tmp_path / "run"), PHOTOGRAPHS)
