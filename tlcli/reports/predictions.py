"""Answers of `predict` as lines: drawn from the JSON object of each."""

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any

from tlcli.files import json_text

Json = dict[str, Any]

COLUMNS = ("path", "label", "probability", "copied_to", "error")
"""Of the CSV form."""

_PATHS = ("path", "copied_to")


def _text(answer: Json) -> str:
    """Label, probability and path, or the path and its error, with tabs between."""
    if "error" in answer:
        return f"–\t–\t{answer['path']}\t{answer['error']}"
    line = f"{answer['label']}\t{answer['probability']:.3f}\t{answer['path']}"
    return f"{line}\t{answer['copied_to']}" if "copied_to" in answer else line


def _csv(answer: Json) -> str:
    stream = io.StringIO()
    # The writer quotes line ends inside a cell only where they are its own.
    named = answer | {name: _no_formula(answer[name]) for name in _PATHS if name in answer}
    cells = [named.get(name, "") for name in COLUMNS]
    csv.writer(stream, lineterminator="\r\n").writerow(cells)
    return stream.getvalue().removesuffix("\r\n")


def _no_formula(path: str) -> str:
    """The same file by a name that no spreadsheet takes for a formula, as `=1+1.png`."""
    return f"./{path}" if path.startswith(("=", "+", "-", "@")) else path


PREDICTION_LINES: Mapping[str, tuple[tuple[str, ...], Callable[[Json], str]]] = {
    "text": ((), _text),
    "csv": ((",".join(COLUMNS),), _csv),
    "json": ((), json_text),
}
"""Form → the lines that come first, and how an answer becomes a line."""
