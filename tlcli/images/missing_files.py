"""What to say of a table whose paths lead nowhere."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tlcli.images.sources import Entry
from tlcli.images.walking import IMAGE_SUFFIXES, is_folder
from tlcli.urls import Place, Url, place


@dataclass(frozen=True)
class Lost:
    """Paths of a table under which there is no file."""

    paths: int
    rows: int
    """Of the table."""
    first: str
    """As it is written there."""
    relative_to: str
    """What relative paths count from."""
    advice: str

    @staticmethod
    def of(lost: Sequence[Entry], rows: int, folder: Place) -> "Lost":
        """What there is to say of at least one row whose file does not exist."""
        first = lost[0].given
        return Lost(len(lost), rows, first, str(folder.absolute()), _advice(first, folder))

    @property
    def all_rows(self) -> bool:
        """Whether nothing is left."""
        return self.paths == self.rows

    def to_text(self) -> str:
        """How many, the first of them, and what may help."""
        return (
            f"{self.paths} of {self.rows} paths of the table lead nowhere, the first of them "
            f"{self.first!r}; relative paths count from {self.relative_to!r}. {self.advice}."
        )

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def _advice(first: str, folder: Place) -> str:
    if isinstance(folder, Url) or isinstance(place(first), Url):
        return "Correct the paths"
    helps = filter(None, (advise(first, folder) for advise in _ADVICE))
    return next(helps, "Correct the paths, or move the table to where they fit")


def _below(given: str, folder: Path) -> str:
    """Where the end of the path is there, the beginning is too much."""
    parts = _parts(given)
    for begin in range(1, len(parts)):
        tail = "/".join(parts[begin:])
        if _is_there(folder / tail):
            prefix = given[: len(given) - len(tail)]
            return f"{str(folder / tail)!r} is there: leave {prefix!r} out of the paths"
    return ""


def _elsewhere(given: str, folder: Path) -> str:
    """Where the path is right from the current folder, the table lies in the wrong one."""
    here = Path().absolute()
    if here != folder.absolute() and _is_there(here / "/".join(_parts(given))):
        return f"It is there from the current folder: move the table to {str(here)!r}"
    return ""


def _above(given: str, folder: Path) -> str:
    """Where the path is right from a folder beside or above the table, that is the place."""
    tail = "/".join(_parts(given))
    for other in (*folder.absolute().parents, *_beside(folder)):
        if _is_there(other / tail):
            return f"It is there from {str(other)!r}: move the table to that folder"
    return ""


def _beside(folder: Path) -> list[Path]:
    """Some folders beside the table, as far as its folder may be listed."""
    try:
        return [path for path in sorted(folder.iterdir())[:1000] if is_folder(path)]
    except OSError:
        return []


def _with_suffix(given: str, folder: Path) -> str:
    """Where a file has the name and a suffix, the table leaves it out."""
    path = folder / "/".join(_parts(given))
    for suffix in sorted(IMAGE_SUFFIXES):
        for spelled in (suffix, suffix.upper()):
            if _is_there(Path(f"{path}{spelled}")):
                return f"{path.name + spelled!r} is there: add {spelled!r} to the paths"
    return ""


def _windows(given: str, folder: Path) -> str:
    """A path of Windows leads nowhere on other systems."""
    if PureWindowsPath(given).drive:
        return "These are paths of another system; write them relative to the table's folder"
    return ""


_ADVICE: tuple[Callable[[str, Path], str], ...] = (
    _below,
    _elsewhere,
    _above,
    _with_suffix,
    _windows,
)


def _parts(given: str) -> tuple[str, ...]:
    """The names in a path of whatever system, relative."""
    kind = PureWindowsPath if "\\" in given else PurePosixPath
    path = kind(given)
    return path.parts[1:] if path.anchor else path.parts


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
