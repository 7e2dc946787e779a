"""The training state on disk: written whole or not at all, continued bit for bit.

    FOLDER/
      state.json      what is trained, how far it is, names and hashes of the two files below
      state-*.h5      every variable that a step changes: weights, optimizer slots, random states
      best-*.h5       the weights of the best epoch so far
      metrics.jsonl   one line an epoch, for people

`state.json` is replaced last, by a rename: it always names a complete state.
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tlcli import files, strict
from tlcli.errors import RunError, UsageError
from tlcli.strict import Malformed
from tlcli.strict.arrays import array_file

FORMAT = 1

_MOST_BYTES = 2**25
"""Of `state.json`."""

STATE = "state.json"
METRICS = "metrics.jsonl"
ROUND = "round"
"""In an identity: the round that the training starts from."""

Arrays = list[NDArray[Any]]


@dataclass(frozen=True, order=True)
class Score:
    """A state is better with a higher accuracy, and among equals with a smaller loss."""

    accuracy: float
    negative_loss: float
    """Mean loss on held-out images, negative so that more is better."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: a line of `metrics.jsonl`."""

    epoch: int
    lr: float
    """Of the head at the last step."""
    loss: float
    """Mean over the training images while they were learned, augmented."""
    accuracy: float
    """On the same."""
    validation_loss: float
    validation_accuracy: float
    """On the held-out images after the epoch."""
    seconds: float
    images_per_second: float

    @property
    def measured(self) -> Score:
        """On the held-out images."""
        return Score(self.validation_accuracy, -self.validation_loss)


@dataclass(frozen=True)
class TrainingHistory:
    """How far training is. With the values of the variables, all that the next step depends on."""

    start: Score
    """Before the first step."""
    peak: float
    """Largest learning rate of the head."""
    epochs: tuple[Epoch, ...] = ()
    """Those that are complete."""
    best: int = 0
    """The epoch whose weights are kept; 0 before the first has ended."""
    steps: int = 0
    """Done in the current epoch."""
    loss: float = 0.0
    """Sums over the images of the current epoch: loss, right answers; and seconds."""
    hits: float = 0.0
    seconds: float = 0.0

    @property
    def kept(self) -> Score:
        """The figures of the weights that are kept."""
        return self.epochs[self.best - 1].measured if self.best else self.start


