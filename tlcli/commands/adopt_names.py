"""What the classes of an adopted classifier are called: from a file, from the model, from DATA."""

import json
from collections import Counter
from pathlib import Path

from tlcli.config import AdoptConfig
from tlcli.errors import DataError, UsageError
from tlcli.images import Listing
from tlcli.images.sources import class_name
from tlcli.manifest import RegisteredClass
from tlcli.rounds.adoption import FromFile, FromImagenet
from tlcli.rounds.intake import named

_JSON = ".json"


def registry_of(
    config: AdoptConfig, source: FromFile | FromImagenet, listing: Listing | None
) -> tuple[RegisteredClass, ...]:
    """The classes in the order of the columns.

    Raises:
        UsageError: nothing says what they are called, or what does has other names than columns.
        DataError: the images are of other classes.
    """
    rows, where = _rows(config, source, listing)
    names = tuple(class_name(name, where) for name, _ in rows)
    _require_fit(names, source.columns, where)
    return tuple(
        RegisteredClass(name, 1, identifier)
        for name, (_, identifier) in zip(names, rows, strict=True)
    )


def _rows(
    config: AdoptConfig, source: FromFile | FromImagenet, listing: Listing | None
) -> tuple[tuple[tuple[str, str], ...], str]:
    """Name and identifier of each column, and what says so."""
    if config.classes is not None:
        return tuple((name, "") for name in _of_file(config.classes)), str(config.classes)
    if source.names is not None:
        return source.names, config.model
    if listing is not None:
        return tuple((name, "") for name in listing.classes), _images_of(config)
    raise UsageError(
        f"Expected the names of the {source.columns} classes of {config.model}, which does not "
        "have them. Add --classes FILE, a name a line in the order of the columns or Keras' "
        "class_indices as JSON, or --data DATA with a folder for each."
    )


def _images_of(config: AdoptConfig) -> str:
    return str(config.data or config.test)


def _require_fit(names: tuple[str, ...], columns: int, where: str) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(
            f"Expected a name of its own for every class. Received: {named(twice)} more than once "
            f"in {where}. Rename them there, or give --classes FILE."
        )
    if len(names) != columns:
        raise UsageError(
            f"Expected {columns} class names, one for each column of the model. Received: "
            f"{len(names)} in {where}. Give all in the order of the columns with --classes FILE."
        )


def require_classes(
    listing: Listing, registry: tuple[RegisteredClass, ...], option: str, all_of_them: bool
) -> None:
    """Raise DataError where images are of other classes than the model's, or some have none."""
    names = {entry.name for entry in registry}
    if unknown := set(listing.classes) - names:
        raise DataError(
            f"Expected images of the model's classes in {option}. Received: {named(unknown)}; "
            f"it knows {named(names)}. Correct --classes, or leave them out and add them with "
            "`tlcli extend-classes`."
        )
    if all_of_them and (absent := names - set(listing.classes)):
        raise DataError(
            f"Expected images of every class of the model in {option}. Received: none of "
            f"{named(absent)}, which later rounds would forget. Add some, or leave {option} out."
        )


def _of_file(path: Path) -> list[str]:
    """The names in a file, in the order of the columns."""
    try:
        text = path.read_text("utf-8-sig")
        return _of_json(json.loads(text)) if path.suffix.lower() == _JSON else _of_lines(text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"Expected class names, one a line, or Keras' class_indices as JSON. Received: "
            f"classes={path} ({reason}). Correct the file."
        ) from error


def _of_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _of_json(content: object) -> list[str]:
    """A list of names; names with their columns; or columns with their names."""
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return content
    if not isinstance(content, dict):
        raise ValueError("neither a list of names nor an object of names and columns")
    pairs = list(content.items())
    if all(isinstance(name, str) for _, name in pairs):
        pairs = [(name, int(column)) for column, name in pairs]
    columns = [column for _, column in pairs]
    if not all(type(column) is int for column in columns) or {*columns} != {*range(len(pairs))}:
        raise ValueError(f"columns other than 0 to {len(pairs) - 1}")
    return [name for name, _ in sorted(pairs, key=lambda pair: pair[1])]
