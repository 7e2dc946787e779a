"""One hash on every processor with AVX2 and FMA: digits, drawn photographs, the default backbone.

scripts/check --slow runs this file with other instruction sets and BLAS kernels, which stand in for
other processors.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlcli import heads, runs

pytestmark = [pytest.mark.slow, pytest.mark.numerics]

GOLDEN = {
    "digits": (
        "b9570c71dfd648d40f288c251abbae5c4ca6c14d9cd76528d2977e3ac43f7f61",
        "06a5e811d7225236cb5e246a3bf1fb6b34e9f89235656944f97b0044f38f12bd",
    ),
    "photographs": (
        "88e703690194caad9a49b6f20a1506c6c4ce1426f988f672edac593d6bba7bd5",
        "2f7b867fd9c36da6140edd83582f31791905c62af63bdc973d54c9bfd69beac5",
    ),
}
"""memory_sha256, and the digest of the head's weights and biases."""


def tlcli(*arguments: object) -> dict[str, Any]:
    """The JSON object that a command prints, in a process of its own."""
    command = [sys.executable, "-m", "tlcli", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def digests(run: Path) -> tuple[str, str]:
    entry = runs.open_run(run).round()
    head = heads.load(entry.file("head.h5")).ordered(sorted(entry.classes))
    hasher = hashlib.sha256(np.ascontiguousarray(head.weights).tobytes() + head.bias.tobytes())
    return str(entry.manifest.memory_sha256), hasher.hexdigest()


def photographs(folder: Path) -> Path:
    """Three classes of eight pictures: soft shapes of a palette, with grain."""
    random = np.random.RandomState(0)
    for name in ("coast", "forest", "street"):
        palette = random.randint(0, 256, (4, 6, 3))
        (folder / name).mkdir(parents=True)
        for number in range(8):
            soft = np.clip(palette + random.randint(-60, 60, palette.shape), 0, 255)
            image = Image.fromarray(soft.astype(np.uint8)).resize((300, 200), Image.BICUBIC)
            grain = random.randint(-12, 13, (200, 300, 3))
            grained = np.clip(np.asarray(image, np.int64) + grain, 0, 255).astype(np.uint8)
            Image.fromarray(grained).save(folder / name / f"{number}.png")
    return folder


def test_digits_learned_in_rounds_have_the_golden_hash(tmp_path: Path) -> None:
    told = tlcli("demo", "--out", tmp_path / "demo")
    assert told["equals_joint_training"] is True
    received = digests(tmp_path / "demo" / "merge")
    assert digests(tmp_path / "demo" / "joint") == received
    assert received == GOLDEN["digits"]


def test_photographs_have_the_golden_hash(tmp_path: Path) -> None:
    tlcli("pretrain", photographs(tmp_path / "photographs"), "--out", tmp_path / "run")
    assert digests(tmp_path / "run") == GOLDEN["photographs"]
