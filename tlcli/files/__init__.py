"""Durable files: written aside, flushed, renamed into place; hashed; arrays in HDF5.

paths     files and folders that are there: hashed and flushed
copies    the same file elsewhere
drafts    what is made beside its target, and what was left of it
arrays    arrays and attributes in HDF5
failures  what an error of the system means for the user
"""

from tlcli.files.arrays import (
    Arrays,
    loading_arrays,
    pack_arrays,
    parsing,
    require_format,
    save_arrays,
    text_array,
)
from tlcli.files.copies import copy, copy_folder, link
from tlcli.files.drafts import (
    ABANDONED_SECONDS,
    json_text,
    place_folder,
    published,
    replace_folder,
    staging,
    sweep,
    write_json,
    written,
)
from tlcli.files.failures import failure, require_resources, saving, why_full
from tlcli.files.paths import (
    make_folders,
    remove_empty,
    require_folder,
    sha256,
    sync,
)

__all__ = [
    "ABANDONED_SECONDS",
    "Arrays",
    "copy",
    "copy_folder",
    "failure",
    "json_text",
    "link",
    "loading_arrays",
    "make_folders",
    "pack_arrays",
    "parsing",
    "place_folder",
    "published",
    "remove_empty",
    "replace_folder",
    "require_folder",
    "require_format",
    "require_resources",
    "save_arrays",
    "saving",
    "sha256",
    "staging",
    "sweep",
    "sync",
    "text_array",
    "why_full",
    "write_json",
    "written",
]
