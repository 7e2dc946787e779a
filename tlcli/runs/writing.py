"""The right to change a run: rounds built aside and renamed into place, under its lock."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tlcli import files, signals
from tlcli.errors import StorageError, UsageError
from tlcli.manifest import Manifest, round_name, write_manifest
from tlcli.runs.locking import locked
from tlcli.runs.parts import (
    BUILDING,
    FINGERPRINT,
    LOCK,
    TRAINING,
    backbones_folder,
    projections_folder,
    require_own,
    rounds_folder,
)
from tlcli.runs.reading import Round, Run, is_run, open_run


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
            folder = Path(tempfile.mkdtemp(prefix=BUILDING, dir=self.run.path))
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

    def add_projection(self, content: bytes, fingerprint: str) -> None:
        """Write the file of a learned projection; no round names it yet.

        Raises:
            StorageError: it cannot be saved.
        """
        path = self.run.projection_file(fingerprint)
        with files.saving(path):
            path.parent.mkdir(exist_ok=True)
            with files.written(path) as stream:
                stream.write(content)
            files.sync(self.run.path)

    def drop(self, numbers: Iterable[int]) -> None:
        """Take rounds away, the first one first, and the backbones that no other round uses.

        Raises:
            StorageError: a round cannot be moved, and those before it are gone; or they are gone,
                and their files cannot be deleted.
        """
        with signals.held(), files.saving(self.run.path):
            with self.staging() as staged:
                for number in numbers:
                    name = round_name(number)
                    (rounds_folder(self.run.path) / name).rename(staged / name)
                for folder in (rounds_folder(self.run.path), staged, self.run.path):
                    files.sync(folder)
            if left := _sweep(self.run.path):
                raise StorageError(
                    f"Expected to be able to delete {left[0]}. Received: files in it that stay. "
                    "The rounds are gone; make the folder writable, and the next command that "
                    "writes to the run deletes it."
                )

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
        target = rounds_folder(self.run.path) / round_name(manifest.round)
        _move_in(staged, target)
        return Round(target, complete)


def _move_in(staged: Path, target: Path) -> None:
    """Flush a folder and rename it into place; on failure it is not there."""
    with signals.held(), files.saving(target):
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
    for folder in (
        rounds_folder(path),
        backbones_folder(path),
        projections_folder(path),
        path / TRAINING,
    ):
        require_own(folder)
    with locked(path, wait_seconds):
        _sweep(path)
        yield Writer(open_run(path))


@contextmanager
def creating(path: Path, wait_seconds: float) -> Iterator[Writer]:
    """Lock a folder in which the first round will be committed.

    The folder is made when missing and removed again when no round was committed, as is one that
    a killed process left, unless it holds the state of a training. A folder that is a run already
    is allowed: the caller decides what that means.

    Raises:
        UsageError: something else is there.
        RunLocked: another process holds it for longer than `wait_seconds`.
    """
    _require_free(path)
    with files.saving(path):
        made = files.make_folders(path) or [path] * (path / LOCK).exists()
    for folder in (rounds_folder(path), backbones_folder(path), path / TRAINING):
        require_own(folder)
    try:
        with locked(path, wait_seconds, anew=True):
            try:
                # The lock tells what is left after a power failure from a foreign folder.
                with files.saving(path):
                    files.sync(path)
                _sweep(path)
                yield Writer(Run(path))
            finally:
                if not is_run(path) and not Run(path).training_folder.exists():
                    with suppress(OSError):
                        _empty(path)
    finally:
        files.remove_empty(made)


def require_available(path: Path, wait_seconds: float) -> None:
    """Refuse, before any image is read, a folder in which no run can be begun.

    Raises:
        UsageError, RunLocked: as `creating`.
    """
    _require_free(path)
    if (path / LOCK).exists():
        with suppress(FileNotFoundError), locked(path, wait_seconds):
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
    entries = [entry.name for entry in path.iterdir() if not entry.name.startswith(BUILDING)]
    backbones = backbones_folder(path)
    return not entries or (
        LOCK in entries
        and set(entries) <= {LOCK, "rounds", "backbones", TRAINING}
        and not any(rounds_folder(path).glob("*"))
        and all(FINGERPRINT.fullmatch(entry.name) for entry in backbones.glob("*"))
    )


def _empty(path: Path) -> None:
    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _sweep(path: Path) -> list[Path]:
    """Remove what a killed writer left behind: unfinished folders, unused parts.

    Those that cannot be removed come back.
    """
    manifests = [entry.manifest for entry in Run(path).rounds()]
    kept = {manifest.backbone_fingerprint for manifest in manifests}
    kept |= {f"{manifest.learned_projection}.h5" for manifest in manifests}
    parts = (*backbones_folder(path).glob("*"), *projections_folder(path).glob("*"))
    unused = [entry for entry in parts if entry.name not in kept]
    left_behind = [*path.glob(f"{BUILDING}*"), *unused]
    for entry in left_behind:
        _remove(entry)
    return [entry for entry in left_behind if entry.exists()]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
