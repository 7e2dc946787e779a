"""Features computed by the workers of a Dask cluster, with the bits that one process would give.

connection   an address → a connection, or a clear error
worker       what runs on a worker: the backbone that was sent, a shard of images
crew         the workers for one backbone: sent, asked for their arithmetic, given shards

Files travel once (the backbone), paths and vectors travel for every image; images are read where
the workers are. Dask is imported where a cluster was asked for.
"""

from tlcli.cluster.connection import Connection, close_all, connect
from tlcli.cluster.crew import Crew, choices

__all__ = ["Connection", "Crew", "choices", "close_all", "connect"]
