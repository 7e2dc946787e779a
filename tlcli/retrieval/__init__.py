"""Images by what they look like: descriptors, what is kept of them, the search.

descriptors  feature vectors → descriptors of length 1: plain, whitened, learned
records      which image is which row, in SQLite: the record of truth
rows         the rows themselves: one file of them, on disk or read once
store        the folder of an index: records, rows, the approximate index
writer       the right to change it: one at a time, all or nothing
search       the nearest rows, exactly or by way of the approximate index
approximate  faiss beside the rows, disposable
building     that index built, measured, and published
neighbours   classification by the nearest images or class means

An index lies in RUN/index. Rows are immutable segments of float16, as those of the cache are of
float32; a transaction of SQLite is what adds an image or takes it away.
"""

from tlcli.retrieval.approximate import available, load
from tlcli.retrieval.building import LEAST_RECALL, build, measured_recall
from tlcli.retrieval.descriptors import DESCRIPTORS, Descriptor, Ground, possible
from tlcli.retrieval.neighbours import BY, Neighbours
from tlcli.retrieval.records import Entry
from tlcli.retrieval.search import Hit, Searcher
from tlcli.retrieval.store import Index, Space, held, open_index, require_index
from tlcli.retrieval.writer import IndexWriter, writing

__all__ = [
    "BY",
    "DESCRIPTORS",
    "LEAST_RECALL",
    "Descriptor",
    "Entry",
    "Ground",
    "Hit",
    "Index",
    "IndexWriter",
    "Neighbours",
    "Searcher",
    "Space",
    "available",
    "build",
    "held",
    "load",
    "measured_recall",
    "open_index",
    "possible",
    "require_index",
    "writing",
]
