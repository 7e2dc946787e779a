"""The run directory: immutable rounds, committed by a rename under a lock.

    RUN/
      backbones/<fingerprint>/   the backbone, its formats and backbone.json
      rounds/0001/               round.json  model.keras  head.h5  memory.h5  report.json
                                 features-*.h5 or exemplars-*.h5 where the memory keeps them
      training/                  the state of a training that goes on or was interrupted
      lock

A round is built in a hidden folder beside the others, every file is flushed, `round.json` with the
hash of each is written last, and the folder is renamed into place. A kill at any instant leaves
the old round or the new one; what was being built is swept away by the next writer.
"""

import contextlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import filelock

from tlcli import files
from tlcli.errors import RunError, RunLocked, UsageError
from tlcli.manifest import Manifest, read_manifest, round_name, write_manifest

_ROUND_NAME = re.compile(r"[0-9]{4}|[1-9][0-9]{4,}")


_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


_BUILDING = ".building-"


_TRAINING = "training"


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
        if name not in self.manifest.files or not path.is_file():
            return f"{path} is missing"
        if files.sha256(path) != self.manifest.files[name]:
            return f"{path} was changed after it was saved"
        return None


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
                f"Received: round={chosen}."
            )
        folder = _rounds_folder(self.path) / round_name(chosen)
        return Round(folder, read_manifest(folder))

    def rounds(self) -> list[Round]:
        """Every committed round, oldest first."""
        return [self.round(number) for number in self.numbers()]

    @property
    def training_folder(self) -> Path:
        """Where the state of a training that goes on is kept."""
        return self.path / _TRAINING

    def backbone_folder(self, fingerprint: str) -> Path:
        """Where the backbone with this fingerprint is kept."""
        return _backbones_folder(self.path) / fingerprint


def open_run(path: Path) -> Run:
    """Open a run for reading; readers never wait for writers.

    Raises:
        UsageError: there is no such folder.
        RunError: the folder is not a run, or its current round is damaged or newer.
    """
    run = require_run(path)
    run.round()
    return run


def require_run(path: Path) -> Run:
    """The run in a folder, without a look at its rounds.

    Raises:
        UsageError: there is no such folder.
        RunError: the folder holds no committed round.
    """
    advice = "Make a run with `tlcli pretrain DATA --out RUN`."
    if not path.exists():
        raise UsageError(f"Expected the folder of a run. Received: {path} does not exist. {advice}")
    if not is_run(path):
        raise RunError(
            f"Expected the folder of a run. Received: {path} holds no committed round. {advice}"
        )
    return Run(path)


def is_run(path: Path) -> bool:
    """Whether the folder holds a committed round."""
    return bool(_committed(path))


def _rounds_folder(path: Path) -> Path:
    return path / "rounds"


def _backbones_folder(path: Path) -> Path:
    return path / "backbones"


def _committed(path: Path) -> list[int]:
    folder = _rounds_folder(path)
    if not folder.is_dir():
        return []
    return sorted(
        int(entry.name) for entry in folder.iterdir() if _ROUND_NAME.fullmatch(entry.name)
    )


@dataclass(frozen=True)
class Writer:
    """The right to add to a run; exists only while its lock is held."""

    run: Run

    @property
    def next_number(self) -> int:
        """The number that the next round will have."""
        return max(self.run.numbers(), default=0) + 1

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A new hidden folder on the run's file system, gone at the end unless it was committed."""
        with files.saving(self.run.path):
            folder = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=self.run.path))
            folder.chmod(0o755)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def add_backbone(self, staged: Path, fingerprint: str) -> Path:
        """Move a complete backbone folder into the run; one that is already there is kept."""
        target = self.run.backbone_folder(fingerprint)
        if not target.exists():
            _move_in(staged, target)
        return target

    def drop(self, numbers: Iterable[int]) -> None:
        """Take rounds away, the given one first, and the backbones that no other round uses.

        Raises:
            StorageError: a round cannot be moved; those before it are gone.
        """
        with files.saving(self.run.path), self.staging() as staged:
            for number in numbers:
                name = round_name(number)
                (_rounds_folder(self.run.path) / name).rename(staged / name)
            files.sync(_rounds_folder(self.run.path))
        _sweep(self.run.path)

    def commit(self, staged: Path, manifest: Manifest) -> Round:
        """Publish the files in `staged` as the next round.

        The manifest is completed with the hash of every file, flushed last, and the folder is
        renamed into place.

        Raises:
            StorageError: it cannot be saved; the run is as it was.
        """
        hashes = {path.name: files.sha256(path) for path in sorted(staged.iterdir())}
        complete = replace(manifest, files=hashes)
        write_manifest(complete, staged)
        target = _rounds_folder(self.run.path) / round_name(manifest.round)
        _move_in(staged, target)
        return Round(target, complete)


