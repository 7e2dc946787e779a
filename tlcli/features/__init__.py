"""Images → feature vectors, each image through the backbone once, ever.

extraction   images → Features: from the cache, or through an engine
store        the cache of one space: segments written, found and merged
segments     one immutable file of vectors, checked against its name
vectors      a matrix whose rows stay on disk until they are asked for

Vectors are cached under the hash of the image's bytes, in a folder for each backbone, image size,
engine and decoder. The cache is disposable: damage is noticed and the vectors are computed again,
and results never depend on it. Memory does not grow with the number of vectors.
"""

from tlcli.features.extraction import Features, extract
from tlcli.features.segments import images_in
from tlcli.features.store import DESCRIPTION, Space, Store
from tlcli.features.vectors import Vectors

__all__ = ["DESCRIPTION", "Features", "Space", "Store", "Vectors", "extract", "images_in"]
