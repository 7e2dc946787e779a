"""Formats: a run's classifier as a file that another runtime executes without tlcli.

table            the formats: how a file is named, written, run, and what that needs
source           what every format is written from
conversion       writing and running one of them, quietly and with errors of one kind
two_files        a format of two files in its place, old or new at any instant
parity           how far probabilities are from those of the run
keras_file       one `.keras` file
saved_model      a folder for TensorFlow
litert           one `.tflite` file
litert_metadata  what such a file says of its input and output
onnx_file        one `.onnx` file
openvino_file    a pair of files for OpenVINO
"""

from tlcli.formats import two_files
from tlcli.formats.conversion import run, write
from tlcli.formats.parity import TOLERANCE, Parity, compare
from tlcli.formats.saved_model import ENTRIES
from tlcli.formats.source import LABELS, OUTPUT, Source
from tlcli.formats.table import FORMATS, Format, format_of

__all__ = [
    "ENTRIES",
    "FORMATS",
    "LABELS",
    "OUTPUT",
    "TOLERANCE",
    "Format",
    "Parity",
    "Source",
    "compare",
    "format_of",
    "run",
    "two_files",
    "write",
]
