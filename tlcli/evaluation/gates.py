"""Limits that figures must keep: what makes a pipeline stop."""

from collections.abc import Mapping
from dataclasses import dataclass

ROUNDING = 1e-9
"""The difference of two shares may be off by less."""


@dataclass(frozen=True)
class Limits:
    """The gates that are asked for; None: this one is not."""

    fail_under: float | None = None
    """Smallest accuracy that passes."""
    max_regression: float | None = None
    """Largest fall of the accuracy on the classes of the previous round, against that round."""
    min_class_accuracy: float | None = None
    """Smallest accuracy on any class that passes."""


@dataclass(frozen=True)
class Gate:
    """A limit, and what was measured."""

    name: str
    limit: float
    value: float | None
    """None: it could not be measured."""
    passed: bool
    label: str | None = None
    """The class of which the gate speaks, where it speaks of one."""

    def to_text(self) -> str:
        """Name, measured value and limit."""
        value = "unknown" if self.value is None else f"{self.value:.4f}"
        of = "" if self.label is None else f" of {self.label!r}"
        return f"{self.name}{of} is {value}, limit {self.limit:g}"

    def to_json(self) -> dict[str, object]:
        """An entry of `gates` in `evaluate --json`."""
        content = {key: value for key, value in vars(self).items() if key != "label"}
        return content | {"class": self.label}


def gates(
    limits: Limits, accuracy: float, by_class: Mapping[str, float | None], fall: float | None
) -> tuple[Gate, ...]:
    """The gates that were asked for, measured.

    Args:
        limits: of them.
        accuracy: over all images.
        by_class: accuracy of each class that the test holds, at least one; None where none of its
            images could be measured.
        fall: of the accuracy since the previous round, on its classes; None where the test holds
            none of them.
    """
    found = []
    if (limit := limits.fail_under) is not None:
        found.append(Gate("fail-under", limit, accuracy, accuracy >= limit))
    if (limit := limits.max_regression) is not None:
        passed = fall is not None and fall <= limit + ROUNDING
        found.append(Gate("max-regression", limit, fall, passed))
    if (limit := limits.min_class_accuracy) is not None:
        worst, value = min(
            by_class.items(), key=lambda entry: -1.0 if entry[1] is None else entry[1]
        )
        passed = value is not None and value >= limit
        found.append(Gate("min-class-accuracy", limit, value, passed, worst))
    return tuple(found)
