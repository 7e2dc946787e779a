"""Durable files: whole or absent, the same bytes for the same input, nothing from elsewhere."""

import errno
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.disk import largest_file
from tlcli import files, strict
from tlcli.errors import StorageError
from tlcli.strict.arrays import array_file


def names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


class Failure(Exception):
    """What goes wrong while a file is written."""


def test_written_replaces_a_file_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with files.written(path) as stream:
        stream.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names_in(tmp_path) == ["file"]


def test_written_leaves_nothing_of_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(Failure), files.written(path) as stream:
        stream.write(b"half")
        raise Failure
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["file"]


def test_a_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    files.write_json(tmp_path / "ours", {})
    usual, ours = ((tmp_path / name).stat().st_mode for name in ("usual", "ours"))
    assert stat.S_IMODE(ours) == stat.S_IMODE(usual)


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_disk_that_refuses_is_a_storage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int
) -> None:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, function, refuse)
    with pytest.raises(StorageError, match=os.strerror(number)) as full:
        files.write_json(path, {"a": 1})
    assert str(path) in str(full.value)
    assert full.value.exit_code == 6
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["file"]


def test_an_error_that_is_not_of_the_disk_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), files.saving(tmp_path):
        (tmp_path / "missing").read_bytes()
    with pytest.raises(Failure), files.saving(tmp_path):
        raise Failure


def test_files_are_flushed_before_and_folders_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def record_replace(*arguments: Any) -> None:
        steps.append("rename")
        replace(*arguments)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    files.write_json(tmp_path / "file", {})
    assert steps == ["file", "rename", "folder"]


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    assert files.sha256(tmp_path / "file") == hashlib.sha256(b"bytes").hexdigest()


def test_json_keeps_names_readable(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"name": "キツネ", "list": [1, None]})
    text = (tmp_path / "a.json").read_text("utf-8")
    assert "キツネ" in text
    assert json.loads(text) == {"name": "キツネ", "list": [1, None]}


ARRAYS = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "counts": np.array([2**62, -1]),
    "none": np.zeros((0, 32), np.uint8),
}
ATTRIBUTES = {"format": 1, "name": "キツネ", "complete": True}


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    files.save_arrays(tmp_path / "a.h5", ARRAYS, ATTRIBUTES)
    with files.loading_arrays(tmp_path / "a.h5", 1) as file:
        for name, value in ATTRIBUTES.items():
            assert file.attribute(name, lambda found: found) == value
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(
                file.array(name, array.dtype.str, array.shape), array, strict=True
            )


def test_the_same_arrays_are_saved_as_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    files.save_arrays(tmp_path / "a.h5", {"x": np.arange(9)}, {"format": 1})
    script = """
        import sys, time
        from pathlib import Path
        import numpy as np
        from tlcli import files
        time.time = lambda: 0.0
        files.save_arrays(Path(sys.argv[1]), {"x": np.arange(9)}, {"format": 1})
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "b.h5")]
    subprocess.run(command, check=True, timeout=60)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_a_file_that_does_not_fit_is_a_storage_error(tmp_path: Path) -> None:
    with largest_file(100), pytest.raises(StorageError, match="too large"):
        files.write_json(tmp_path / "a.json", {"text": "x" * 1000})
    assert names_in(tmp_path) == []


# In a process of its own: HDF5 cannot be trusted after it failed to write.
OVERFLOW = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from tlcli import files
    from tlcli.errors import StorageError

    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    try:
        files.save_arrays(Path(sys.argv[1]), {"x": np.arange(5000)}, {"format": 1})
    except StorageError:
        sys.exit(6)
"""


@pytest.mark.parametrize("fits", [1000, 20_000])
def test_arrays_that_do_not_fit_are_a_storage_error(tmp_path: Path, fits: int) -> None:
    target = str(tmp_path / "a.h5")
    command = [sys.executable, "-c", textwrap.dedent(OVERFLOW), target, str(fits)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert names_in(tmp_path) == []
    assert (done.returncode, done.stderr) == (6, "")


NAMES = st.text(st.characters(exclude_characters="\n", codec="utf-8"), min_size=1)


@given(st.lists(NAMES, unique=True).map(tuple))
def test_texts_come_back_from_their_array(texts: tuple[str, ...]) -> None:
    content = io.BytesIO(files.pack_arrays({"texts": files.text_array(texts)}, {}))
    with array_file(content) as file:
        assert file.names("texts", strict.any_text) == texts
