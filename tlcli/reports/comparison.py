"""The table of `compare`, and which method to take; drawn from the JSON object."""

from collections.abc import Sequence
from typing import Any

from tlcli.reports.text import table

Json = dict[str, Any]

COLUMNS = (
    "strategy",
    "head",
    "over all rounds",
    "after the last",
    "mean of classes",
    "forgetting",
    "beyond joint",
    "seconds",
    "kept",
    "exact",
    "old images",
)
LEGEND = (
    "over all rounds: average incremental accuracy, the mean of the accuracies after each round. "
    "beyond joint: forgetting minus that of joint training of the same head. "
    "kept: between rounds. All ± the standard deviation over the folds."
)


def comparison_text(content: Json) -> str:
    """The table, what was left out, and which method to take."""
    rows = table_rows(content)
    several = len(backbones_of(content)) > 1
    columns = ("backbone", *COLUMNS) if several else COLUMNS
    parts = [headline(content), table(columns, rows), LEGEND]
    parts += left_out(content)
    return "\n\n".join((*parts, "\n".join(advice(content))))


def headline(content: Json) -> str:
    """What was compared, in one line."""
    sizes = [len(names) for names in content["rounds"]]
    shown = "+".join(map(str, sizes if len(sizes) <= 12 else sizes[:12]))
    more = "+…" if len(sizes) > 12 else ""
    return (
        f"{content['data']}: {content['images']} images, {sum(sizes)} classes in rounds of "
        f"{shown}{more}, {content['folds']} folds, {' and '.join(backbones_of(content))}"
    )


def backbones_of(content: Json) -> list[str]:
    """The backbones that were tried."""
    return sorted({entry["backbone"] for entry in content["methods"]})


def table_rows(content: Json) -> list[tuple[str, ...]]:
    """A row of text for each method, the best first; `backbone` leads where there are several."""
    several = len(backbones_of(content)) > 1
    return [
        (*((entry["backbone"],) if several else ()), *_row(entry))
        for entry in content["methods"]
    ]


def _row(entry: Json) -> tuple[str, ...]:
    figures = (
        "average_incremental_accuracy",
        "accuracy",
        "mean_class_accuracy",
        "forgetting",
        "excess_forgetting",
    )
    return (
        entry["strategy"],
        entry["head"],
        *(spread_text(entry[name]) for name in figures),
        f"{entry['seconds']:6.1f}",
        f"{entry['bytes_kept'] / 1e6:6.1f} MB",
        "yes" if entry["exact"] else "no",
        entry["needs_old_images"],
    )


def spread_text(spread: Json | None) -> str:
    """Mean ± standard deviation, as per cent."""
    if spread is None:
        return "    –"
    return f"{100 * spread['mean'] + 0.0:5.1f} ± {100 * spread['sd']:.1f} %"


def left_out(content: Json) -> list[str]:
    """A line for each method that was not tried."""
    return [
        f"Left out: {entry['strategy']} {entry['head']}, because {entry['reason']}."
        for entry in content["left_out"]
    ]


def advice(content: Json) -> list[str]:
    """Which method to take, and the commands for it."""
    best, free = content["best"], content["best_without_old_images"]
    if free is None or free == best:
        lines = [f"Take {_named(best)}: {_figure(best)}, the best of all. {_needs(best, content)}"]
    else:
        lines = [
            f"The best is {_named(best)}: {_figure(best)}. {_needs(best, content)}",
            f"Without old images take {_named(free)}: {_figure(free)}, {_behind(free)}.",
        ]
    return lines + _commands(best if free is None else free, content)


def _named(choice: Json) -> str:
    return f"{choice['strategy']} with the head {choice['head']} on {choice['backbone']}"


def _figure(choice: Json) -> str:
    return f"{spread_text(choice['average_incremental_accuracy']).strip()} over all rounds"


def _needs(choice: Json, content: Json) -> str:
    return {
        "none": "It needs no old image.",
        "some": f"It needs {content['exemplars_per_class']} old images of every class.",
        "all": "It needs every old image in every round.",
    }[_entry(choice, content)["needs_old_images"]]


def _behind(choice: Json) -> str:
    behind = choice["behind_best"]
    text = f"{100 * behind['mean']:.1f} ± {100 * behind['sd']:.1f} points less"
    if behind["mean"] <= behind["sd"]:
        return f"{text}, which is within the spread of the folds"
    return text


def _entry(choice: Json, content: Json) -> Json:
    keys = ("backbone", "strategy", "head")
    found: Sequence[Json] = content["methods"]
    return next(entry for entry in found if all(entry[key] == choice[key] for key in keys))


def _commands(choice: Json, content: Json) -> list[str]:
    strategy = choice["strategy"]
    keeps = {
        "joint": " --memory features",
        "replay": f" --memory exemplars --exemplars-per-class {content['exemplars_per_class']}",
    }.get(strategy, "")
    extend = "" if strategy == "merge" else f" --strategy {strategy}"
    return [
        f"  tlcli pretrain FIRST --out RUN --backbone {choice['backbone']} "
        f"--head {choice['head']}{keeps}",
        f"  tlcli extend-classes RUN MORE{extend}",
    ]
