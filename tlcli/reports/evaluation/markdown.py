"""An evaluation as Markdown for a pull request or the summary of a pipeline."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tlcli.reports.evaluation import figures
from tlcli.reports.html import clean
from tlcli.reports.tables import Cell, cell_text

Json = dict[str, Any]

MOST = 10
"""Of classes and of pairs."""

_NOT_IN_CODE = re.compile(r"[|`\\]")

_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")


def evaluation_markdown(content: Json) -> str:
    """The figures, gates, worst classes, most confused pairs, rounds, and the model card."""
    parts = (
        f"## {figures.title(content, code)}",
        figures.measured_on(content, code),
        *_gates(content),
        _headline(content),
        figures.interval_method(content),
        *([figures.beside_text(content["beside"])] if content["beside"] else []),
        *_against(content),
        *_worst(content),
        *_pairs(content),
        "### Rounds",
        table(*figures.round_matrix(content)),
        figures.MATRIX_LEGEND,
        *_every_round(content),
        _card(content),
    )
    return "\n\n".join(parts) + "\n"


def code(text: str) -> str:
    """A name in code style, of which nothing is interpreted: no markup, mention or address."""
    line = " ".join(clean(text).split())
    if line and not _NOT_IN_CODE.search(line):
        return f"`{line}`"
    entities = _PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", line)
    return f"<code>{entities}</code>"


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table; texts of cells are taken as Markdown already, numbers as in every report."""
    rows = list(rows)
    sides = [
        "---"
        if any(isinstance(cell, str) and cell.startswith(("`", "<")) for cell in column)
        else "---:"
        for column in zip(*rows, strict=True)
    ]
    lines = [columns, ["---", *sides[1:]], *([cell_text(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _gates(content: Json) -> list[str]:
    """Those that failed first."""
    gates = sorted(content["gates"], key=lambda gate: bool(gate["passed"]))
    marks = {True: "✅ passed", False: "❌ failed"}
    lines = [f"- {marks[bool(gate['passed'])]}: {figures.gate_text(gate, code)}" for gate in gates]
    return ["\n".join(lines)] if lines else []


def _headline(content: Json) -> str:
    level = f"{100 * content['intervals']['level']:g} % interval"
    rows = [(entry.name, entry.value, entry.interval or "–") for entry in figures.headline(content)]
    return table(("", "value", level), rows)


def _against(content: Json) -> list[str]:
    against = content["against"]
    if against is None:
        return []
    rows = table(figures.AGAINST_COLUMNS, figures.against_rows(against))
    return ["### Against another run", figures.against_text(against, code), rows]


def _worst(content: Json) -> list[str]:
    keys = ("introduced_in_round", "images", "recall", "precision", "f1")
    columns = ("class", "since round", "images", "accuracy (recall)", "precision", "F1")
    rows = [
        (code(entry["class"]), *(entry[key] for key in keys))
        for entry in figures.worst_classes(content, MOST)
    ]
    return ["### Classes recognized worst", table(columns, rows)]


def _pairs(content: Json) -> list[str]:
    rows = [
        (code(pair["class"]), code(pair["predicted"]), pair["images"], pair["share"])
        for pair in figures.confused_pairs(content, MOST)
    ]
    columns = ("true class", "predicted", "images", "share of the true class")
    return ["### Most confused pairs", table(columns, rows) if rows else "No image is mistaken."]


def _every_round(content: Json) -> list[str]:
    rows = figures.every_round_rows(content)
    return [table(figures.EVERY_ROUND, rows)] if rows else []


def _card(content: Json) -> str:
    rows = [(code(name), code(value)) for name, value in figures.card_rows(content)]
    return f"<details>\n<summary>Model card</summary>\n\n{table(('', 'value'), rows)}\n\n</details>"
