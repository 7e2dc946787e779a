"""Commands that change files, each with a place to start from and what there is to see of it.

Every command begins with the same folder, in which `run` and what else it needs lie, and knows
nothing but paths in it. Data lies beside it, and is not changed.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import tiny
from tlcli import formats, heads, memory, runs
from tlcli.cli import app
from tlcli.errors import Stopped, TlcliError

Look = Callable[[Path], Any]
"""What a user sees of a folder: equal before and after for what is the same."""


@dataclass(frozen=True)
class Answer:
    """What a command said."""

    code: int
    err: str


def call(*arguments: object) -> Answer:
    """A command in this process."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with redirect_stdout(out), redirect_stderr(err):
            code = app.run([str(argument) for argument in arguments])
        err.seek(0)
        return Answer(code, err.read())


def must(*arguments: object) -> None:
    """A command that succeeds."""
    answer = call(*arguments)
    assert answer.code == 0, (arguments, answer)


@dataclass(frozen=True)
class Scenario:
    """A command, and what it starts from."""

    name: str
    prepare: Callable[["World", Path], object]
    """Makes the start in an empty folder."""
    arguments: tuple[str, ...]
    look: Look
    heavy: bool = False
    """Whether it takes seconds."""
    act: Callable[[Path], object] | None = None
    """Is called instead of a command, with the place."""


def acted(act: Callable[[Path], object], place: Path) -> Answer:
    """As a command answers."""
    try:
        act(place)
    except (TlcliError, Stopped) as error:
        return Answer(error.exit_code, str(error))
    return Answer(0, "")


@dataclass
class World:
    """Data, and the folder in which commands work; its path is the same for every case."""

    top: Path
    _starts: dict[str, Path] = field(default_factory=dict)
    _ends: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def place(self) -> Path:
        """Where commands work."""
        return self.top / "place"

    @cached_property
    def data(self) -> Path:
        """Pictures of three rounds."""
        folder = self.top / "data"
        for part, classes in PARTS.items():
            tiny.draw(folder / part, classes, count=4)
        (folder / "mixed").mkdir()
        for name in ("apple", "sun"):
            shutil.copytree(
                folder / ("first" if name == "apple" else "second") / name, folder / "mixed" / name
            )
        return folder

    def reset(self, scenario: Scenario) -> Path:
        """The place as the scenario begins."""
        start = self._starts.get(scenario.name)
        if start is None:
            self.empty()
            with self.at_place():
                scenario.prepare(self, self.place)
            start = self.top / "starts" / scenario.name
            shutil.copytree(self.place, start)
            self._starts[scenario.name] = start
        shutil.rmtree(self.place)
        shutil.copytree(start, self.place)
        return self.place

    def empty(self) -> Path:
        """The place with nothing in it."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(parents=True)
        return self.place

    @contextmanager
    def at_place(self) -> Iterator[None]:
        """Paths are relative to the place, so that rounds do not tell places apart."""
        before = Path.cwd()
        os.chdir(self.place)
        try:
            yield
        finally:
            os.chdir(before)

    def run(self, scenario: Scenario) -> Answer:
        """The command, at its place."""
        with self.at_place():
            if scenario.act is not None:
                return acted(scenario.act, self.place)
            return call(*scenario.arguments)

    def look(self, scenario: Scenario) -> Any:
        """What there is to see."""
        with self.at_place():
            return scenario.look(self.place)

    def ends(self, scenario: Scenario) -> tuple[Any, Any]:
        """What there is to see before the command, and after it."""
        if scenario.name not in self._ends:
            self.reset(scenario)
            before = self.look(scenario)
            answer = self.run(scenario)
            assert answer.code == 0, (scenario.name, answer)
            self._ends[scenario.name] = (before, self.look(scenario))
            assert before != self._ends[scenario.name][1], scenario.name
        return self._ends[scenario.name]

    def leftovers(self) -> list[str]:
        """Hidden names, and what only a running command needs."""
        found = [*self.place.rglob(".*"), *self.place.rglob("training")]
        return sorted(str(path.relative_to(self.place)) for path in found)


PARTS = {
    "first": ["apple", "sky"],
    "second": ["sun"],
    "third": ["leaf"],
    "others": ["leaf", "plum"],
}


def of_run(place: Path, name: str = "run") -> Any:
    """The rounds of a run: command, classes, digest, head; and whether `rounds verify` passes."""
    if not runs.is_run(place / name):
        return None
    answer = call("rounds", "verify", place / name)
    assert answer.code == 0, answer
    return [_of_round(entry) for entry in runs.open_run(place / name).rounds()]


def _of_round(entry: runs.Round) -> Any:
    manifest = entry.manifest
    head = heads.load(entry.file("head.h5"))
    bits = hashlib.sha256(head.weights.tobytes() + head.bias.tobytes()).hexdigest()
    remembered = memory.load(entry)
    return (
        manifest.round,
        manifest.command,
        manifest.class_names,
        manifest.memory_sha256,
        bits,
        len(remembered.ledger),
        manifest.backbone_fingerprint,
        manifest.learned_projection,
    )


def of_both(place: Path) -> Any:
    """Of `run` and of a run that a command makes."""
    return of_run(place), of_run(place, "new")


def of_moments(place: Path) -> Any:
    """Of the file that `tlcli moments` writes."""
    path = place / "moments.h5"
    if not path.exists():
        return None
    content = memory.load_file(path)
    assert content.moments is not None
    return content.moments.digest, content.ledger


def of_export(name: str) -> Look:
    """The answers of an exported file, by the format's own runtime."""
    suffix = formats.FORMATS[name].suffix

    def look(place: Path) -> Any:
        path = place / f"model{suffix}"
        if not path.exists():
            return None
        pixels = np.random.default_rng(3).integers(0, 256, (2, tiny.IMAGE_SIZE, tiny.IMAGE_SIZE, 3))
        return formats.run(name, path, pixels.astype(np.uint8)).round(4).tolist()

    return look


