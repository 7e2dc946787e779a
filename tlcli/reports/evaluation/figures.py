"""What every report of an evaluation says, whatever its format; drawn from the JSON object."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tlcli.reports.tables import Cell, percent

Json = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One headline figure, as text."""

    key: str
    name: str
    value: str
    interval: str
    """As `94.3 to 97.2 %`; empty where there is none."""
    meaning: str


HEADLINE = (
    ("accuracy", "accuracy", "Share of the images whose first answer is right."),
    (
        "mean_class_accuracy",
        "mean class accuracy",
        "Mean of the accuracies of the classes: each counts the same, however many images it has.",
    ),
    (
        "top5_accuracy",
        "top-5 accuracy",
        "Share of the images whose class is among the five most probable answers.",
    ),
    (
        "old_accuracy",
        "old classes",
        "Accuracy on the classes that were introduced before. It may fall merely because more "
        "classes compete for the same images.",
    ),
    (
        "new_accuracy",
        "new classes",
        "Accuracy on the classes that were introduced last, in this round or an earlier one.",
    ),
    (
        "average_incremental_accuracy",
        "average incremental accuracy",
        "Mean of the accuracies after every round, each on the classes known by then.",
    ),
    (
        "forgetting",
        "forgetting",
        "How far the accuracy on the classes of an earlier round has fallen from its best, "
        "averaged over those rounds; negative where it rose. More classes compete here too.",
    ),
    (
        "ece",
        "calibration error (ECE)",
        "How far stated probabilities are from the share that is right, on average over 15 bins: "
        "0 is best.",
    ),
    (
        "log_loss",
        "log loss",
        "Mean of −ln of the probability given to the true class: 0 is best, and a confident "
        "mistake costs most.",
    ),
)
"""Key, name and meaning, in the order in which they are read."""

GATES = {
    "fail-under": ("accuracy", "at least"),
    "max-regression": ("fall of the accuracy on earlier classes", "at most"),
    "min-class-accuracy": ("lowest accuracy of a class", "at least"),
}
"""What each gate looks at, and on which side of the limit it passes."""

Named = Callable[[str], str]
"""How a sentence shows the name of a run, a class or a file."""


def title(content: Json, named: Named = str) -> str:
    """Which round was measured."""
    return f"{named(content['run'])}: round {content['round']}"


def measured_on(content: Json, named: Named = str) -> str:
    """On what it was measured."""
    card = content["card"]
    text = f"{content['images']} images of {named(card['data'])}, {card['classes']} classes."
    if left_out := len(content["skipped"]):
        text += f" {left_out} left out."
    return " ".join([text, *learned_texts(content)])


def learned_texts(content: Json) -> list[str]:
    """What became of images that were learned, in a sentence; none where there were none."""
    left_out, included = content["learned"]["left_out"], content["learned"]["included"]
    sentences = (
        (left_out, f"{left_out} were learned before and left out."),
        (
            included,
            f"{included} of them were learned before: the figures look better than they are.",
        ),
    )
    return [sentence for applies, sentence in sentences if applies]


def interval_method(content: Json) -> str:
    """How the intervals were made, in one sentence."""
    return (
        f"Intervals: {100 * content['intervals']['level']:g} %, bootstrap over the images; they "
        "show what another choice of test images could give, not what another training would."
    )


def headline(content: Json) -> list[Figure]:
    """The figures that are read first; those that this run cannot have stay, as unknown."""
    return [
        Figure(
            key,
            name,
            number(key, content[key]),
            interval(key, content["intervals"].get(key)),
            meaning,
        )
        for key, name, meaning in HEADLINE
    ]


def number(key: str, value: float | None) -> str:
    """A headline figure as text."""
    if key == "log_loss" and value is not None:
        return f"{value:.4f}"
    # A mean of −0.0004 is shown as 0.0.
    return percent(None if value is None else round(value, 3) + 0.0)


def interval(key: str, ends: list[float] | None) -> str:
    """Both ends of an interval as text; empty where there is none."""
    if ends is None:
        return ""
    low, high = ends
    if key == "log_loss":
        return f"{low:.4f} to {high:.4f}"
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def gate_text(gate: Json, named: Named = str) -> str:
    """What a gate measured and what it asked for."""
    what, side = GATES[gate["name"]]
    where = f" ({named(gate['class'])})" if gate["class"] is not None else ""
    return (
        f"{gate['name']}: {what}{where} {_exactly(gate['value'])}, "
        f"{side} {100 * gate['limit']:g} % asked for"
    )


def _exactly(share: float | None) -> str:
    """As per cent, with enough digits to be told from a limit next to it."""
    return "unknown" if share is None else f"{100 * share + 0.0:.3f}".rstrip("0").rstrip(".") + " %"


