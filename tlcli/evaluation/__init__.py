"""How good a head is.

outcomes    what a head says of images, and the figures counted from it
report      everything that `evaluate` measures, for the last round and on the way there
intervals   how sure the figures are
paired      two runs on the same images
gates       limits that figures must keep
validation  the figures of a new round, on images that were held out of it
"""

from tlcli.evaluation.gates import Gate, Limits
from tlcli.evaluation.paired import Comparison, compare
from tlcli.evaluation.report import Report, RoundHead, evaluate, in_detail, with_gates
from tlcli.evaluation.validation import (
    FOLDS,
    Answers,
    Ask,
    Validation,
    accuracies,
    ask_for,
    by_fewest_fits,
    by_folds,
    by_holdout,
    calibration_error,
    on_test,
)

__all__ = [
    "FOLDS",
    "Answers",
    "Ask",
    "Comparison",
    "Gate",
    "Limits",
    "Report",
    "RoundHead",
    "Validation",
    "accuracies",
    "ask_for",
    "by_fewest_fits",
    "by_folds",
    "by_holdout",
    "calibration_error",
    "compare",
    "evaluate",
    "in_detail",
    "on_test",
    "with_gates",
]
