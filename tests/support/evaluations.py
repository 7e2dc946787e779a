"""What `evaluate --json` prints, made up for any number of classes."""

from typing import Any

import numpy as np

Json = dict[str, Any]

NASTY = "<b>&a|`*_\\|x\n@you\x00\x1b\ud800 \"'é</script>]]>"
"""A name in which something is special to every format."""


def evaluation(classes: int = 3, images_each: int = 14, rounds: int = 3, **changes: Any) -> Json:
    """The object, with every key, the same for the same arguments; `changes` replace entries."""
    random = np.random.default_rng(classes)
    names = [f"class_{number:03}" for number in range(classes)]
    counts = _counts(random, classes, images_each)
    introduced = [1 + number * rounds // classes for number in range(classes)]
    right = int(np.trace(counts))
    share = right / counts.sum()
    content = {
        "run": "run",
        "round": rounds,
        "images": int(counts.sum()),
        "learned": {"left_out": 0, "included": 0},
        "skipped": [],
        **_headline(share),
        "per_class": [
            _class(name, number, counts, place)
            for place, (name, number) in enumerate(zip(names, introduced, strict=True))
        ],
        "confusion": [
            {"class": names[row], "predicted": names[column], "images": int(counts[row, column])}
            for row, column in zip(*counts.nonzero(), strict=True)
        ],
        "reliability": [
            {"from": 7 / 15, "to": 8 / 15, "images": 9, "confidence": 0.51, "accuracy": 0.44},
            {"from": 14 / 15, "to": 1.0, "images": 90, "confidence": 0.98, "accuracy": 0.97},
        ],
        "mistakes": [],
        "rounds": [_round(number, share) for number in range(1, rounds + 1)],
        "average_incremental_accuracy": 0.955,
        "forgetting": -0.0004,
        "against": None,
        "beside": None,
        "gates": [],
        "card": _card(classes),
    }
    return content | changes


def mistake(path: object, name: str = "class_000", predicted: str = "class_001") -> Json:
    """An entry of `mistakes`."""
    figures = {"probability": 0.91, "probability_of_class": 0.04}
    return {"path": str(path), "class": name, "predicted": predicted, **figures}


def gate(passed: bool, name: str = "fail-under", label: str | None = None) -> Json:
    """An entry of `gates`."""
    return {"name": name, "limit": 0.9, "value": 0.958, "passed": passed, "class": label}


AGAINST = {
    "run": "other",
    "round": 2,
    "images": 700,
    "classes": 50,
    "accuracy": 0.96,
    "other_accuracy": 0.94,
    "both_right": 650,
    "only_this": 22,
    "only_other": 8,
    "both_wrong": 20,
    "difference": 0.02,
    "interval": [0.005, 0.035],
    "p_value": 0.0161,
}


def every_round(content: Json) -> Json:
    """The content as with --all-rounds."""
    more = {
        "classes": 2,
        "images": 30,
        "mean_class_accuracy": 0.9,
        "top5_accuracy": 1.0,
        "ece": 0.021,
        "log_loss": 0.1234,
    }
    return content | {"rounds": [entry | more for entry in content["rounds"]]}


def _counts(random: np.random.Generator, classes: int, images: int) -> Any:
    counts = np.diag(np.full(classes, images))
    for row in range(classes):
        for column in random.integers(classes, size=2):
            counts[row, row] -= 1
            counts[row, column] += 1
    return counts


def _headline(share: float) -> Json:
    names = ("accuracy", "mean_class_accuracy", "top5_accuracy", "old_accuracy", "new_accuracy")
    values = dict.fromkeys(names, share) | {"ece": 0.0123, "log_loss": 0.1542}
    intervals = {name: [value * 0.9, min(value * 1.1, 1.0)] for name, value in values.items()}
    return values | {"intervals": {"level": 0.95, **intervals}}


def _class(name: str, number: int, counts: Any, place: int) -> Json:
    recall = counts[place, place] / counts[place].sum()
    precision = counts[place, place] / counts[:, place].sum()
    return {
        "class": name,
        "introduced_in_round": number,
        "images": int(counts[place].sum()),
        "accuracy": float(recall),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(2 * recall * precision / (recall + precision)),
    }


def _round(number: int, share: float) -> Json:
    parts = {str(part): share - 0.004 * (number - part) for part in range(1, number + 1)}
    return {"round": number, "accuracy": share, "accuracy_by_introduction": parts}


def _card(classes: int) -> Json:
    return {
        "command": "extend-classes",
        "created": "2026-01-02T03:04:05Z",
        "backbone": "MobileNetV2",
        "backbone_fingerprint": "0123456789abcdef",
        "weights": "imagenet",
        "image_size": 224,
        "precision": "float32",
        "arithmetic": "openvino 048a56634b51",
        "head": "lda",
        "strategy": "merge",
        "temperature": 1.1,
        "memory": "moments",
        "memory_sha256": None,
        "exact": True,
        "classes": classes,
        "learned_images": None,
        "versions": {"tlcli": "1.0", "keras": "3.15.1"},
        "config": {"data": "more", "images": {"max_bad": 0.01}, "solve": None},
        "data": "splits/test.csv",
        "data_sha256": "fedcba9876543210",
        "learned_in_data": {"left_out": 0, "included": 0},
    }


def untested(content: Json, name: str) -> Json:
    """The content of a test that has no image of a class."""
    unknown = dict.fromkeys(("accuracy", "precision", "recall", "f1"))
    without = [
        entry | {"images": 0, **unknown} if entry["class"] == name else entry
        for entry in content["per_class"]
    ]
    confusion = [cell for cell in content["confusion"] if cell["class"] != name]
    return content | {"per_class": without, "confusion": confusion}


def renamed(content: Any, old: str, new: str) -> Any:
    """The content with another name for a class, everywhere."""
    if isinstance(content, dict):
        return {key: renamed(value, old, new) for key, value in content.items()}
    if isinstance(content, list):
        return [renamed(value, old, new) for value in content]
    return new if content == old else content
