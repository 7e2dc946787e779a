"""Durable files: whole or absent, the same bytes for the same input, nothing from elsewhere."""

import errno
import hashlib
import json
import os
import stat
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.disk import largest_file
from tlcli import files
from tlcli.errors import StorageError


def names_in(folder):
    return [entry.name for entry in folder.iterdir()]


class Failure(Exception):
    """What goes wrong while a file is written."""


def test_written_replaces_a_file_as_a_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with files.written(path) as stream:
        stream.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names_in(tmp_path) == ["file"]


def test_written_leaves_nothing_of_a_failure(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(Failure), files.written(path) as stream:
        stream.write(b"half")
        raise Failure
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["file"]


def test_a_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    files.write_json(tmp_path / "ours", {})
    usual, ours = ((tmp_path / name).stat().st_mode for name in ("usual", "ours"))
    assert stat.S_IMODE(ours) == stat.S_IMODE(usual)


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_a_disk_that_refuses_is_a_storage_error(tmp_path, monkeypatch, function, number):
    def refuse(*arguments, **options):
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


def test_an_error_that_is_not_of_the_disk_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), files.saving(tmp_path):
        (tmp_path / "missing").read_bytes()
    with pytest.raises(Failure), files.saving(tmp_path):
        raise Failure


def test_files_are_flushed_before_and_folders_after_the_rename(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def record_replace(*arguments):
        steps.append("rename")
        replace(*arguments)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    files.write_json(tmp_path / "file", {})
    assert steps == ["file", "rename", "folder"]


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"bytes")
    assert files.sha256(tmp_path / "file") == hashlib.sha256(b"bytes").hexdigest()


def test_json_keeps_names_readable(tmp_path):
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


def test_arrays_come_back_as_they_were(tmp_path):
    files.save_arrays(tmp_path / "a.h5", ARRAYS, ATTRIBUTES)
    arrays, attributes = files.unpack_arrays((tmp_path / "a.h5").read_bytes())
    assert attributes == ATTRIBUTES
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(arrays[name], array)


def test_the_same_arrays_are_saved_as_the_same_bytes_in_every_process(tmp_path):
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


def test_a_file_that_does_not_fit_is_a_storage_error(tmp_path):
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
def test_arrays_that_do_not_fit_are_a_storage_error(tmp_path, fits):
    target = str(tmp_path / "a.h5")
    command = [sys.executable, "-c", textwrap.dedent(OVERFLOW), target, str(fits)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert names_in(tmp_path) == []
    assert (done.returncode, done.stderr) == (6, "")


def soft_link(file):
    file["x"] = h5py.SoftLink("/real")


def external_link(file):
    file["x"] = h5py.ExternalLink("other.h5", "/real")


def external_storage(file):
    file.create_dataset("x", (3,), "u1", external=[("secret", 0, h5py.h5f.UNLIMITED)])


def virtual_dataset(file):
    layout = h5py.VirtualLayout((3,), "u1")
    layout[:] = h5py.VirtualSource("other.h5", "real", (3,))
    file.create_virtual_dataset("x", layout)


def group(file):
    file.create_group("x")


@pytest.mark.parametrize(
    "smuggle", [soft_link, external_link, external_storage, virtual_dataset, group]
)
def test_only_arrays_stored_in_the_file_are_read(tmp_path, monkeypatch, smuggle):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(b"abc")
    for name in ("file.h5", "other.h5"):
        with h5py.File(tmp_path / name, "w") as file:
            file["real"] = np.frombuffer(b"abc", np.uint8)
    with h5py.File(tmp_path / "file.h5", "a") as file:
        smuggle(file)
    with pytest.raises(ValueError, match=r"x is (a link|not stored)"):
        files.unpack_arrays((tmp_path / "file.h5").read_bytes())


NAMES = st.text(st.characters(exclude_characters="\n", codec="utf-8"), min_size=1)


@given(st.lists(NAMES).map(tuple))
def test_texts_come_back_from_their_array(texts):
    array = files.text_array(texts)
    assert array.dtype == np.uint8
    assert files.texts_of(array) == texts