def _move_in(staged: Path, target: Path) -> None:
    """Flush a folder and rename it into place; on failure it is not there."""
    with files.saving(target):
        target.parent.mkdir(exist_ok=True)
        for path in staged.iterdir():
            files.sync(path)
        files.sync(staged)
        staged.rename(target)
        try:
            files.sync(target.parent)
            files.sync(target.parent.parent)
        except OSError:
            target.rename(staged)
            raise


@contextmanager
def extending(path: Path, wait_seconds: float) -> Iterator[Writer]:
    """Lock an existing run for writing.

    Raises:
        RunLocked: another process holds it for longer than `wait_seconds`.
        UsageError, RunError: as `open_run`.
    """
    open_run(path)
    with locked(path, wait_seconds):
        _sweep(path)
        yield Writer(open_run(path))


@contextmanager
def creating(path: Path, wait_seconds: float) -> Iterator[Writer]:
    """Lock a folder in which the first round will be committed.

    The folder is made when missing and removed again when no round was committed, unless it holds
    the state of a training. A folder that is a run already is allowed: the caller decides what
    that means.

    Raises:
        UsageError: something else is there.
        RunLocked: another process holds it for longer than `wait_seconds`.
    """
    _require_free(path)
    existed = path.exists()
    with files.saving(path):
        path.mkdir(parents=True, exist_ok=True)
    with locked(path, wait_seconds, anew=True):
        _sweep(path)
        try:
            yield Writer(Run(path))
        finally:
            if not is_run(path) and not Run(path).training_folder.exists():
                with contextlib.suppress(OSError):
                    _remove_unborn(path, keep_folder=existed)


def require_available(path: Path, wait_seconds: float) -> None:
    """Refuse, before any image is read, a folder in which no run can be begun.

    Raises:
        UsageError, RunLocked: as `creating`.
    """
    _require_free(path)
    if (path / "lock").exists():
        with contextlib.suppress(FileNotFoundError), locked(path, wait_seconds):
            pass


def _require_free(path: Path) -> None:
    if not path.exists() or (path.is_dir() and (is_run(path) or _is_unborn(path))):
        return
    raise UsageError(
        f"Expected a new folder for the run. Received: {path} exists and is not a run. "
        "Choose another --out."
    )


def _is_unborn(path: Path) -> bool:
    """Whether the folder is empty, or holds nothing but what an interrupted first round left."""
    entries = [entry.name for entry in path.iterdir() if not entry.name.startswith(_BUILDING)]
    backbones = _backbones_folder(path)
    return not entries or (
        "lock" in entries
        and set(entries) <= {"lock", "rounds", "backbones", _TRAINING}
        and not any(_rounds_folder(path).glob("*"))
        and all(_FINGERPRINT.fullmatch(entry.name) for entry in backbones.glob("*"))
    )


def _remove_unborn(path: Path, keep_folder: bool) -> None:
    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    if not keep_folder:
        path.rmdir()


@contextmanager
def locked(path: Path, wait_seconds: float, anew: bool = False) -> Iterator[None]:
    """Hold the lock of a folder for the block; one process at a time has it.

    Args:
        path: the folder.
        wait_seconds: for another process that holds it.
        anew: make the folder again where that process removes it.

    Raises:
        RunLocked: another process holds it for longer than `wait_seconds`.
        StorageError: the lock cannot be made.
        FileNotFoundError: the folder was removed.
    """
    lock = filelock.FileLock(path / "lock")
    deadline = time.monotonic() + wait_seconds
    with files.saving(path / "lock"):
        while not lock.is_locked:
            try:
                _acquire(lock, path, max(deadline - time.monotonic(), 0.0))
            except FileNotFoundError:
                if not anew:
                    raise
                path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: filelock.BaseFileLock, path: Path, wait_seconds: float) -> None:
    try:
        lock.acquire(timeout=wait_seconds, poll_interval=0.1)
    except filelock.Timeout as error:
        raise RunLocked(
            f"Expected {path} to be free. Received: another process is writing to it. "
            "Try again later, or wait with --wait SECONDS."
        ) from error


def _sweep(path: Path) -> None:
    """Remove what a killed writer left behind: unfinished folders and unused backbones."""
    for folder in path.glob(f"{_BUILDING}*"):
        shutil.rmtree(folder, ignore_errors=True)
    kept = {entry.manifest.backbone_fingerprint for entry in Run(path).rounds()}
    for folder in _backbones_folder(path).glob("*"):
        if folder.name not in kept:
            shutil.rmtree(folder, ignore_errors=True)