def of_files(*names: str) -> Look:
    """The files below some folders, and their bytes; all or nothing of each."""

    def look(place: Path) -> Any:
        return [_below(place / name) for name in names]

    return look


def _below(folder: Path) -> Any:
    found = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    shown = [path for path in found if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in shown}


def of_reports(place: Path) -> Any:
    """Two reports, each whole or not there; they need not come together."""
    text, xml = place / "report.md", place / "gates.xml"
    return (
        text.read_bytes().count(b"\n") if text.exists() else None,
        xml.read_bytes() if xml.exists() else None,
    )


def _one_round(world: World, place: Path, *options: str) -> None:
    must("pretrain", world.data / "first", "--out", place / "run", *options)


def _all_classes(world: World, place: Path) -> None:
    """A run that has learned everything in the folder `all`."""
    for part in PARTS:
        shutil.copytree(world.data / part, place / "all", dirs_exist_ok=True)
    must("pretrain", place / "all", "--out", place / "run")


def _start(*options: str) -> Callable[[World, Path], None]:
    return lambda world, place: _one_round(world, place, *options)


def _nothing(world: World, place: Path) -> None:
    assert world.data


def _two_rounds(world: World, place: Path) -> None:
    _one_round(world, place)
    must("extend-classes", place / "run", world.data / "second")


def _three_rounds(world: World, place: Path) -> None:
    _two_rounds(world, place)
    must("extend-classes", place / "run", world.data / "third")


def _two_runs(world: World, place: Path) -> None:
    _one_round(world, place)
    must("pretrain", world.data / "others", "--out", place / "other")


def _moments_file(world: World, place: Path) -> None:
    _one_round(world, place)
    must("moments", place / "run", world.data / "second", "--out", place / "moments.h5")


def _exported(name: str) -> Callable[[World, Path], None]:
    def prepare(world: World, place: Path) -> None:
        _one_round(world, place)
        out = place / f"model{formats.FORMATS[name].suffix}"
        must("export", place / "run", "--format", name, "--out", out)
        must("extend-classes", place / "run", world.data / "second")

    return prepare


def _images(world: World, place: Path) -> None:
    shutil.copytree(world.data / "first", place / "images")


def _run_and_images(world: World, place: Path) -> None:
    _one_round(world, place)
    tiny.draw(place / "images", PARTS["first"], count=2, seed=5)


def _export(name: str, prepare: Any, which: str, heavy: bool = False) -> Scenario:
    out = f"model{formats.FORMATS[name].suffix}"
    arguments = ("export", "run", "--format", name, "--out", out)
    return Scenario(f"export {name} {which}", prepare, arguments, of_export(name), heavy)


def _extend(name: str, prepare: Any, *options: str, heavy: bool = False) -> Scenario:
    arguments = ("extend-classes", "run", "../data/second", *options)
    return Scenario(f"extend-classes {name}", prepare, arguments, of_run, heavy)


TRAINED = ("--epochs", "1", "--patience", "9")

