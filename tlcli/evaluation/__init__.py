"""How good a head is.

outcomes    what a head says of images, and the figures counted from it
contents    what a report consists of
report      everything that `evaluate` measures, for the last round and on the way there
retrieval   how well images of one class find each other
intervals   how sure the figures are
paired      two runs on the same images
gates       limits that figures must keep
validation  the figures of a new round, on images that were held out of it
"""

from tlcli.evaluation.contents import Beside, Learned, Report, RoundHead
from tlcli.evaluation.gates import Gate, Limits
from tlcli.evaluation.paired import Comparison, compare
from tlcli.evaluation.report import evaluate, in_detail, with_gates
from tlcli.evaluation.validation import (
    FOLDS,
    HeldOutPredictions,
    Validation,
    ValidationScheme,
    accuracies,
    calibration_error,
    cheapest,
    cross_validate,
    cross_validate_anew,
    hold_out,
    on_test,
    scheme_for,
)

__all__ = [
    "FOLDS",
    "Beside",
    "Comparison",
    "Gate",
    "HeldOutPredictions",
    "Learned",
    "Limits",
    "Report",
    "RoundHead",
    "Validation",
    "ValidationScheme",
    "accuracies",
    "calibration_error",
    "cheapest",
    "compare",
    "cross_validate",
    "cross_validate_anew",
    "evaluate",
    "hold_out",
    "in_detail",
    "on_test",
    "scheme_for",
    "with_gates",
]
