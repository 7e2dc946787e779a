"""Heads: every one is a linear softmax layer; solvers differ in how they find its weights.

linear            LinearHead: logits, probabilities, files
renamed           a head of an earlier round under the names that its classes have by now
closed_form       solved from the moments: lda, ridge, nearest class mean
span              the same, sooner, for heads of a few images that are only tested
imprinting        where the columns of new classes start
generic           what the images of a head's classes look like on average
gaussian_columns  new classes beside a head whose images are gone
gradient          solved by optimisation on features: softmax, and some columns of a head
costs             what an error costs in softmax, chosen on images that are held out
svm               solved by optimisation on the directions of features
descent           what both of them are solved by: watched, bounded in cost
calibration       the temperature of a head, and how far its probabilities can be believed
recipes           the table of heads and their options
evidence          what the head of a round may be solved from
margin            the unit in which temperatures of rounds are compared

SciPy is imported by the solvers alone: a prediction needs none of it.
"""

from tlcli.heads.calibration import (
    ECE_BINS,
    expected_calibration_error,
    reliability,
    rounded,
    temperature,
)
from tlcli.heads.closed_form import PRIORS
from tlcli.heads.costs import priced
from tlcli.heads.descent import Watch, watched
from tlcli.heads.evidence import Evidence, Fit
from tlcli.heads.gradient import Distillation, Standardisation, Task, fit_columns
from tlcli.heads.linear import Classifier, Generic, LinearHead, load, save, softmax
from tlcli.heads.margin import blend, clipped_temperature, default_temperature, margin
from tlcli.heads.recipes import CLASS_WEIGHTS, FOR_FEW, HEADS, Recipe, require_known
from tlcli.heads.renamed import UnitedHead

__all__ = [
    "CLASS_WEIGHTS",
    "ECE_BINS",
    "FOR_FEW",
    "HEADS",
    "PRIORS",
    "Classifier",
    "Distillation",
    "Evidence",
    "Fit",
    "Generic",
    "LinearHead",
    "Recipe",
    "Standardisation",
    "Task",
    "UnitedHead",
    "Watch",
    "blend",
    "clipped_temperature",
    "default_temperature",
    "expected_calibration_error",
    "fit_columns",
    "load",
    "margin",
    "priced",
    "reliability",
    "require_known",
    "rounded",
    "save",
    "softmax",
    "temperature",
    "watched",
]
