"""The one door through which files come in that somebody else may have made.

regular  opens a file and nothing else
values   turns JSON into what a format says, field by field
arrays   the same with HDF5, whose sizes are compared with the file's before memory is taken

Whatever does not fit is a `Malformed`, whose message says where and what; the reader of a format
adds the path. `arrays` is imported by name: it takes NumPy.
"""

from tlcli.strict.regular import content_of, opened
from tlcli.strict.values import (
    HEX_DIGEST,
    NAME,
    Malformed,
    Reader,
    any_text,
    anything,
    at_least,
    is_printable,
    json_of,
    listing,
    mapping,
    number,
    optional,
    printable,
    record,
    shown,
    table,
    text,
    truth,
    unique,
    whole,
)

__all__ = [
    "HEX_DIGEST",
    "NAME",
    "Malformed",
    "Reader",
    "any_text",
    "anything",
    "at_least",
    "content_of",
    "is_printable",
    "json_of",
    "listing",
    "mapping",
    "number",
    "opened",
    "optional",
    "printable",
    "record",
    "shown",
    "table",
    "text",
    "truth",
    "unique",
    "whole",
]
