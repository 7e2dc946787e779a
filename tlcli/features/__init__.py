"""Images → feature vectors, each image through the backbone once, ever.

extraction   images → Features: from the cache, or through an engine
kinds        what gave the last bits of a vector
examples     labelled feature vectors: what a head learns from
feature_cache  of one space: segments written, found and merged
segments     one immutable file of vectors, checked against its name
projection   a fixed random projection of vectors
learned      a learned projection of vectors, and its file
vectors      a matrix whose rows stay on disk until they are asked for

Vectors are cached under the hash of the image's bytes, in a folder for each backbone, image size,
kind of arithmetic and decoder. The cache is disposable: damage is noticed and the vectors are
computed again, and results never depend on it. Memory does not grow with the number of vectors.
"""

from tlcli.features.examples import Examples, Matrix, among
from tlcli.features.extraction import Features, compute, extract, extract_pixels, recall
from tlcli.features.feature_cache import DESCRIPTION, Space, Store
from tlcli.features.kinds import UNKNOWN_DECODER, Differences, Kind, another
from tlcli.features.learned import LearnedProjection
from tlcli.features.projection import Projected, Projection
from tlcli.features.segments import images_in
from tlcli.features.vectors import Vectors, unit_rows

__all__ = [
    "DESCRIPTION",
    "UNKNOWN_DECODER",
    "Differences",
    "Examples",
    "Features",
    "Kind",
    "LearnedProjection",
    "Matrix",
    "Projected",
    "Projection",
    "Space",
    "Store",
    "Vectors",
    "among",
    "another",
    "compute",
    "extract",
    "extract_pixels",
    "images_in",
    "recall",
    "unit_rows",
]
