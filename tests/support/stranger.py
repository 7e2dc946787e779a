"""Commands on copies of a run that a test may spoil."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.mutations import Mutation
from tlcli.cli import app

ALLOWED = (0, 3, 5)
"""Exit codes: nothing is wrong, or the data or the run is."""


class Stranger:
    """Runs commands on mutated copies of a run."""

    def __init__(
        self, capture: pytest.CaptureFixture[str], folder: Path, run: Path, pictures: Path
    ) -> None:
        self.capture, self.folder, self.run = capture, folder, run
        self.words = {
            "RUN": str(folder / "copy"),
            "FILE": str(folder / "file.moments"),
            "IMAGE": str(pictures / "first" / "apple" / "000.png"),
            "LEARNED": str(pictures / "first"),
            "NEW": str(pictures / "third"),
        }

    def copy(self) -> Path:
        """A fresh copy of the run."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        return Path(shutil.copytree(self.run, copy))

    def call(self, words: tuple[str, ...]) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self.capture.readouterr()
        code = app.run([self.words.get(word, word) for word in words])
        return code, *self.capture.readouterr()

    def complaints(
        self, mutation: Mutation, target: Callable[[], Path], words: tuple[str, ...]
    ) -> Iterator[str]:
        """What is wrong with the answer to a mutation."""
        mutation.apply(target())
        code, out, error = self.call(words)
        lines = [line for line in error.splitlines() if "warning:" not in line]
        what = f"{' '.join(words[:2])} after {mutation.name}: {code} {error[-300:]!r}"
        if code not in ALLOWED or len(lines) != (code != 0) or "Traceback" in error:
            yield what
        if not (out + error).replace("\n", "").replace("\t", "").isprintable():
            yield f"unprintable: {what}"
