"""Images by their content hashes, from files or from what a run keeps."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tlcli import images
from tlcli.errors import DataError
from tlcli.images import ImageFile
from tlcli.memory.state import Memory, Pixels


def pixels_of(sources: Mapping[str, ImageFile], size: int, old: Memory | None = None) -> Pixels:
    """A function that decodes images, named by their hashes, at the size of a backbone's input.

    Args:
        sources: content hash → file.
        size: side in pixels.
        old: holds the pixels of its exemplars.
    """

    def pixels(hashes: Sequence[str]) -> NDArray[np.uint8]:
        files = [sources[key] for key in hashes if key in sources]
        pictures = dict(zip(files, images.decode_many(files, size), strict=True))
        others = [key for key in hashes if key not in sources]
        gone = others if old is None else old.sources.without_pixels(others)
        kept = [key for key in others if key not in set(gone)]
        rows = dict(zip(kept, old.pixels_of(kept), strict=True)) if old and kept else {}
        result = np.empty((len(hashes), size, size, 3), np.uint8)
        for row, key in enumerate(hashes):
            picture = pictures[sources[key]] if key in sources else rows.get(key)
            if not isinstance(picture, np.ndarray):
                where = sources[key].path if key in sources else f"with content hash {key[:12]}…"
                raise DataError(
                    f"Expected the image {where} as it was when the command began. Received: "
                    f"{picture or 'it was not given'}. Put it back, or give it with --old-data."
                )
            result[row] = picture
        return result

    return pixels
