"""Datasets that come divided: train, valid and test lie where class folders are expected."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tlcli.errors import DividedData
from tlcli.images.parts import PART, WORD, Part, spaced
from tlcli.images.walking import holds_images, partition
from tlcli.urls import Place

_THINGS = frozenset(("train",))
"""Names that are a class as well: alone, and full of images, a folder is that class."""

_NO_LETTER, _FILLERS = r"[\W\d_]+", "data|dataset|set|split|folder|images?|imgs?|photos|pictures"
_NO_NAME = re.compile(f"{PART.pattern}|{WORD.format(_FILLERS)}|{_NO_LETTER}", re.I)
_DEPTH = 4
"""How many folders deep a dataset is looked for."""

_SHOWN = 6
"""Folders that a message names."""


@dataclass(frozen=True)
class _Folder:
    """A folder that is called like a part."""

    path: Place
    part: Part
    rest: str
    """Of the name: `seg` of `seg_train`."""
    classes: int
    """How many folders with images are in it."""
    thing: bool

    def to_text(self) -> str:
        """The path, and what is in it."""
        held = f"{self.classes} class folder{'s' * (self.classes != 1)}"
        return f"{self.path} ({held if self.classes else 'images, no class folder'})"


@dataclass(frozen=True)
class _Layout:
    """Folders that are the parts of a dataset."""

    folders: tuple[_Folder, ...]
    in_classes: bool = False
    """Whether they lie in the class folders, so that the classes are right."""

    @property
    def nested(self) -> bool:
        """Whether class folders are in a part."""
        return any(folder.classes for folder in self.folders)

    @property
    def several(self) -> bool:
        """Whether the parts differ."""
        return len({folder.part for folder in self.folders}) > 1

    def serving(self, *parts: Part) -> str | None:
        """The folder with classes of the first of the parts that there is."""
        found = {folder.part: str(folder.path) for folder in self.folders[::-1] if folder.classes}
        return next((found[part] for part in parts if part in found), None)


def require_undivided(root: Place) -> tuple[str, ...]:
    """Return the names of parts that lie in every class folder, whose images are read together.

    Raises:
        DividedData: parts lie where the class folders should.
    """
    layout = _layout(root, _DEPTH)
    if layout is None:
        return ()
    if layout.in_classes:
        return tuple(sorted({folder.path.name for folder in layout.folders}))
    shown = [folder.to_text() for folder in layout.folders[:_SHOWN]]
    more = ["and more"] * (len(layout.folders) > _SHOWN)
    raise DividedData(
        f"Expected class folders in {root}. Received: a dataset that is divided already: "
        f"{', '.join([*shown, *more])}.",
        given=str(root),
        to_learn=layout.serving(Part.TRAINING),
        to_validate=layout.serving(Part.VALIDATION, Part.TEST),
        to_test=layout.serving(Part.TEST, Part.VALIDATION),
        otherwise="If these are classes, list the images in a table with the columns path,label.",
    )


def _layout(root: Place, depth: int) -> _Layout | None:
    """The parts of a dataset in a folder, or in folders in it; None where it is not divided."""
    folders, _ = partition(root)
    if not any(PART.search(spaced(folder.name)) for folder in folders):
        return _layout_below(folders, depth - 1) if depth else None
    folders = list(filter(holds_images, folders))
    named = [found for folder in folders if (found := _folder(folder)) is not None]
    layout = _Layout(tuple(sorted(named, key=lambda found: found.part.value)))
    if len({folder.rest for folder in named}) != 1:
        return None
    if layout.several:
        return layout if layout.nested or len(named) == len(folders) else None
    plain = not named[0].rest or folders[0].name == root.absolute().name
    certain = layout.nested or not all(folder.thing for folder in named)
    return layout if len(named) == len(folders) and plain and certain else None


def _layout_below(folders: Iterable[Place], depth: int) -> _Layout | None:
    """The parts of all folders, where each is divided."""
    inner: list[_Layout] = []
    for folder in filter(holds_images, folders):
        found = _layout(folder, depth)
        if found is None or not (found.nested or found.several):
            return None
        inner.append(found)
    if len(inner) < 2:
        return inner[0] if inner else None
    layout = _Layout(tuple(folder for found in inner for folder in found.folders))
    return layout if layout.nested else _Layout(layout.folders, in_classes=True)


def _folder(path: Place) -> _Folder | None:
    """What a folder is by its name; None where that is no part's."""
    name = spaced(path.name)
    found = PART.search(name)
    if found is None:
        return None
    path, classes = _unwrapped(path)
    return _Folder(
        path,
        Part[str(found.lastgroup)],
        _NO_NAME.sub("", name).casefold(),
        classes,
        re.sub(_NO_LETTER, "", name).casefold() in _THINGS,
    )


def _unwrapped(folder: Place) -> tuple[Place, int]:
    """The innermost of folders of one name, as archives unpack, and how many it holds."""
    inside = list(filter(holds_images, partition(folder)[0]))
    while len(inside) == 1 and inside[0].name == folder.name:
        folder = inside[0]
        inside = list(filter(holds_images, partition(folder)[0]))
    return folder, len(inside)
