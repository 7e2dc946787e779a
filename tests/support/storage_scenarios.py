"""What writes files below the commands, as scenarios that take milliseconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.scenarios import Scenario, World
from tlcli import files, runs, signals, training
from tlcli.errors import StorageError
from tlcli.files import drafts
from tlcli.formats import two_files
from tlcli.manifest import Manifest, RegisteredClass
from tlcli.rounds import publication
from tlcli.runs import Writer, creating, extending
from tlcli.training import Checkpoints, TrainingHistory
from tlcli.training.checkpoint import Score

FIRST, SECOND = "a" * 64, "b" * 64
"""Fingerprints."""


def manifest(number: int, fingerprint: str) -> Manifest:
    """Of a small round."""
    return Manifest(
        round=number,
        parent=number - 1 or None,
        command="pretrain",
        strategy=None,
        head="lda",
        head_options={},
        backbone="MobileNetV2",
        backbone_fingerprint=fingerprint,
        projection=None,
        classes=(RegisteredClass("red panda", 1),),
        memory="moments",
        memory_sha256="0" * 64,
        arithmetic=(),
        decoder=(),
        exact=True,
        config={},
        versions={},
        created="2026-01-01T00:00:00+00:00",
    )


def commit(writer: Writer, fingerprint: str) -> None:
    """A small round on a backbone, unless it is there; as the commands do."""
    number = {FIRST: 1, SECOND: 2}[fingerprint]
    if number in writer.run.numbers():
        return
    with writer.staging() as staged:
        with files.saving(staged):
            (staged / "model.bin").write_bytes(fingerprint.encode())
        writer.add_backbone(staged, fingerprint)

    def write(staged: Path) -> None:
        for name in ("head.h5", "memory.h5"):
            with files.written(staged / name) as stream:
                stream.write(f"{name} {number}".encode())

    publication.commit(writer, manifest(number, fingerprint), {"answer": number}, write)


def _first(place: Path) -> None:
    with creating(place / "above" / "run", 0) as writer:
        commit(writer, FIRST)


def _start(world: World, place: Path) -> None:
    _first(place)


def _second(place: Path) -> None:
    with extending(place / "above" / "run", 0) as writer:
        commit(writer, SECOND)


def _both(world: World, place: Path) -> None:
    _first(place)
    _second(place)


def _drop(place: Path) -> None:
    with extending(place / "above" / "run", 0) as writer:
        writer.drop(set(writer.run.numbers()) - {2})


def look_at_run(place: Path) -> Any:
    """Rounds and backbones of an intact run, and their bytes."""
    path = place / "above" / "run"
    if not runs.is_run(path):
        return None
    rounds = runs.open_run(path).rounds()
    assert [entry.damages() for entry in rounds] == [[]] * len(rounds)
    kept = [runs.Run(path).backbone_folder(e.manifest.backbone_fingerprint) for e in rounds]
    return [
        (entry.number, entry.file("head.h5").read_bytes(), (folder / "model.bin").read_bytes())
        for entry, folder in zip(rounds, kept, strict=True)
    ]


def _file(content: bytes) -> Callable[[Path], None]:
    def write(place: Path) -> None:
        with files.published(place / "report.html") as stream:
            stream.write(content[:20])
            stream.write(content[20:])

    return write


def _linked(place: Path) -> None:
    files.sweep(place / "linked")
    with files.saving(place), files.staging(place / "linked") as folder:
        (folder / "linked").mkdir()
        files.link(place / "report.html", folder / "linked" / "report.html")
        files.replace_folder(folder / "linked", place / "linked")


def _folder(content: str) -> Callable[[Path], None]:
    def write(place: Path) -> None:
        files.sweep(place / "model")
        with files.staging(place / "model") as folder:
            with files.saving(place):
                (folder / "model" / "variables").mkdir(parents=True)
                (folder / "model" / "variables" / "data").write_text(content)
                (folder / "model" / "graph").write_text(content * 2)
            files.replace_folder(folder / "model", place / "model")

    return write


def _placed(place: Path) -> None:
    """A folder at a name that is free, or that the same folder has."""
    files.sweep(place / "tables")
    with files.staging(place / "tables") as folder:
        with files.saving(place):
            (folder / "tables").mkdir()
            (folder / "tables" / "learn").write_text("new")
        files.place_folder(folder / "tables", place / "tables")


def _folder_in_steps(place: Path) -> None:
    """Where the system has no exchange of names."""
    exchanged = drafts._exchanged
    drafts._exchanged = lambda first, second: False
    try:
        with signals.held():
            _folder("new")(place)
    finally:
        drafts._exchanged = exchanged


def _killed_between_two_renames(world: World, place: Path) -> None:
    left = place / ".model.123-0123abcd"
    (left / "model.old").mkdir(parents=True)
    (left / "model.old" / "graph").write_text("old")


def _bring_back(place: Path) -> None:
    files.sweep(place / "model")
    if not (place / "model").exists():
        raise StorageError("what was left is for the next command")


def _moved(content: bytes, offset: int) -> bytes:
    start, length = map(int, content.split())
    return b"%d %d" % (start + offset, length)


def _pair(content: bytes) -> Callable[[Path], None]:
    """The first file says where the content is in the second."""

    def write(place: Path) -> None:
        out = place / "model.xml"
        files.sweep(out, lambda left: two_files.settle(left, out, ".bin"))
        assert out.exists() or not out.with_suffix(".bin").exists()
        with files.saving(out), files.staging(out) as folder, signals.held():
            (folder / "model.bin").write_bytes(content)
            (folder / "model.xml").write_bytes(b"0 %d" % len(content))
            two_files.publish(folder / "model.xml", out, ".bin", _moved)

    return write


def look_at_pair(place: Path) -> Any:
    """What the first file says is in the second; None without a first."""
    if not (place / "model.xml").exists():
        return None
    start, length = map(int, (place / "model.xml").read_bytes().split())
    return (place / "model.bin").read_bytes()[start : start + length]


def _by(act: Callable[[Path], object]) -> Callable[[World, Path], object]:
    return lambda world, place: act(place)


def look_at_files(place: Path) -> Any:
    """All files that are not hidden."""
    shown = [p for p in place.rglob("*") if p.is_file() and "/." not in f"/{p.relative_to(place)}"]
    return {str(path.relative_to(place)): path.read_bytes() for path in shown} or None


def _state(epoch: int) -> Callable[[Path], None]:
    def save(place: Path) -> None:
        arrays = [np.full(300, epoch, np.float32)]
        history = TrainingHistory(Score(0.0, 0.0), 0.1, steps=epoch, seconds=1.0)
        _checkpoints(place).save(history, arrays, arrays, fresh=True)

    return save


def _checkpoints(place: Path) -> Checkpoints:
    return training.Checkpoints(place / "state", {"of": "a test"})


def look_at_state(place: Path) -> Any:
    """How far the saved training is, and its variables."""
    found = _checkpoints(place).load()
    if found is None:
        return None
    history, variables, best = found
    return history.steps, variables[0].tolist(), best[0].tolist()


STORAGE = {
    scenario.name: scenario
    for scenario in (
        Scenario("a first round", lambda world, place: None, (), look_at_run, act=_first),
        Scenario("a second round", _start, (), look_at_run, act=_second),
        Scenario("a dropped round", _both, (), look_at_run, act=_drop),
        Scenario("a file", _by(_file(b"old " * 20)), (), look_at_files, act=_file(b"new " * 30)),
        Scenario("a folder of links", _by(_file(b"old" * 9)), (), look_at_files, act=_linked),
        Scenario(
            "a folder brought back", _killed_between_two_renames, (), look_at_files, act=_bring_back
        ),
        Scenario("a first folder", lambda w, p: None, (), look_at_files, act=_folder("new")),
        Scenario("a placed folder", lambda w, p: None, (), look_at_files, act=_placed),
        Scenario("a folder", _by(_folder("old")), (), look_at_files, act=_folder("new")),
        Scenario("a folder in steps", _by(_folder("old")), (), look_at_files, act=_folder_in_steps),
        Scenario(
            "a first pair", lambda world, place: None, (), look_at_pair, act=_pair(b"new" * 9)
        ),
        Scenario(
            "a larger pair", _by(_pair(b"old " * 9)), (), look_at_pair, act=_pair(b"new" * 99)
        ),
        Scenario(
            "a smaller pair", _by(_pair(b"old" * 99)), (), look_at_pair, act=_pair(b"new" * 9)
        ),
        Scenario("a first state", lambda world, place: None, (), look_at_state, act=_state(1)),
        Scenario("a state", _by(_state(1)), (), look_at_state, act=_state(2)),
    )
}
