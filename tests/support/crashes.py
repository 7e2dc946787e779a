"""What may be on a disk after a power failure, from the recorded operations of a command.

A folder's entries are sure once the folder was flushed after they changed, a file's bytes once the
file was. Of what is not sure, later operations may have reached the disk and earlier ones not; a
file may be empty, or torn in the middle. A rename is one step and never half done.
"""

import contextlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.support.operations import Operation, Watched

Tree = dict[str, bytes | None]
"""Path below the folder → content; None for a folder."""


@dataclass(frozen=True)
class Step:
    """An operation that was done, and what was then in the files that it is about."""

    operation: Operation
    content: dict[str, bytes]


@dataclass
class Recorded:
    """The operations of a command on what is below a folder."""

    folder: Path
    start: Tree = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def watched(self) -> Watched:
        """Records what is done while it watches."""
        self.start = tree_of(self.folder)
        return Watched(self.folder, before=self._before, after=self._after)

    @property
    def named(self) -> frozenset[str]:
        """The paths at which operations put something."""
        made = [step.operation for step in self.steps if step.operation.kind != "sync"]
        return frozenset(operation.target or operation.path for operation in made)

    def _before(self, operation: Operation) -> None:
        if operation.kind in ("rename", "link", "exchange"):
            self._note(operation, Path(operation.path))

    def _after(self, operation: Operation) -> None:
        if operation.kind in ("mkdir", "create", "unlink", "rmdir", "sync"):
            self._note(operation, Path(operation.path))

    def _note(self, operation: Operation, path: Path) -> None:
        of_folder = operation.kind == "sync" and path.is_dir()
        content = {} if of_folder else _content(path, self.folder)
        self.steps.append(Step(self._relative(operation), content))

    def _relative(self, operation: Operation) -> Operation:
        top = str(self.folder.resolve()) + "/"
        path, target = operation.path, operation.target
        return Operation(
            operation.kind,
            (path + "/").removeprefix(top).rstrip("/"),
            None if target is None else target.removeprefix(top),
        )


def tree_of(folder: Path) -> Tree:
    """What is below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def _content(path: Path, top: Path) -> dict[str, bytes]:
    found = [path, *path.rglob("*")] if path.is_dir() else [path]
    return {str(p.relative_to(top)): p.read_bytes() for p in found if p.is_file()}


class File:
    """A file, under however many names."""

    def __init__(self, content: bytes, sure: bytes | None) -> None:
        self.content, self.sure = content, sure


class Folder(dict[str, "File | Folder"]):
    """A folder's entries."""

    __hash__ = object.__hash__  # type: ignore[assignment]


class Model:
    """A file system to which operations are done."""

    def __init__(self, start: Tree, named: frozenset[str] = frozenset()) -> None:
        """See the class.

        Args:
            start: what is there, for sure.
            named: paths that an operation names; a file at another one came about unseen.
        """
        self.top = Folder()
        self._named = named
        for path, content in start.items():
            folder, name = self.place(path)
            folder[name] = Folder() if content is None else File(content, content)

    def place(self, path: str) -> tuple[Folder, str]:
        """The folder of a path, and the name in it; raises KeyError where there is none."""
        *above, name = path.split("/")
        folder = self.top
        for part in above:
            found = folder[part]
            if not isinstance(found, Folder):
                raise KeyError(path)
            folder = found
        return folder, name

    def find(self, path: str) -> "File | Folder":
        """What is at a path; raises KeyError."""
        if not path:
            return self.top
        folder, name = self.place(path)
        return folder[name]

    def do(self, step: Step) -> None:
        """Raises KeyError where what it is about is not there."""
        getattr(self, f"_{step.operation.kind}")(step)

    def _mkdir(self, step: Step) -> None:
        folder, name = self.place(step.operation.path)
        folder.setdefault(name, Folder())

    def _create(self, step: Step) -> None:
        folder, name = self.place(step.operation.path)
        if not isinstance(folder.get(name), File):
            folder[name] = File(b"", None)

    def _unlink(self, step: Step) -> None:
        folder, name = self.place(step.operation.path)
        del folder[name]

    _rmdir = _unlink

    def _learn(self, step: Step) -> None:
        """Files that came about unseen, and what is in files now; nothing of it is sure."""
        for path, content in step.content.items():
            folder, name = self.place(path)
            known = folder.get(name)
            if isinstance(known, File):
                known.content = content
            elif path not in self._named:
                folder[name] = File(content, None)

    def _rename(self, step: Step) -> None:
        self.find(step.operation.path)
        self._learn(step)
        folder, name = self.place(step.operation.path)
        to_folder, to_name = self.place(step.operation.target or "")
        to_folder[to_name] = folder[name]
        del folder[name]

    def _link(self, step: Step) -> None:
        source, target = step.operation.path, step.operation.target or ""
        folder, name = self.place(target)
        folder[name] = self.find(source)

    def _exchange(self, step: Step) -> None:
        self._learn(step)
        (a, x), (b, y) = (self.place(p or "") for p in (step.operation.path, step.operation.target))
        a[x], b[y] = b[y], a[x]

    def _sync(self, step: Step) -> None:
        if step.content:
            self._learn(step)
        found = self.find(step.operation.path)
        if isinstance(found, File):
            found.sure = found.content

    def tree(self, how: str) -> Tree:
        """What is found after the failure; `how` says what became of bytes that were not sure."""
        return dict(_walk(self.top, "", how))


