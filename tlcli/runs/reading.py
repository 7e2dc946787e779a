"""Runs and their rounds as they are; readers take no lock."""

import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tlcli import files
from tlcli.errors import RunError, UsageError
from tlcli.manifest import Manifest, read_manifest, round_name
from tlcli.runs.parts import (
    TRAINING,
    backbones_folder,
    looking_at,
    projections_folder,
    require_own,
    rounds_folder,
)

_ROUND_NAME = re.compile(r"[0-9]{4}|[1-9][0-9]{4,}")


Read = TypeVar("Read")


@dataclass(frozen=True)
class Round:
    """One committed round."""

    folder: Path
    manifest: Manifest

    @property
    def number(self) -> int:
        """1 for the first round."""
        return self.manifest.round

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes in registry order."""
        return self.manifest.class_names

    def file(self, name: str) -> Path:
        """The path of one of the round's files, after its bytes were compared with the manifest.

        Raises:
            RunError: the file is missing or its bytes changed.
        """
        damage = self._damage(name)
        if damage:
            raise RunError(
                f"Expected an intact round. Received: {damage}. "
                f"Run `tlcli rounds verify {self.folder.parent.parent}` to see what else is."
            )
        return self.folder / name

    def damages(self) -> list[str]:
        """One sentence for each file that is missing or whose bytes changed."""
        return [damage for name in self.manifest.files if (damage := self._damage(name))]

    def _damage(self, name: str) -> str | None:
        path = self.folder / name
        try:
            if name not in self.manifest.files:
                return f"{path} is missing"
            if files.sha256(path) != self.manifest.files[name]:
                return f"{path} was changed after it was saved"
        except FileNotFoundError:
            return f"{path} is missing"
        except OSError as error:
            files.require_resources(error, path)
            return f"{path} cannot be read ({error.strerror or error})"
        return None

    def bytes_of(self, name: str) -> int:
        """The size of one of the round's files; 0 where it is none that can be looked at."""
        try:
            status = (self.folder / name).lstat()
        except OSError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0


@dataclass(frozen=True)
class Run:
    """A run directory with at least one committed round, opened for reading."""

    path: Path

    def numbers(self) -> list[int]:
        """The committed rounds, oldest first."""
        return _committed(self.path)

    def round(self, number: int | None = None) -> Round:
        """The given round, or the current (highest) one.

        Raises:
            UsageError: there is no such round.
            RunError: its manifest is damaged or newer than this program.
        """
        numbers = self.numbers()
        if not numbers:
            raise RunError(
                f"Expected the folder of a run. Received: {self.path} holds no round any more. It "
                "was moved or removed meanwhile: run the command again."
            )
        chosen = numbers[-1] if number is None else number
        if chosen not in numbers:
            raise UsageError(
                f"Expected a round of {self.path}: {numbers[0]} to {numbers[-1]}. "
                f"Received: round={chosen}. Choose one of these."
            )
        folder = rounds_folder(self.path) / round_name(chosen)
        require_own(folder)
        return Round(folder, read_manifest(folder))

    def rounds(self) -> list[Round]:
        """Every committed round, oldest first."""
        return [self.round(number) for number in self.numbers()]

    def way(self, number: int | None = None) -> list[Round]:
        """The rounds on the way to the given round, or the current one: the oldest first.

        Rounds that were rolled back are not on the way.

        Raises:
            UsageError, RunError: as `round`.
        """
        by_number = {entry.number: entry for entry in self.rounds()}
        way = [self.round(number)]
        while (parent := way[-1].manifest.parent) in by_number:
            way.append(by_number[parent])
        return way[::-1]

    def steadily(self, read: Callable[[], Read]) -> Read:
        """What is read of the run; once more where a prune took rounds away meanwhile."""
        while True:
            before = set(self.numbers())
            try:
                return read()
            except (RunError, UsageError, FileNotFoundError):
                if before <= set(self.numbers()):
                    raise

    @property
    def training_folder(self) -> Path:
        """Where the state of a training that goes on is kept."""
        return self.path / TRAINING

    def backbone_folder(self, fingerprint: str) -> Path:
        """Where the backbone with this fingerprint is kept."""
        return backbones_folder(self.path) / fingerprint

    def projection_file(self, fingerprint: str) -> Path:
        """Where the learned projection with this fingerprint is kept."""
        return projections_folder(self.path) / f"{fingerprint}.h5"


def open_run(path: Path) -> Run:
    """Open a run for reading; readers never wait for writers.

    Raises:
        UsageError: there is no such folder.
        RunError: the folder is not a run, or its current round is damaged or newer.
    """
    run = require_run(path)
    run.steadily(run.round)
    return run


def require_run(path: Path) -> Run:
    """The run in a folder, without a look at its rounds.

    Raises:
        UsageError: there is no such folder.
        RunError: the folder holds no committed round.
    """
    advice = "Make a run with `tlcli pretrain DATA --out RUN`."
    with looking_at(path):
        if not path.exists():
            raise UsageError(
                f"Expected the folder of a run. Received: {path} does not exist. {advice}"
            )
        if not is_run(path):
            raise RunError(
                f"Expected the folder of a run. Received: {path} holds no committed round. {advice}"
            )
        for folder in (backbones_folder(path), projections_folder(path)):
            require_own(folder)
    return Run(path)


def is_run(path: Path) -> bool:
    """Whether the folder holds a committed round.

    Raises:
        RunError: its rounds lie elsewhere.
    """
    return bool(_committed(path))


def _committed(path: Path) -> list[int]:
    folder = rounds_folder(path)
    require_own(folder)
    if not folder.is_dir():
        return []
    return sorted(
        int(entry.name) for entry in folder.iterdir() if _ROUND_NAME.fullmatch(entry.name)
    )