def confused_pairs(content: Json, most: int) -> list[Json]:
    """True class, predicted class, images and their share of the true class; most images first."""
    images = {entry["class"]: entry["images"] for entry in content["per_class"]}
    wrong = [cell for cell in content["confusion"] if cell["class"] != cell["predicted"]]
    wrong.sort(key=lambda cell: (-cell["images"], cell["class"], cell["predicted"]))
    return [cell | {"share": cell["images"] / images[cell["class"]]} for cell in wrong[:most]]


def worst_classes(content: Json, most: int) -> list[Json]:
    """Classes that have images, those that are recognized worst first."""
    tested = [entry for entry in content["per_class"] if entry["accuracy"] is not None]
    return sorted(tested, key=lambda entry: (entry["accuracy"], entry["f1"]))[:most]


def introductions(content: Json) -> list[int]:
    """The rounds that introduced classes, in order."""
    found = {int(key) for entry in content["rounds"] for key in entry["accuracy_by_introduction"]}
    return sorted(found)


def of_introduction(entry: Json, number: int) -> Cell:
    """Accuracy after a round on the classes of another; empty where they came later."""
    figures = {int(key): value for key, value in entry["accuracy_by_introduction"].items()}
    value: Cell = figures.get(number, "")
    return value


MATRIX_LEGEND = (
    "Each row is the head of one round on the same images; each column is the classes that one "
    "round introduced. Old classes may lose some accuracy merely because more classes compete."
)


def round_columns(numbers: Sequence[int]) -> list[str]:
    """Names of the columns of the round matrix, for some introductions."""
    return ["", "all so far", *(f"classes of round {number}" for number in numbers)]


def round_rows(content: Json, numbers: Sequence[int]) -> list[list[Cell]]:
    """Cells of the round matrix, for some introductions."""
    return [
        [
            f"after round {entry['round']}",
            entry["accuracy"],
            *(of_introduction(entry, number) for number in numbers),
        ]
        for entry in content["rounds"]
    ]


def round_matrix(content: Json) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows of the whole round matrix."""
    numbers = introductions(content)
    return round_columns(numbers), round_rows(content, numbers)


def every_round_rows(content: Json) -> list[list[Cell]]:
    """All figures of every round, below `EVERY_ROUND`; empty without --all-rounds."""
    if "classes" not in content["rounds"][-1]:
        return []
    keys = ("classes", "images", "accuracy", "mean_class_accuracy", "top5_accuracy", "ece")
    return [
        [
            f"after round {entry['round']}",
            *(entry.get(key) for key in keys),
            number("log_loss", entry.get("log_loss")),
        ]
        for entry in content["rounds"]
    ]


EVERY_ROUND = (
    "",
    "classes",
    "images",
    "accuracy",
    "mean class accuracy",
    "top-5",
    "ECE",
    "log loss",
)
"""The columns of `every_round_rows`."""


def against_text(against: Json, named: Named = str) -> str:
    """The comparison with another run, in one sentence."""
    low, high = (f"{100 * end:+.1f}" for end in against["interval"])
    return (
        f"Against {named(against['run'])}, round {against['round']}, on the {against['images']} "
        f"images of the {against['classes']} classes that both know: "
        f"{percent(against['accuracy'])} here, {percent(against['other_accuracy'])} there, "
        f"difference {100 * against['difference']:+.1f} points ({low} to {high}), McNemar's test "
        f"p = {against['p_value']:.2g}."
    )


AGAINST_COLUMNS = ("", "right there", "wrong there")


def beside_text(beside: Json) -> str:
    """How the images of the index answer, beside the head."""
    sentence = (
        f"By {beside['by']} of the index: {percent(beside['accuracy'])} on {beside['images']} "
        "images of the classes that it knows."
    )
    if beside["shared_images"]:
        sentence += (
            f" On the {beside['shared_images']} of classes that the head knows too: "
            f"{percent(beside['shared_accuracy'])}, the head {percent(beside['head_accuracy'])}."
        )
    if beside["left_out"]:
        sentence += f" {beside['left_out']} images that it holds were left out."
    return sentence


def against_rows(against: Json) -> list[tuple[str, int, int]]:
    """Images by who was right."""
    return [
        ("right here", against["both_right"], against["only_this"]),
        ("wrong here", against["only_other"], against["both_wrong"]),
    ]


def card_rows(content: Json) -> list[tuple[str, str]]:
    """The model card: name and value of every fact, nested ones with dotted names."""
    return _flat(content["card"])


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", _fact(value)))
    return rows


def _fact(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "–" if value is None else json.dumps(value, ensure_ascii=False, default=str)