def _walk(folder: Folder, above: str, how: str) -> Iterator[tuple[str, bytes | None]]:
    for name, found in folder.items():
        if isinstance(found, Folder):
            yield above + name, None
            yield from _walk(found, f"{above}{name}/", how)
        else:
            yield above + name, _bytes_left(found, how)


def _bytes_left(file: File, how: str) -> bytes:
    if file.sure == file.content or how == "whole":
        return file.content
    if how == "torn":
        return file.content[: len(file.content) // 2]
    return file.sure or b""


LOST = ("lost", "torn", "whole")


def _folders_changed(model: Model, step: Step) -> list[Folder]:
    """The folders whose entries a step changes."""
    operation = step.operation
    if operation.kind == "sync":
        return []
    paths = [operation.target or operation.path]
    if operation.kind == "exchange":
        paths += [operation.path]
    return [model.place(path or "")[0] for path in paths]


def unsure(recorded: Recorded, count: int) -> list[int]:
    """Which of the first `count` steps may not have reached the disk: changes of entries."""
    model, changes = Model(recorded.start, recorded.named), dict[int, _Change]()
    for number, step in enumerate(recorded.steps[:count]):
        if step.operation.kind == "sync":
            found = _known(model, step)
            sure = [change.node for change in changes.values() if change.is_in(found)]
            # What is under its name for sure has come about, too.
            changes = {
                n: change
                for n, change in changes.items()
                if not change.is_in(found) and not any(change.node is node for node in sure)
            }
            with contextlib.suppress(KeyError):
                model.do(step)
            continue
        with contextlib.suppress(KeyError):  # of what a library made unseen
            folders = _folders_changed(model, step)
            model.do(step)
            changes[number] = _Change(folders, _node(model, step))
    return list(changes)


@dataclass(frozen=True, eq=False)
class _Change:
    """Of entries of folders."""

    folders: list[Folder]
    node: object
    """What got a name by it."""

    def is_in(self, folder: object) -> bool:
        """A rename reaches the disk as a whole, with the folder that it goes to."""
        return any(entry is folder for entry in self.folders)


def _node(model: Model, step: Step) -> object:
    """What got a name by a step."""
    return _known(model, step, step.operation.target)


def _known(model: Model, step: Step, path: str | None = None) -> object:
    """What a step is about; something unheard of where the model does not know it."""
    try:
        return model.find(path or step.operation.path)
    except KeyError:
        return object()


def states(recorded: Recorded, seeds: int, every: int = 1) -> Iterator[tuple[int, Tree]]:
    """(number of operations done, what is on the disk) after a failure at every operation.

    Args:
        recorded: what was done.
        seeds: how many random choices of what is lost are made for each operation.
        every: leave out all but every n-th operation, but for the last.
    """
    last = len(recorded.steps)
    for count in [*range(0, last, every), last]:
        candidates = unsure(recorded, count)
        for dropped in _choices(candidates, seeds, count):
            model = _replayed(recorded, count, dropped)
            for how in LOST:
                yield count, model.tree(how)


def _choices(candidates: list[int], seeds: int, count: int) -> Iterator[frozenset[int]]:
    """All of them lost, none, the later ones, and by chance."""
    yield frozenset(candidates)
    if not candidates:
        return
    yield frozenset()
    generator = random.Random(count)
    for _ in range(seeds):
        start = generator.randrange(len(candidates) + 1)
        yield frozenset(candidates[start:])
        yield frozenset(n for n in candidates if generator.random() < 0.5)


def _replayed(recorded: Recorded, count: int, dropped: frozenset[int]) -> Model:
    model = Model(recorded.start, recorded.named)
    for number, step in enumerate(recorded.steps[:count]):
        if number not in dropped:
            try:
                model.do(step)
            except KeyError:
                continue  # it stands on a step that was lost
    return model


def digest(tree: Tree) -> str:
    """Equal for equal trees."""
    state = sha256()
    for path, content in sorted(tree.items()):
        state.update(path.encode() + b"\0")
        state.update(b"folder" if content is None else sha256(content).digest())
    return state.hexdigest()


def put(tree: Tree, folder: Path) -> None:
    """Make a tree below an empty folder."""
    for path, content in sorted(tree.items()):
        target = folder / path
        if content is None:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
