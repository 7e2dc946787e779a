"""An evaluation → text for the terminal."""

from typing import Any

from tlcli.reports.evaluation import figures
from tlcli.reports.tables import percent, skipped_texts, table

Json = dict[str, Any]

MOST_COLUMNS = 6
"""Introductions in the round matrix of a terminal."""


MOST_PAIRS = 3
"""Pairs of confused classes that are named."""


def evaluation_text(content: Json) -> str:
    """Gates that failed, headline figures, a line a class, confused classes, the round matrix."""
    failed = [gate for gate in content["gates"] if not gate["passed"]]
    parts = ["\n".join(f"Failed: {figures.gate_text(gate)}." for gate in failed)] if failed else []
    parts += [headline_text(content), _classes(content), *_confused(content)]
    parts += _matrix(content)
    if rows := figures.every_round_rows(content):
        parts.append(table(figures.EVERY_ROUND, rows))
    if content["against"] is not None:
        parts += [_against(content["against"])]
    if content["beside"] is not None:
        parts.append(figures.beside_text(content["beside"]))
    if content["skipped"]:
        parts.append("\n".join(f"left out: {text}" for text in skipped_texts(content["skipped"])))
    return "\n\n".join(parts)


def _matrix(content: Json) -> list[str]:
    """The round matrix, with as many introductions as a terminal has room for."""
    numbers = figures.introductions(content)
    shown = numbers if len(numbers) <= MOST_COLUMNS else [numbers[0], *numbers[1 - MOST_COLUMNS :]]
    parts = [table(figures.round_columns(shown), figures.round_rows(content, shown))]
    if hidden := len(numbers) - len(shown):
        parts.append(
            f"{hidden} columns of earlier rounds are left out; reports and --json have them."
        )
    return parts


def headline_text(content: Json) -> str:
    """The headline figures with their intervals, one a line."""
    lines = [f"{figures.title(content)} on {content['images']} images"]
    lines += [f"  {sentence}" for sentence in figures.learned_texts(content)]
    for entry in figures.headline(content):
        interval = f"  ({entry.interval})" if entry.interval else ""
        lines.append(f"  {entry.name:30}{entry.value}{interval}")
    level = f"{100 * content['intervals']['level']:g} %"
    lines.append(f"  In brackets: {level} intervals, bootstrap over the images.")
    return "\n".join(lines)


def _classes(content: Json) -> str:
    keys = ("class", "introduced_in_round", "images", "accuracy", "precision", "f1")
    rows = [tuple(entry[key] for key in keys) for entry in content["per_class"]]
    return table(("class", "since round", "images", "accuracy", "precision", "F1"), rows)


def _confused(content: Json) -> list[str]:
    """The pairs of classes that are confused most, in a line; nothing where there is none."""
    told = [
        f"{pair['class']} taken for {pair['predicted']} ({percent(pair['share'])})"
        for pair in figures.confused_pairs(content, MOST_PAIRS)
    ]
    return [f"Most confused: {', '.join(told)}."] if told else []


def _against(against: Json) -> str:
    counts = table(figures.AGAINST_COLUMNS, figures.against_rows(against))
    return f"{figures.against_text(against)}\n\n{counts}"
