"""Files that are replaced while they are read: nothing is kept under a hash of other bytes."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from PIL import Image

import tlcli as library
from tests.support.caches import cached
from tlcli.images import FORMATS
from tlcli.library import OpenRun

Replace = Callable[[Path, bytes], None]


def encoded(seed: int, kind: str) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(stream := io.BytesIO(), kind)
    return stream.getvalue()


def by_rename(path: Path, content: bytes) -> None:
    """As editors save."""
    (aside := path.with_name("aside")).write_bytes(content)
    aside.replace(path)


def in_place(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def by_link(path: Path, content: bytes) -> None:
    """The path becomes a link to another file, as where the current one of several is linked."""
    (target := path.with_name("target")).write_bytes(content)
    (aside := path.with_name("aside")).symlink_to(target)
    aside.replace(path)


class Reader:
    """An open file that is read in two halves, with a step before, between and behind."""

    def __init__(self, file: IO[bytes], step: Callable[[], None]) -> None:
        self._file, self._step = file, step

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, size: int = -1) -> bytes:
        self._step()
        begun = self._file.read(1000)
        self._step()
        rest = self._file.read(size)
        self._step()
        return begun + rest


class Steps:
    """Every step at which a file may be replaced while a command looks at it."""

    def __init__(self, patch: pytest.MonkeyPatch, path: Path) -> None:
        self._path = path
        self.taken, self.at = 0, 0
        self.act: Callable[[], None] = lambda: None
        self._stat, self._open = Path.stat, Path.open
        patch.setattr(Path, "stat", lambda *given, **options: self._asked(*given, **options))
        patch.setattr(Path, "open", lambda *given, **options: self._opened(*given, **options))

    def begin(self, at: int, act: Callable[[], None]) -> None:
        self.taken, self.at, self.act = 0, at, act

    def step(self) -> None:
        self.taken += 1
        if self.taken == self.at:
            self.act()

    def _asked(self, path: Path, **options: Any) -> os.stat_result:
        status = self._stat(path, **options)
        if path == self._path:
            self.step()
        return status

    def _opened(self, path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        file = self._open(path, mode, *rest, **options)
        return Reader(file, self.step) if path == self._path and mode == "rb" else file


@pytest.fixture
def opened(
    tiny_backbone: None, first_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> OpenRun:
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "cache"))
    return library.open_run(first_run)


@pytest.mark.parametrize(
    ("replace", "kind"),
    [(by_rename, kind) for kind in FORMATS] + [(in_place, "PNG"), (by_link, "PNG")],
)
def test_a_file_that_is_replaced_at_any_step(
    opened: OpenRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    replace: Replace,
    kind: str,
) -> None:
    before, after = encoded(1, kind), encoded(2, kind)
    old, new = opened.predict([before, after])
    vectors = cached()
    assert len(vectors) == 2
    path = tmp_path / "image"
    steps = Steps(monkeypatch, path)
    outcomes = set()
    at = 0
    while steps.taken >= at:
        at += 1
        monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / f"cache {at}"))
        opened._predictor.extractor._stores.clear()
        path.unlink(missing_ok=True)
        path.write_bytes(before)
        steps.begin(at, lambda: replace(path, after))
        (answer,) = opened.predict(path)
        assert answer.error in (None, "the file was changed while it was in use")
        outcomes.add(answer.top)
        assert cached().items() <= vectors.items()
        reached = steps.taken
        steps.begin(0, lambda: None)
        assert opened.predict(path)[0].top == (new.top if reached >= at else old.top)
        assert cached().items() <= vectors.items()
        steps.taken = reached
    assert at > 10
    assert outcomes == {(), old.top, new.top}


def test_a_file_whose_bytes_are_given_too_is_answered_at_any_step(
    opened: OpenRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = encoded(1, "PNG"), encoded(2, "PNG")
    old, new = opened.predict([before, after])
    steps = Steps(monkeypatch, path := tmp_path / "image")
    at = 0
    while steps.taken >= at:
        at += 1
        monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / f"cache {at}"))
        opened._predictor.extractor._stores.clear()
        path.write_bytes(before)
        steps.begin(at, lambda: by_rename(path, after))
        of_path, of_bytes, again = opened.predict([path, before, path])
        assert of_bytes.top == old.top
        assert {of_path.top, again.top} <= {old.top, new.top}
    assert at > 10
