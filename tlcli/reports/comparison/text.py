"""The table of `compare`, and which method to take; drawn from the JSON object."""

from typing import Any

from tlcli.reports.tables import table

Json = dict[str, Any]

LEGEND = (
    "Accuracies and forgetting in %, ± the standard deviation over the folds. all rounds: average "
    "incremental accuracy, the mean of the accuracies after each round. beyond joint: forgetting "
    "minus that of joint training of the same head. seconds: to solve all heads. kept: between "
    "rounds."
)

MOST_SIZES = 12
"""Of rounds that are listed."""

_COLUMNS = (
    "strategy",
    "head",
    "all rounds",
    "last round",
    "mean of classes",
    "forgetting",
    "beyond joint",
    "seconds",
    "kept",
    "exact",
    "old images",
)

_SEEN_BY = ("backbone", "layers", "views")

_COSTS = ("width", "ms an image")

_FIGURES = (
    "average_incremental_accuracy",
    "accuracy",
    "mean_class_accuracy",
    "forgetting",
    "excess_forgetting",
)


def comparison_text(content: Json) -> str:
    """The table, what was left out, and which method to take."""
    parts = [headline(content), table(columns(content), table_rows(content)), LEGEND]
    if lines := left_out(content):
        parts.append("\n".join(lines))
    commands_shown = (f"  {line}" for line in commands(content))
    return "\n\n".join((*parts, "\n".join((*advice(content), *commands_shown))))


def headline(content: Json) -> str:
    """What was compared, in one line."""
    sizes = [len(names) for names in content["rounds"]]
    names = sorted({entry["backbone"] for entry in content["methods"]})
    shown = "+".join(map(str, sizes[:MOST_SIZES])) + ("+…" if len(sizes) > MOST_SIZES else "")
    return (
        f"{content['data']}: {content['images']} images, {sum(sizes)} classes in rounds of "
        f"{shown}, {content['folds']} folds, {' and '.join(names)}"
    )


def backbones_of(content: Json) -> list[str]:
    """The backbones that were tried, as `backbone_of` names them."""
    return sorted({backbone_of(entry) for entry in content["methods"]})


def backbone_of(entry: Json) -> str:
    """The backbone of a method as `--backbone` is given it, with the layers and views behind it."""
    return f"{entry['backbone']} {entry['options']}".strip()


def columns(content: Json) -> tuple[str, ...]:
    """The names of the table's columns, with the backbone and its cost where it varies."""
    varying = _varying(content)
    return (*varying, *_COLUMNS, *(_COSTS if varying else ()))


def _varying(content: Json) -> tuple[str, ...]:
    """In what the backbones of the methods differ."""
    return tuple(key for key in _SEEN_BY if len({entry[key] for entry in content["methods"]}) > 1)


def table_rows(content: Json) -> list[tuple[str, ...]]:
    """A row of text for each method, the best first."""
    varying = _varying(content)
    return [
        (
            *(str(entry[key]) for key in varying),
            *_row(entry),
            *(_cost(entry) if varying else ()),
        )
        for entry in content["methods"]
    ]


def _cost(entry: Json) -> tuple[str, str]:
    """Of the backbone; its features may have been cached."""
    milliseconds = entry["milliseconds_per_image"]
    return str(entry["width"]), "cached" if milliseconds is None else f"{milliseconds:.1f}"


def _row(entry: Json) -> tuple[str, ...]:
    return (
        entry["strategy"],
        entry["head"],
        *(spread_text(entry[name]) for name in _FIGURES),
        f"{entry['seconds']:6.1f}",
        f"{entry['bytes_kept'] / 1e6:6.1f} MB",
        "yes" if entry["exact"] else "no",
        entry["needs_old_images"],
    )


def spread_text(spread: Json | None) -> str:
    """Mean ± standard deviation in per cent, without its sign."""
    if spread is None:
        return "    –"
    # A mean of −0.04 is shown as 0.0.
    return f"{round(100 * spread['mean'], 1) + 0.0:5.1f} ± {100 * spread['sd']:.1f}"


def left_out(content: Json) -> list[str]:
    """A line for each method that was not tried."""
    return [
        f"Left out: {entry['strategy']} {entry['head']}, because {entry['reason']}."
        for entry in content["left_out"]
    ]


def advice(content: Json) -> list[str]:
    """Which method to take, in a sentence or two."""
    best, free = content["best"], content["best_without_old_images"]
    if free is None:
        return [f"The best is {_named(best)}: {_figure(best)}. {_needs(best, content)}"]
    if _place(free, content) == _place(best, content):
        return [f"Take {_named(best)}: {_figure(best)}, the best of all. {_needs(best, content)}"]
    return [
        f"The best is {_named(best)}: {_figure(best)}. {_needs(best, content)}",
        f"Without old images take {_named(free)}: {_figure(free)}, {_behind(free)}.",
    ]


def commands(content: Json) -> list[str]:
    """How to use what `advice` says: the best method without old images, where there is one."""
    choice = content["best_without_old_images"] or content["best"]
    entry = content["methods"][_place(choice, content)]
    keeps = {
        "none": "",
        "some": f" --memory exemplars --exemplars-per-class {content['exemplars_per_class']}",
        "all": " --memory features",
    }[entry["needs_old_images"]]
    # What is exact without old images is what `extend-classes` does by itself.
    strategy = "" if entry["exact"] and not keeps else f" --strategy {entry['strategy']}"
    return [
        f"tlcli pretrain FIRST --out RUN --backbone {backbone_of(choice)} --head {choice['head']}"
        f"{keeps}",
        f"tlcli extend-classes RUN MORE{strategy}",
    ]


def _named(choice: Json) -> str:
    return f"{choice['strategy']} with the head {choice['head']} on {backbone_of(choice)}"


def _figure(choice: Json) -> str:
    return f"{spread_text(choice['average_incremental_accuracy']).strip()} % over all rounds"


def _needs(choice: Json, content: Json) -> str:
    return {
        "none": "It needs no old image.",
        "some": f"It needs {content['exemplars_per_class']} old images of every class.",
        "all": "It needs every old image in every round.",
    }[content["methods"][_place(choice, content)]["needs_old_images"]]


def _behind(choice: Json) -> str:
    behind = choice["behind_best"]
    text = f"{100 * behind['mean']:.1f} ± {100 * behind['sd']:.1f} points less"
    if behind["mean"] <= behind["sd"]:
        return f"{text}, which is within the spread of the folds"
    return text


def _place(choice: Json, content: Json) -> int:
    """Which of the methods a choice is."""
    keys = ("backbone", "layers", "views", "strategy", "head")
    wanted = [choice[key] for key in keys]
    return [[entry[key] for key in keys] for entry in content["methods"]].index(wanted)
