"""The kind of arithmetic that features are computed with: measured, not looked up.

The last bits of a feature depend on the processor's instructions, on the library and its version,
on the device, with Keras on the number of threads. None of these tells which of them agree:
OpenVINO gives the same bits on every processor with AVX2 and FMA, and a new version may or may not
change them. So an engine is asked for the features of two images that are the same everywhere, and
the digest of their bits is the name of the kind. Where two digests are equal, features may mix.

    arithmetic/<64 hex>     in the cache folder: a digest, and its checksum
"""

import contextlib
import hashlib
import json
import os
import platform
import re
from collections.abc import Callable, Iterable
from functools import cache as once
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones, cache, files, images, strict
from tlcli.backbones import StoredBackbone
from tlcli.errors import StorageError

PROBES = 2
DIGITS = 12
"""Hex digits of a digest that are kept."""

AVX2_AND_FMA = "cd1a49ef11c2"
"""Of EfficientNetLite0 at 64 pixels with OpenVINO 2026.4 on x86-64 processors that have both."""

_ENVIRONMENT = re.compile(r"(ONEDNN|DNNL|OPENVINO|OV|TF|XLA|OMP|KMP|CUDA|HIP|ROCR)_.*")
"""Variables that may change how an engine computes."""

Features = Callable[[Iterable[NDArray[np.uint8]]], Iterable[NDArray[np.float32]]]
"""From raw images (S, S, 3) to a feature vector (D,) each."""


def measured(
    stored: StoredBackbone,
    engine: str,
    libraries: tuple[str, ...],
    open_engine: Callable[[], Features],
) -> str:
    """The kind of arithmetic with which an engine computes a backbone's features here and now.

    The engine is opened when this machine has not been asked before; the answer is kept in the
    cache folder, under everything that may change it.

    Args:
        stored: the backbone.
        engine: its name, which is part of the answer for people to read.
        libraries: the packages that compute.
        open_engine: gives its `features`.

    Raises:
        EngineUnavailable: it cannot run the backbone on this machine.
    """
    place = cache.folder() / "arithmetic" / _situation(stored, engine, libraries)
    digest = _remembered(place)
    if digest is None:
        digest = _digest(open_engine()(backbones.probe_images(stored.image_size, PROBES)))
        _remember(place, digest)
    return f"{engine} {digest}"


def _digest(vectors: Iterable[NDArray[np.float32]]) -> str:
    hasher = hashlib.sha256()
    for vector in vectors:
        hasher.update(vector.astype("<f4").tobytes())
    return hasher.hexdigest()[:DIGITS]


def _situation(stored: StoredBackbone, engine: str, libraries: tuple[str, ...]) -> str:
    """A digest of all that may change the bits of a feature, but for the image."""
    facts: dict[str, Any] = {
        "backbone": stored.fingerprint,
        "engine": engine,
        "versions": backbones.versions(libraries),
        "machine": platform.machine(),
        "processor": processor(),
        "processors": images.PROCESSORS,
        "devices": gpus(),
        "environment": {
            name: value for name, value in sorted(os.environ.items()) if _ENVIRONMENT.match(name)
        },
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def gpus() -> list[str]:
    """The devices that the system shows where there is a GPU."""
    found = (*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("kfd"))
    return sorted(map(str, found))


def is_usual(kind: str) -> bool:
    """Whether `doctor` got the kind of every processor with AVX2 and FMA."""
    return kind == f"openvino {AVX2_AND_FMA}"


@once
def processor() -> dict[str, str]:
    """The model of the processor and its instruction sets, as far as the system tells."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        facts = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
        found = {name.strip(): value.strip() for name, value in facts.items()}
        return {name: found[name] for name in ("model name", "flags", "Features") if name in found}
    return {"model name": platform.processor()}


def _remembered(place: Path) -> str | None:
    """The digest that was kept; None where there is none, or it is damaged."""
    with contextlib.suppress(OSError, ValueError):
        digest, checksum = strict.content_of(place, 1000).decode("ascii").split()
        if checksum == _checksum(place, digest):
            return digest
    return None


def _remember(place: Path, digest: str) -> None:
    """Keep a digest, where that is possible: it can be measured again."""
    with contextlib.suppress(OSError, StorageError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with files.written(place) as stream:
            stream.write(f"{digest} {_checksum(place, digest)}\n".encode())


def _checksum(place: Path, digest: str) -> str:
    return hashlib.sha256(f"{place.name} {digest}".encode()).hexdigest()