OLD = ("--old-data", "../data/first")

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("pretrain", _nothing, ("pretrain", "../data/first", "--out", "run"), of_run),
        Scenario(
            "pretrain below folders",
            _nothing,
            ("pretrain", "../data/first", "--out", "some/where/run"),
            lambda place: of_run(place, "some/where/run"),
        ),
        Scenario(
            "pretrain on the backbone of a run",
            _start(),
            ("pretrain", "../data/mixed", "--out", "new", "--weights", "run"),
            of_both,
        ),
        Scenario(
            "pretrain from random weights",
            _nothing,
            ("pretrain", "../data/first", "--out", "run", "--weights", "none", *TRAINED),
            of_run,
            heavy=True,
        ),
        _extend("merge", _start()),
        _extend("merge with features", _start("--memory", "features")),
        _extend("merge with exemplars", _start("--memory", "exemplars")),
        _extend("freeze-old", _start(), "--strategy", "freeze-old"),
        _extend("joint", _start(), "--strategy", "joint", *OLD),
        _extend("lwf", _start(), "--strategy", "lwf"),
        _extend("naive", _start(), "--strategy", "naive"),
        _extend("replay", _start("--memory", "exemplars"), "--strategy", "replay"),
        Scenario(
            "extend-classes from a file of moments",
            _moments_file,
            ("extend-classes", "run", "--moments", "moments.h5"),
            of_run,
        ),
        Scenario(
            "finetune",
            _start(),
            ("finetune", "run", "../data/first", "--unfreeze", "1", "--lr", "0.0001", *TRAINED),
            of_run,
            heavy=True,
        ),
        Scenario(
            "finetune a projection",
            _all_classes,
            ("finetune", "run", "all", "--objective", "softmax-margin", *TRAINED),
            of_run,
            heavy=True,
        ),
        Scenario("remove-classes", _two_rounds, ("remove-classes", "run", "sun"), of_run),
        Scenario("merge", _two_runs, ("merge", "run", "other", "--out", "new"), of_both),
        Scenario("rounds rollback", _two_rounds, ("rounds", "rollback", "run"), of_run),
        Scenario("rounds prune", _three_rounds, ("rounds", "prune", "run", "--keep", "1"), of_run),
        Scenario(
            "moments",
            _start(),
            ("moments", "run", "../data/second", "--out", "moments.h5"),
            of_moments,
        ),
        _export("keras", _start(), "for the first time"),
        _export("keras", _exported("keras"), "over an earlier one"),
        _export("openvino", _start(), "for the first time"),
        _export("openvino", _exported("openvino"), "over an earlier one"),
        _export("savedmodel", _start(), "for the first time", heavy=True),
        _export("savedmodel", _exported("savedmodel"), "over an earlier one", heavy=True),
        _export("onnx", _exported("onnx"), "over an earlier one", heavy=True),
        _export("litert", _exported("litert"), "over an earlier one", heavy=True),
        Scenario(
            "data divide into tables",
            _nothing,
            ("data", "divide", "../data/first", "--hold-out", "50%", "--out", "parts"),
            of_files("parts"),
        ),
        Scenario(
            "data divide by moving",
            _images,
            ("data", "divide", "images", "--hold-out", "50%", "--move-into", "aside"),
            of_files("images", "aside"),
        ),
        Scenario(
            "predict with copies",
            _run_and_images,
            ("predict", "run", "images", "--copy-into", "copies"),
            of_files("copies"),
        ),
        Scenario(
            "evaluate with reports",
            _run_and_images,
            ("evaluate", "run", "images", "--report", "report.md", "--junit", "gates.xml"),
            of_reports,
        ),
    )
}

IN_STEPS = ("data divide by moving", "predict with copies", "evaluate with reports")
"""Commands with several results: each of these is whole, and the next call makes the others."""


ONCE_ABSENT = ("a folder in steps",)
"""Without an exchange of names the old folder lies aside for a moment; the next call finds it."""


def is_sound(scenario: Scenario, seen: Any, before: Any, after: Any) -> bool:
    """Whether what is seen is the old or the new; for some commands, each part of it."""
    if scenario.name == "rounds prune":
        return seen in [before[gone:] for gone in range(len(before))]
    if seen is None and scenario.name in ONCE_ABSENT:
        return True
    if scenario.name not in IN_STEPS:
        return bool(seen in (before, after))
    return all(
        part in (old, new) or (isinstance(part, dict) and part.items() <= {**old, **new}.items())
        for part, old, new in zip(seen, before, after, strict=True)
    )


def to_text(value: Any) -> str:
    """For messages."""
    return json.dumps(value, default=str)[:600]
