"""Images and their labels: what DATA means, how a file becomes pixels, how images are split.

scanning   DATA → Listing: find, name, hash; nothing is decoded
decoding   one image → (size, size, 3) RGB, or BadImage with the reason
splitting  content hashes → held-out share, test images, folds
given      what Python code hands over → files, bytes and pixels
layouts    datasets that come divided into train, valid and test
walking    what lies in folders, sorted, links that lead back up left out
checking   DATA → DataReport: what is wrong with a data folder
hashing    files → content hashes; a file that has not changed is read once, ever
reading    regular files only, hashed in blocks, mapped over by threads
"""

from tlcli.images.checking import DataReport, Extent, check
from tlcli.images.decoding import FORMATS, decode, decode_many, thumbnail
from tlcli.images.given import Given, Item, taken
from tlcli.images.hashing import content_hashes
from tlcli.images.reading import PROCESSORS, map_ahead
from tlcli.images.scanning import (
    IMAGE_SUFFIXES,
    ImageFile,
    LabelledImage,
    Listing,
    Skipped,
    contents,
    find_images,
    growing,
    image_batches,
    reject_bad,
    scan,
)
from tlcli.images.splitting import HELD_OUT, digest_of, folds, holdout, set_apart

__all__ = [
    "FORMATS",
    "HELD_OUT",
    "IMAGE_SUFFIXES",
    "PROCESSORS",
    "DataReport",
    "Extent",
    "Given",
    "ImageFile",
    "Item",
    "LabelledImage",
    "Listing",
    "Skipped",
    "check",
    "content_hashes",
    "contents",
    "decode",
    "decode_many",
    "digest_of",
    "find_images",
    "folds",
    "growing",
    "holdout",
    "image_batches",
    "map_ahead",
    "reject_bad",
    "scan",
    "set_apart",
    "taken",
    "thumbnail",
]