@dataclass(frozen=True)
class Checkpoints:
    """Where the state of one training is kept."""

    folder: Path
    identity: Mapping[str, Any]
    """All that decides the result, as JSON values: a state of another training is not continued."""

    def save(self, history: TrainingHistory, variables: Arrays, best: Arrays, fresh: bool) -> None:
        """Replace the state.

        Args:
            history: how far training is.
            variables: values of all variables that a step changes.
            best: the weights of the best epoch.
            fresh: whether `best` changed since the last call.

        Raises:
            StorageError: it cannot be written; the state before is intact.
        """
        with files.saving(self.folder):
            files.make_folders(self.folder)
        known = self._described()
        written = {"state": self._write("state", variables)}
        if fresh or known is None:
            written["best"] = self._write("best", best)
        else:
            written["best"] = known["files"]["best"]
        content = {"format": FORMAT, "identity": self.identity, "course": asdict(history)}
        content = json.loads(json.dumps({**content, "files": written}))
        files.write_json(self.folder / STATE, {**content, "sha256": _digest(content)})
        self._sweep({entry["file"] for entry in written.values()})
        with files.written(self.folder / METRICS) as stream:
            stream.write(lines_of(history.epochs))

    def load(self) -> tuple[TrainingHistory, Arrays, Arrays] | None:
        """The course, the variables and the best weights; None where nothing was saved.

        Raises:
            UsageError: the state is of another training; the message says what differs.
            RunError: it is damaged, or newer than this program.
        """
        content = self._described()
        if content is None:
            return None
        if differing := _differences(content["identity"], self.identity):
            raise UsageError(
                "Expected the command that was interrupted, with --resume. Received: "
                f"{differing}. Repeat that command, or leave --resume out to begin anew."
            )
        state, best = (self._read(content["files"][part]) for part in ("state", "best"))
        return content["course"], state, best

    def require_like(self, found: Arrays, wanted: Arrays) -> None:
        """Refuse the values of other variables than those that are trained.

        Raises:
            RunError: they are.
        """
        with self._intact(self.folder / STATE):
            if [(a.shape, a.dtype) for a in found] != [(a.shape, a.dtype) for a in wanted]:
                raise Malformed("it has the values of other variables")

    @property
    def exists(self) -> bool:
        """Whether a state is saved, of whatever training."""
        return (self.folder / STATE).is_file()

    @property
    def digest(self) -> str | None:
        """SHA-256 of what names the state that is saved; None without one."""
        return files.sha256(self.folder / STATE) if self.exists else None

    @property
    def outdated(self) -> bool:
        """Whether the saved state is of a training that began at another round, or at none."""
        content = self._described()
        saved = {} if content is None else content["identity"]
        return content is not None and saved.get(ROUND) != self.identity.get(ROUND)

    def discard(self) -> None:
        """Remove the state."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sweep(self, kept: set[str]) -> None:
        """Remove the states before, and what a killed process was writing; one writes here."""
        for pattern in ("state-*.h5", "best-*.h5", ".*"):
            for path in self.folder.glob(pattern):
                if path.name not in kept:
                    with contextlib.suppress(OSError):
                        path.unlink()

    def _write(self, part: str, arrays: Arrays) -> dict[str, str]:
        """Write a file that is named by its content: another one is never replaced."""
        named = {f"{place:05d}": array for place, array in enumerate(arrays)}
        content = files.pack_arrays(named, {"format": FORMAT})
        digest = hashlib.sha256(content).hexdigest()
        name = f"{part}-{digest[:16]}.h5"
        with files.written(self.folder / name) as stream:
            stream.write(content)
        return {"file": name, "sha256": digest}

    def _read(self, entry: Mapping[str, str]) -> Arrays:
        path = self.folder / entry["file"]
        with self._intact(path), strict.opened(path) as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != entry["sha256"]:
                raise Malformed("its checksum does not match")
            with array_file(stream) as file:
                files.require_format(path, file, FORMAT)
                return file.all_arrays()

    @contextmanager
    def _intact(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            files.require_resources(error, path)
            raise RunError(
                f"Expected an intact training state. Received: {path} is damaged ({error}). "
                "Leave --resume out to begin anew."
            ) from error

    def _described(self) -> dict[str, Any] | None:
        path = self.folder / STATE
        if not path.is_file():
            return None
        with self._intact(path):
            content = strict.at_least(format=strict.whole(1, 2**31))(
                strict.json_of(strict.content_of(path, _MOST_BYTES))
            )
            if content["format"] > FORMAT:
                raise RunError(
                    f"Expected a training state of format {FORMAT} or older. Received: {path} has "
                    f"format {content['format']}. Upgrade tlcli, or leave --resume out to begin "
                    "anew."
                )
            if content.pop("sha256", None) != _digest(content):
                raise Malformed("its checksum does not match")
            return _CONTENT(content)


def lines_of(epochs: Sequence[Epoch]) -> bytes:
    """A JSON object a line."""
    return b"".join((json.dumps(asdict(entry)) + "\n").encode() for entry in epochs)


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


_ANY = strict.number()

_COUNT = strict.whole(0, 2**31)

_SCORE = strict.record(Score, accuracy=_ANY, negative_loss=_ANY)

_EPOCH = strict.record(
    Epoch,
    epoch=_COUNT,
    lr=_ANY,
    loss=_ANY,
    accuracy=_ANY,
    validation_loss=_ANY,
    validation_accuracy=_ANY,
    seconds=_ANY,
    images_per_second=_ANY,
)


def _history(value: Any) -> TrainingHistory:
    history = _HISTORY(value)
    if history.best > len(history.epochs):
        raise Malformed(f"its best epoch, {history.best}, is none of {len(history.epochs)}")
    if history.steps and history.seconds <= 0:
        raise Malformed(f"its {history.steps} steps took no time")
    return history


_HISTORY = strict.record(
    TrainingHistory,
    start=_SCORE,
    peak=strict.number(1e-30, 1e30),
    epochs=strict.listing(_EPOCH),
    best=_COUNT,
    steps=_COUNT,
    loss=_ANY,
    hits=_ANY,
    seconds=_ANY,
)


def _part(name: str) -> strict.Reader[dict[str, str]]:
    return strict.table(file=strict.text(rf"{name}-[0-9a-f]{{16}}\.h5"), sha256=strict.HEX_DIGEST)


_CONTENT = strict.table(
    format=strict.whole(1, FORMAT),
    identity=strict.mapping(strict.text(), strict.anything),
    course=_history,
    files=strict.table(state=_part("state"), best=_part("best")),
)


def _differences(saved: Mapping[str, Any], asked: Mapping[str, Any], prefix: str = "") -> str:
    """What differs, each as `name: was a, is b`."""
    found = []
    for name in sorted({*saved, *asked}):
        before, now = saved.get(name), asked.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found.append(_differences(before, now, f"{prefix}{name}."))
        elif before != now:
            found.append(f"{prefix}{name} was {before!r} and is {now!r}")
    return "; ".join(filter(None, found))
