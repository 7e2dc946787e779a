"""Answers of `predict` as lines: drawn from the JSON object of each."""

import csv
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]

COLUMNS = ("path", "label", "probability", "copied_to", "error")
"""Of the CSV form."""


def _text(answer: Json) -> str:
    """Label, probability and path, or the path and its error, with tabs between."""
    if "error" in answer:
        return f"–\t–\t{answer['path']}\t{answer['error']}"
    line = f"{answer['label']}\t{answer['probability']:.3f}\t{answer['path']}"
    return f"{line}\t{answer['copied_to']}" if "copied_to" in answer else line


def _csv(answer: Json) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow([answer.get(name, "") for name in COLUMNS])
    return stream.getvalue()


def _json(answer: Json) -> str:
    return json.dumps(answer, ensure_ascii=False)


PREDICTION_LINES: Mapping[str, tuple[tuple[str, ...], Callable[[Json], str]]] = {
    "text": ((), _text),
    "csv": ((",".join(COLUMNS),), _csv),
    "json": ((), _json),
}
"""Form → the lines that come first, and how an answer becomes a line."""
