"""What DATA means: folders, tables, standard input; names, hashes, duplicates, conflicts."""

import hashlib
import io
import itertools
import os
import shutil
import time
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.disk import on_disk
from tlcli.errors import BadImage, DataError, UsageError
from tlcli.images import (
    Listing,
    Skipped,
    content_hashes,
    contents,
    find_images,
    image_batches,
    scan,
)

as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


def put(path: Path, content: bytes | None = None) -> Path:
    """Write a file that scan takes for an image: nothing is decoded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(path) if content is None else content)
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    put(root / "dog/2.JPG")
    put(root / "dog/1.png")
    put(root / "cat/deep/er/1.webp")
    return root


def named(listing: Listing, root: Path | str) -> list[tuple[str, str]]:
    return [(image.label, str(on_disk(image).relative_to(root))) for image in listing.images]


def reasons(listing: Listing) -> dict[str, str]:
    return {Path(skip.path).name: skip.reason for skip in listing.skipped}


# --- folders


def test_class_folders(data: Path) -> None:
    listing = scan(data)
    assert named(listing, data) == [
        ("cat", "cat/deep/er/1.webp"),
        ("dog", "dog/1.png"),
        ("dog", "dog/2.JPG"),
    ]
    assert listing.classes == listing.named_classes == ("cat", "dog")
    assert listing.labels == ("cat", "dog", "dog")
    assert listing.total == 3
    assert (listing.skipped, listing.duplicates, listing.ignored) == ((), 0, 0)
    first = listing.images[0]
    assert first.sha256 == hashlib.sha256(on_disk(first).read_bytes()).hexdigest()
    assert listing.sha256s[0] == first.sha256


def test_a_path_may_be_a_string(data: Path) -> None:
    assert scan(str(data)) == scan(data)


def test_what_is_ignored_hidden_or_empty(data: Path) -> None:
    put(data / "dog/notes.txt")
    put(data / "README.md")
    for hidden in (".git/x.png", "dog/.x.png", "dog/Thumbs.db", "__MACOSX/x.png", "desktop.ini"):
        put(data / hidden)
    (data / "bird").mkdir()
    listing = scan(data)
    assert listing.ignored == 2
    assert listing.empty_classes == ("bird",)
    assert listing.classes == ("cat", "dog")
    assert listing.named_classes == ("bird", "cat", "dog")
    assert len(listing.images) == 3


def test_an_image_beside_the_class_folders_is_skipped_by_name(data: Path) -> None:
    put(data / "stray.png")
    assert reasons(scan(data)) == {"stray.png": "it lies in no class folder"}


def test_empty_and_unreadable_files_are_skipped(data: Path) -> None:
    put(data / "dog/empty.png", b"")
    (data / "dog/nowhere.png").symlink_to(data / "missing")
    (data / "dog/self.png").symlink_to(data / "dog/self.png")
    os.mkfifo(data / "dog/pipe.png")
    found = reasons(scan(data))
    assert found["empty.png"] == "the file is empty"
    assert found["nowhere.png"] == "the file does not exist"
    assert "cannot be read" in found["self.png"]
    assert "not a regular file" in found["pipe.png"]
    assert [Path(skip.path).name for skip in scan(data).skipped] == sorted(found)


def test_copies_under_one_label_count_once(data: Path) -> None:
    put(data / "dog/3.png", b"same")
    put(data / "dog/0.png", b"same")
    put(data / "dog/4.png", b"same")
    listing = scan(data)
    assert listing.duplicates == 2
    assert ("dog", "dog/0.png") in named(listing, data)
    assert len(listing.images) == 4
    assert listing.conflicts == 0


def test_copies_under_two_labels_are_all_left_out(data: Path) -> None:
    put(data / "dog/x.png", b"same")
    put(data / "dog/y.png", b"same")
    put(data / "cat/z.png", b"same")
    listing = scan(data)
    assert len(listing.images) == 3
    assert (listing.conflicts, listing.duplicates, listing.total) == (3, 0, 6)
    for name, other in (("x.png", "cat/z.png"), ("y.png", "cat/z.png"), ("z.png", "dog/x.png")):
        reason = reasons(listing)[name]
        assert "'cat' and 'dog'" in reason
        assert reason.endswith(str(data / other))


def test_contents_are_those_of_all_images(data: Path) -> None:
    """Whatever their labels; a folder may have none."""
    expected = set(scan(data).sha256s)
    put(data / "dog/empty.png", b"")
    (data / "dog/nowhere.png").symlink_to(data / "missing")
    for name in ("dog/x.png", "cat/z.png"):
        put(data / name, b"same")
    put(data / "stray.png", b"stray")
    more = {hashlib.sha256(content).hexdigest() for content in (b"same", b"stray")}
    assert contents(data) == expected | more
    table = put(data.parent / "table.csv", b"path,label\ndata/stray.png,a\ndata/stray.png,b\n")
    assert contents(table) == {hashlib.sha256(b"stray").hexdigest()}
    (data.parent / "nothing").mkdir()
    assert contents(data.parent / "nothing") == frozenset()
    with pytest.raises(UsageError):
        contents(data / "missing")


def test_a_class_whose_images_all_conflict_is_still_named(data: Path) -> None:
    shutil.copytree(data / "dog", data / "wolf")
    listing = scan(data)
    assert listing.classes == ("cat",)
    assert listing.named_classes == ("cat", "dog", "wolf")


def test_links_are_followed_and_loops_end(data: Path, tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere/a.png").parent
    (data / "fox").symlink_to(elsewhere)
    (data / "dog/more").symlink_to(elsewhere)
    (data / "dog/3.png").symlink_to(data / "dog/1.png")
    (data / "dog/up").symlink_to(data)
    (data / "dog/self").symlink_to(data / "dog")
    (data / "cat/deep/top").symlink_to(tmp_path)
    (data / "whole").symlink_to(data)
    (elsewhere / "back").symlink_to(elsewhere)
    listing = scan(data)
    assert listing.named_classes == ("cat", "dog", "fox")
    assert listing.duplicates == 1
    assert sorted(reasons(listing)) == ["a.png"]
    assert listing.conflicts == 2


def test_class_names_are_normalised_and_merged(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Käse") for form in ("NFC", "NFD"))
    for i, folder in enumerate((composed, decomposed, f" {composed} ")):
        put(tmp_path / folder / f"{i}.png")
    assert scan(tmp_path).classes == (composed,)
    assert len(scan(tmp_path).images) == 3


@pytest.mark.parametrize("name", ["a\nb", "a\x1bb", " ", "a\u2028b", os.fsdecode(b"\xff")])
def test_class_names_without_controls(tmp_path: Path, name: str) -> None:
    put(tmp_path / name / "1.png")
    with pytest.raises(DataError, match="class name") as caught:
        scan(tmp_path)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_the_order_does_not_depend_on_the_file_system(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = scan(data)
    real = os.scandir

    class Backwards:
        def __init__(self, folder: Path) -> None:
            self.entries = real(folder)

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(list(self.entries)[::-1])

        def __exit__(self, *_: object) -> None:
            self.entries.close()

    monkeypatch.setattr(os, "scandir", Backwards)
    assert scan(data) == expected


def test_deep_folders(tmp_path: Path) -> None:
    folder = tmp_path / "cat"
    folder.mkdir()
    for _ in range(700):
        folder = folder / "d"
        folder.mkdir()
    put(folder / "1.png", b"x")
    assert len(scan(tmp_path).images) == 1


def test_progress_reaches_the_end(data: Path) -> None:
    calls = []
    scan(data, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_files_that_have_not_changed_are_not_read_again(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(data / "dog/empty.png", b"")
    monkeypatch.setattr("tlcli.images.hashing._now_ns", lambda: time.time_ns() + 10**13)
    calls = []
    expected = scan(data)
    monkeypatch.setattr(Path, "open", lambda self, *_: pytest.fail(f"{self} is read"))
    assert scan(data, progress=lambda done, total: calls.append((done, total))) == expected
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        ([], "no folder in it"),
        (["a.jpg", "b.png", "c.txt"], "2 image files directly in it"),
        ([".hidden/a.jpg"], "no folder in it"),
        (["cat/notes.txt"], "no image file"),
    ],
)
def test_folders_that_hold_no_classes(tmp_path: Path, files: list[str], hint: str) -> None:
    for name in files:
        put(tmp_path / name)
    with pytest.raises(DataError, match=hint) as caught:
        scan(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["missing", "missing.csv", "data/dog/1.png/below", "nul\0"])
def test_what_does_not_exist_is_a_usage_error(data: Path, name: str) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        scan(data.parent / name)


def test_a_single_image_is_no_data(data: Path) -> None:
    with pytest.raises(DataError, match=r"path,label.*1\.png"):
        scan(data / "dog/1.png")


def test_a_pipe_is_no_data(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError):
        scan(tmp_path / "pipe.csv")


def test_a_path_that_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Received"):
        scan(tmp_path / ("x" * 300))


def test_folders_that_cannot_be_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def refuse(folder: Path) -> "os._ScandirIterator[str]":
        if Path(folder).name == "deep":
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="no permission") as caught:
        scan(data)
    assert "deep" in str(caught.value)


def test_files_that_cannot_be_opened(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "1.png":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert reasons(scan(data)) == {"1.png": "no permission to read the file"}


@as_root
def test_permissions_for_real(data: Path) -> None:
    (data / "dog/1.png").chmod(0)
    assert reasons(scan(data)) == {"1.png": "no permission to read the file"}
    (data / "dog").chmod(0)
    try:
        with pytest.raises(DataError, match="no permission"):
            scan(data)
    finally:
        (data / "dog").chmod(0o700)


# --- tables


def table(data: Path, text: str | bytes, name: str = "list.csv") -> Path:
    path = data / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("path,label\ndog/1.png,dog\ncat/deep/er/1.webp,cat\n", "list.csv"),
        ("path,label\r\ndog/1.png,dog\r\ncat/deep/er/1.webp,cat", "list.CSV"),
        ("\ufeffpath,label\ndog/1.png,dog\ncat/deep/er/1.webp,cat\n", "list.csv"),
        ("path\tlabel\ndog/1.png\tdog\ncat/deep/er/1.webp\tcat\n", "list.tsv"),
        ("path\tlabel\ndog/1.png\tdog\ncat/deep/er/1.webp\tcat\n", "list.txt"),
        ('\n\nid, Label ,PATH\n1,dog,dog/1.png\n\n2," cat ","cat/deep/er/1.webp"\n', "list.csv"),
    ],
)
def test_tables(data: Path, text: str | bytes, name: str) -> None:
    listing = scan(table(data, text, name))
    assert named(listing, data) == [("cat", "cat/deep/er/1.webp"), ("dog", "dog/1.png")]


def test_table_paths(data: Path, tmp_path: Path) -> None:
    odd = put(tmp_path / "a,b\n.whatever")
    rows = f'path,label\n"{odd}",x\n../data/dog/1.png,x\nmissing.png,x\nodd://a/b.png,x\n.,x\n'
    listing = scan(table(data, rows))
    assert {image.path.name for image in listing.images} == {"1.png", odd.name}
    assert sorted(skip.reason for skip in listing.skipped) == [
        "a folder, not a file",
        "the file cannot be read (odd: Protocol not known: odd)",
        "the file does not exist",
    ]


def test_a_row_given_twice_and_a_path_with_two_labels(data: Path) -> None:
    listing = scan(table(data, "path,label\ndog/1.png,a\ndog/1.png,a\n"))
    assert (len(listing.images), listing.duplicates) == (1, 1)
    listing = scan(table(data, "path,label\ndog/1.png,a\ndog/1.png,b\n"))
    assert (len(listing.images), listing.conflicts) == (0, 2)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("photo,kind\na,b\n", "'photo', 'kind'"),
        ("dog/1.png,dog\n", "columns path,label"),
        ("path,label\n", "without a row"),
        ("path,label\na.png,\n", "line 2"),
        ("path,label\na.png,x\n,dog\n", "line 3"),
        ("path,label\na.png\n", "line 2"),
        ("path,label\na,b.png,dog\n", "line 2"),
        ('path,label\n"a.png,dog\n', "quotation"),
        ('path,label\na.png,"x\ny"\n', "class name"),
        ("path,label\na.png,K\xe4se\n".encode("latin-1"), "UTF-8"),
        ("path,label\na.png,x\n".encode("utf-16"), "UTF-8"),
    ],
)
def test_malformed_tables(data: Path, text: str | bytes, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        scan(table(data, text))
    assert "list.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


# --- standard input


@pytest.mark.parametrize(
    "text",
    [
        "data/dog/1.png,dog\ndata/cat/deep/er/1.webp,cat\n",
        "path,label\ndata/dog/1.png,dog\ndata/cat/deep/er/1.webp,cat\n",
        "\ufefflabel\tpath\r\ndog\tdata/dog/1.png\r\ncat\tdata/cat/deep/er/1.webp\r\n",
        "\ndata/dog/1.png\tdog\ndata/cat/deep/er/1.webp\tcat",
    ],
)
def test_standard_input(data: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(data.parent)
    listing = scan("-", stdin=io.StringIO(text))
    assert named(listing, "data") == [("cat", "cat/deep/er/1.webp"), ("dog", "dog/1.png")]
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert scan("-") == listing


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("", "without a row"), ("a.png\n", "line 1"), ("a.png,x\nb.png\n", "line 2"), ("a,b,c", "1")],
)
def test_malformed_standard_input(text: str, complaint: str) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        scan("-", stdin=io.StringIO(text))
    assert "standard input" in str(caught.value)


def test_standard_input_in_another_encoding() -> None:
    stream = io.TextIOWrapper(io.BytesIO(b"a.png,K\xe4se\n"), encoding="utf-8")
    with pytest.raises(DataError, match="0xe4"):
        scan("-", stdin=stream)


# --- find_images


def test_find_images(data: Path) -> None:
    put(data / "dog/notes.txt")
    put(data / "top.gif")
    (data / "dog/loop").symlink_to(data)
    found = find_images([data / "dog/notes.txt", str(data), data / "missing"])
    relative = [str(Path(str(path)).relative_to(data)) for path in found]
    assert relative == [
        "dog/notes.txt",
        "cat/deep/er/1.webp",
        "dog/1.png",
        "dog/2.JPG",
        "top.gif",
        "missing",
    ]


def test_lines_are_answered_as_they_arrive(data: Path) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stdin, os.fdopen(write, "wb", buffering=0) as other:
        batches = image_batches(["-"], itertools.repeat(32), stdin)
        other.write(b"a.png\n\n")
        assert next(batches) == [Path("a.png")]
        other.write(b"b.png\nc")
        assert next(batches) == [Path("b.png")]
        other.write(f".png\r\n{data / 'dog'}\n".encode())
        assert [path.name for path in next(batches)] == ["c.png", "1.png", "2.JPG"]
        other.write(b"last")
        other.close()
        assert list(batches) == [[Path("last")]]


def test_batches_grow_and_files_beside_standard_input_keep_their_place(data: Path) -> None:
    stdin = io.BufferedReader(io.BytesIO(b"x\ny\n"))
    sizes = itertools.chain([1, 2], itertools.repeat(3))
    found = list(image_batches(["a", "b", "c", "d", "-", "e"], sizes, stdin))
    assert [[path.name for path in batch] for batch in found] == [
        ["a"], ["b", "c"], ["d"], ["x", "y"], ["e"],
    ]  # fmt: skip


def test_paths_on_standard_input_may_be_any_bytes() -> None:
    stdin = io.BufferedReader(io.BytesIO(b"K\xe4se.png\n\xc3\xa4.png"))
    (first,), (second,) = image_batches(["-"], itertools.repeat(32), stdin)
    assert os.fsencode(str(first)) == b"K\xe4se.png"
    assert second == Path("ä.png")


def test_a_long_line_on_standard_input_arrives_whole() -> None:
    stdin = io.BufferedReader(io.BytesIO(b"a" * 300_000 + b"\nb\n"))
    batches = list(image_batches(["-"], itertools.repeat(32), stdin))
    assert [len(str(path)) for batch in batches for path in batch] == [300_000, 1]


def test_patterns_match_what_the_shell_has_not(data: Path) -> None:
    assert [path.name for path in find_images([f"{data}/dog/[12].*"])] == ["1.png", "2.JPG"]
    assert [path.name for path in find_images([f"{data}/**/1.png"])][-1] == "1.png"
    assert list(find_images([f"{data}/*.nothing"])) == [Path(f"{data}/*.nothing")]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    odd = tmp_path / "a[1].png"
    for path in (odd, tmp_path / "a1.png"):
        path.write_bytes(b"")
    assert list(find_images([odd])) == [odd]


# --- hashes and limits


def test_content_hash_of_more_than_a_block(tmp_path: Path) -> None:
    content = os.urandom((1 << 20) + 7)
    path = put(tmp_path / "a", content)
    assert list(content_hashes([path])) == [hashlib.sha256(content).hexdigest()]


def test_content_hash_never_opens_what_is_not_regular(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    paths = (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / "missing")
    assert all(isinstance(result, BadImage) for result in content_hashes(paths))


def test_an_empty_listing() -> None:
    assert Listing(()).classes == ()
    assert Listing(()).total == 0


def test_skipped_as_json() -> None:
    assert Skipped("a", "b").to_json() == {"path": "a", "reason": "b"}
