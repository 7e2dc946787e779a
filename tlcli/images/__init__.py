"""Images and their labels: what DATA means, how a file becomes pixels, how images are split.

scanning       DATA → Listing: find, name, hash; nothing is decoded
sources        class folders, tables and lines on standard input → entries
tables         which columns of a table hold paths, labels and groups
missing_files  what to say of a table whose paths lead nowhere
parts          what the parts of a dataset that comes divided are called
table_parts    the rows of a table in one of them
layouts        datasets that come divided into train, valid and test
unlabelled     images without labels
in_memory      what Python code hands over → files, bytes and pixels
identifying    what kind of image a file is, by its content
decoding       one image → (S, S, 3) RGB, or BadImage with the reason
dicom          pixels of DICOM files, by pydicom where it is installed
square         the square that images are drawn to: its side, and what a run may choose
colours        colour profiles → sRGB
tones          how much of the range from black to white images use
depths         grey of more than 8 bits → 8 bits
hold_out       content hashes → held-out share, test images, folds
passed_over    files that are no images by their suffix
walking        what lies in folders, sorted, links that lead back up left out
checking       DATA → DataReport: what is wrong with a data folder
near_copies    images that look alike though their bytes differ
max_bad        the share of bad images that data may have
class_folders  copies of images in folders named after their classes
hashing        files → content hashes; a file that has not changed is read once, ever
reading        regular files only, hashed in blocks, mapped over by threads
"""

from tlcli.images.checking import DataReport, Extent, check
from tlcli.images.decoding import (
    DECODER,
    Drawn,
    decode,
    decode_many,
    draw_many,
    thumbnail,
)
from tlcli.images.hashing import content_hashes
from tlcli.images.hold_out import (
    HELD_OUT,
    TRAINED_ONLY,
    digest_of,
    folds,
    holdout,
    set_apart,
    some_of_each,
    units,
)
from tlcli.images.identifying import FORMATS
from tlcli.images.in_memory import Given, Item, taken
from tlcli.images.max_bad import reject_bad
from tlcli.images.passed_over import PassedOver, passed_text
from tlcli.images.reading import PROCESSORS, map_ahead
from tlcli.images.scanning import (
    IMAGE_SUFFIXES,
    ImageFile,
    LabelledImage,
    Listing,
    Skipped,
    content_groups,
    contents,
    find_images,
    growing,
    image_batches,
    scan,
)
from tlcli.images.sources import (
    class_name,
    is_plain_folder,
    require_paths,
)
from tlcli.images.square import DEFAULT_FIT, FITS, Square
from tlcli.images.tones import FEW_LEVELS, Tones

__all__ = [
    "DECODER",
    "DEFAULT_FIT",
    "FEW_LEVELS",
    "FITS",
    "FORMATS",
    "HELD_OUT",
    "IMAGE_SUFFIXES",
    "PROCESSORS",
    "TRAINED_ONLY",
    "DataReport",
    "Drawn",
    "Extent",
    "Given",
    "ImageFile",
    "Item",
    "LabelledImage",
    "Listing",
    "PassedOver",
    "Skipped",
    "Square",
    "Tones",
    "check",
    "class_name",
    "content_groups",
    "content_hashes",
    "contents",
    "decode",
    "decode_many",
    "digest_of",
    "draw_many",
    "find_images",
    "folds",
    "growing",
    "holdout",
    "image_batches",
    "is_plain_folder",
    "map_ahead",
    "passed_text",
    "reject_bad",
    "require_paths",
    "scan",
    "set_apart",
    "some_of_each",
    "taken",
    "thumbnail",
    "units",
]
