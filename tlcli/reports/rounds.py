"""A run's history, as text."""

from collections.abc import Sequence
from typing import Any

from tlcli.reports.rankings import COLUMNS, difference_lines, ranking_rows
from tlcli.reports.result import memory_line, named
from tlcli.reports.tables import byte_text, counted, table, time_text

Json = dict[str, Any]


def rounds_text(summaries: Sequence[Json]) -> str:
    """A line a round."""
    rows = [
        (
            entry["round"],
            time_text(entry["created"]),
            entry["command"],
            entry["strategy"],
            entry["head"],
            entry["backbone"],
            entry["classes"],
            named(entry["new_classes"], most=2),
            "yes" if entry["exact"] else "no",
            entry["memory"],
            byte_text(entry["bytes"]),
            entry["intact"],
        )
        for entry in summaries
    ]
    columns = ("round", "created", "command", "strategy", "head", "backbone", "classes", "new")
    return table((*columns, "exact", "memory", "size", "intact"), rows)


_RANKED = ("descriptors", "differences")
"""Of a training, what is shown as a table."""


_SECTIONS = (
    *("config", "versions", "images", "training", "adoption", "validation", "calibration"),
    *("head_options", "projection", "drawing", "bytes_by_part"),
)
"""Parts of a round's details that have details of their own; those that are empty are not shown."""


def details_text(details: Json) -> str:
    """The details of a round, a line each."""
    simple = {
        name: value
        for name, value in details.items()
        if name not in _SECTIONS and not isinstance(value, dict | list | tuple)
    }
    for name in ("arithmetic", "decoder"):
        simple[name] = ", ".join(details[name])
    lines = [f"{name:22}{_shown(value)}" for name, value in simple.items()]
    training = details["training"] or {}
    ranked = training.get("descriptors")
    told = {name: value for name, value in training.items() if name not in _RANKED}
    details = details | {"training": told}
    for name in _SECTIONS:
        if content := details[name]:
            lines += [name, *(f"  {key:28}{_shown(value)}" for key, value in content.items())]
    parts = ["\n".join(lines), _classes(details["classes"])]
    if ranked:
        differences = "\n".join(difference_lines(training["differences"]))
        parts[1:1] = [table(COLUMNS, ranking_rows(ranked)), differences]
    return "\n\n".join(parts)


def _shown(value: Any) -> str:
    """A value for people: – for what there is none of, yes or no, lists with commas."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(part)}" for key, part in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value)) or "–"
    return "–" if value is None else str(value)


def _classes(entries: Sequence[Json]) -> str:
    keys = ["name", "introduced_in_round"]
    if any("identifier" in entry for entry in entries):
        keys.append("identifier")
    rows = [tuple(entry.get(key, "") for key in keys) for entry in entries]
    return table(("class", "since round", "identifier")[: len(keys)], rows)


def rollback_text(content: Json) -> str:
    """The round that counts now."""
    run, number, source = content["run"], content["round"], content["source"]
    if not content["changed"]:
        return f"{run}: nothing to do. Round {number} has the content of round {source}."
    return "\n".join(
        (
            f"{run}: round {number} (rollback, the content of round {source})",
            f"  classes     {len(content['classes'])}, back: {named(content['new_classes'])}",
            f"  forgotten   {named(content['forgotten_classes'])}",
            f"  memory      {memory_line(content)}",
        )
    )


def pruned_text(content: Json) -> str:
    """What is left."""
    kept, gone = content["rounds"], len(content["removed"])
    left = f"rounds {kept[0]} to {kept[-1]} are" if len(kept) > 1 else f"round {kept[0]} is"
    if not gone:
        return f"{content['run']}: nothing to do, {left} all there is"
    removed, freed = counted(gone, "round", "rounds"), byte_text(content["freed_bytes"])
    return f"{content['run']}: {removed} removed, {freed} freed; {left} left"


def verification_text(content: Json) -> str:
    """Whether a run is intact."""
    if content["damages"]:
        damages = (f"  {damage}" for damage in content["damages"])
        return "\n".join((f"{content['run']}: damaged", *damages))
    return f"{content['run']}: intact, {len(content['rounds'])} rounds"
