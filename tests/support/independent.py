"""The figures of `evaluate --json`, computed from the lines of `predict --json` alone.

Nothing of tlcli is imported: scikit-learn and NumPy are the oracle.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

Json = dict[str, Any]


def figures(
    answers: Sequence[Json], true: Mapping[str, str], introduced: Mapping[str, int]
) -> Json:
    """What one round's answers are worth.

    Args:
        answers: lines of `predict --json --top C`, all of known classes.
        true: path → class.
        introduced: class → round, of the classes that the round knows, in registry order.
    """
    names = list(introduced)
    labels = np.array([true[answer["path"]] for answer in answers])
    said = np.array([answer["label"] for answer in answers])
    table = np.zeros((len(answers), len(names)))
    for row, answer in enumerate(answers):
        for entry in answer["top"]:
            table[row, names.index(entry["label"])] = entry["probability"]
    here = sorted(set(labels))
    last = max(introduced.values())
    old = np.array([introduced[label] < last for label in labels])
    matrix = metrics.confusion_matrix(labels, said, labels=names)
    top = [[entry["label"] for entry in answer["top"][:5]] for answer in answers]
    return {
        "images": len(answers),
        "accuracy": metrics.accuracy_score(labels, said),
        "mean_class_accuracy": metrics.recall_score(
            labels, said, labels=here, average="macro", zero_division=0
        ),
        "top5_accuracy": np.mean([label in best for label, best in zip(labels, top, strict=True)]),
        "old_accuracy": np.mean((said == labels)[old]) if old.any() else None,
        "new_accuracy": np.mean((said == labels)[~old]) if (~old).any() else None,
        "log_loss": -np.mean(
            np.log(table[np.arange(len(labels)), [names.index(n) for n in labels]])
        ),
        "ece": _ece(table.max(axis=1), said == labels),
        "per_class": _per_class(labels, said, names),
        "confusion": [
            {"class": names[i], "predicted": names[j], "images": int(matrix[i, j])}
            for i, j in np.argwhere(matrix)
        ],
        "accuracy_by_introduction": {
            str(number): _of_introduction(labels, said, introduced, number)
            for number in sorted(set(introduced.values()))
        },
    }


def over_rounds(matrix: Sequence[Json]) -> Json:
    """Average incremental accuracy and forgetting from the figures of every round."""
    final = matrix[-1]["accuracy_by_introduction"]
    drops = [
        max(past) - now
        for number, now in final.items()
        if now is not None
        and (
            past := [
                entry["accuracy_by_introduction"][number]
                for entry in matrix[:-1]
                if number in entry["accuracy_by_introduction"]
            ]
        )
    ]
    return {
        "average_incremental_accuracy": np.mean([entry["accuracy"] for entry in matrix]),
        "forgetting": np.mean(drops) if drops else None,
    }


def assert_agrees(report: Json, call: Callable[..., str], true: Mapping[str, str]) -> None:
    """Compare `evaluate --all-rounds --json` with the answers of every round to the same images.

    Args:
        report: of the last round.
        call: runs the command line; its standard output.
        true: path → class of every image.
    """
    introduced = {entry["class"]: entry["introduced_in_round"] for entry in report["per_class"]}
    matrix = []
    for number in range(1, report["round"] + 1):
        known = {name: first for name, first in introduced.items() if first <= number}
        paths = [path for path, label in true.items() if label in known]
        command = ("predict", report["run"], *paths, "--json", "--top", 1000, "--round", number)
        answers = [json.loads(line) for line in call(*command).splitlines()]
        matrix.append(figures(answers, true, known))
    _agree(report, {k: v for k, v in matrix[-1].items() if k != "accuracy_by_introduction"})
    _agree(report, over_rounds(matrix))
    assert len(report["rounds"]) == len(matrix)
    several = ("per_class", "confusion")
    for entry, expected in zip(report["rounds"], matrix, strict=True):
        _agree(entry, {name: value for name, value in expected.items() if name not in several})


def _agree(received: Json, expected: Json) -> None:
    """Every expected figure is among those received."""
    for name, value in expected.items():
        if isinstance(value, dict):
            _agree(received[name], value)
        elif isinstance(value, list):
            assert len(received[name]) == len(value), name
            for pair in zip(received[name], value, strict=True):
                _agree(*pair)
        else:
            exact = value is None or isinstance(value, str)
            assert received[name] == (value if exact else pytest.approx(value, abs=1e-9)), name


def _of_introduction(
    labels: np.ndarray, said: np.ndarray, introduced: Mapping[str, int], number: int
) -> float | None:
    chosen = np.array([introduced[label] == number for label in labels])
    return float(np.mean((said == labels)[chosen])) if chosen.any() else None


def _ece(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Guo et al. 2017, equation 3, bin by bin."""
    total = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence >= low) & (confidence < low + 1 / 15)
        if low == 14 / 15:
            inside |= confidence >= low
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


def _per_class(labels: np.ndarray, said: np.ndarray, names: Sequence[str]) -> list[Json]:
    found = metrics.classification_report(
        labels, said, labels=names, output_dict=True, zero_division=0
    )
    return [
        {
            "class": name,
            "images": int(found[name]["support"]),
            "accuracy": found[name]["recall"],
            "recall": found[name]["recall"],
            "precision": found[name]["precision"],
            "f1": found[name]["f1-score"],
        }
        for name in names
    ]
