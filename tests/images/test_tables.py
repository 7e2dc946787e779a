"""Tables as people have them: other columns, other separators, paths that lead nowhere."""

import errno
import io
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support.disk import on_disk
from tlcli.config import Columns
from tlcli.errors import DataError, DividedData, UnclearTable
from tlcli.images import content_groups, scan

FILES = ("cat/1.png", "cat/2.png", "dog/1.png")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    monkeypatch.chdir(folder)
    return folder


def table(data: Path, text: str, name: str = "list.csv") -> Path:
    (data / name).write_text(text)
    return data / name


def labels(data: Path, source: Path | str, columns: Columns | None = None) -> dict[str, str]:
    listing = scan(source, columns=columns or Columns())
    assert listing.skipped == ()
    root = data.resolve()
    return {str(on_disk(i).resolve().relative_to(root)): i.label for i in listing.images}


EXPECTED = {"cat/1.png": "cat", "cat/2.png": "cat", "dog/1.png": "dog"}

UNAMBIGUOUS = (
    "filename,class\ncat/1.png,cat\ncat/2.png,cat\ndog/1.png,dog\n",
    "image,label\ncat/1.png,cat\ncat/2.png,cat\ndog/1.png,dog\n",
    "Path;Label\ncat/1.png;cat\ncat/2.png;cat\ndog/1.png;dog\n",
    "LABEL|IMG_PATH\ncat|cat/1.png\ncat|cat/2.png\ndog|dog/1.png\n",
    "File Name\tCategory Name\ncat/1.png\tcat\ncat/2.png\tcat\ndog/1.png\tdog\n",
    "id,width,image_path,split,target\n1,9,cat/1.png,a,cat\n2,9,cat/2.png,a,cat\n"
    "3,9,dog/1.png,b,dog\n",
    "image,cat,dog\ncat/1.png,1,0\ncat/2.png,1.0,0.0\ndog/1.png,0,1\n",
    "path,label\ncat\\1.png,cat\ncat\\2.png,cat\ndog\\1.png,dog\n",
    '"path","label"\r\n"cat/1.png","cat"\r\n"cat/2.png","cat"\r\n"dog/1.png","dog"\r\n',
)


@pytest.mark.parametrize("text", UNAMBIGUOUS)
def test_what_is_unambiguous_is_taken(
    data: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    assert labels(data, table(data, text)) == EXPECTED
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert labels(data, "-") == EXPECTED


def test_columns_that_are_told_go_before_all_others(data: Path) -> None:
    text = "path,label,photo,Kind of animal\nx,y,cat/1.png,cat\nx,y,dog/1.png,dog\n"
    told = Columns("photo", "Kind of animal")
    assert labels(data, table(data, text), told) == {"cat/1.png": "cat", "dog/1.png": "dog"}


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("photo,kind", {"--path-column": "photo", "--label-column": "kind"}),
        ("photo,label", {"--path-column": "photo"}),
        ("path,kind", {"--label-column": "kind"}),
        ("path,a,b", {"--label-column": "COLUMN"}),
        ("path,class,category", {"--label-column": "class"}),
        ("path,label,label", {"--label-column": "label"}),
        ("path,label,label_2", {"--label-column": "label"}),
        ("file,image,label", {"--path-column": "file"}),
    ],
)
def test_what_is_not_is_asked_for(
    data: Path, monkeypatch: pytest.MonkeyPatch, header: str, options: dict[str, str]
) -> None:
    """The columns are named, and the options that say which are meant."""
    cells = ("cat/1.png", "cat", "cat")[: header.count(",") + 1]
    text = f"{header}\n{','.join(cells)}\n"
    with pytest.raises(UnclearTable) as caught:
        scan(table(data, text))
    assert caught.value.options == options
    assert all(repr(name) in str(caught.value) for name in header.split(","))
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with pytest.raises(UnclearTable, match="standard input"):
        scan("-")


def test_a_column_that_is_told_must_be_there(data: Path) -> None:
    text = "path,label\ncat/1.png,cat\n"
    with pytest.raises(UnclearTable, match="'lable'") as caught:
        scan(table(data, text), columns=Columns(label_column="lable"))
    assert caught.value.options == {"--label-column": "label"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("path,label\ncat/1.png,cat\ncat/2.png,cat|dog\n", 3),
        ("path,label\ncat/1.png,cat;dog\n", 2),
        ("path,label\ncat/1.png,\"['cat', 'dog']\"\n", 2),
        ('path,label\ncat/1.png,cat\ndog/1.png,dog\ncat/2.png,"cat, dog"\n', 4),
        ("path,label\ncat/1.png,cat\ndog/1.png,dog\ncat/2.png,dog/cat\n", 4),
        ("image,cat,dog\ncat/1.png,1,0\ncat/2.png,1,1\n", 3),
    ],
)
def test_several_labels_of_an_image_are_refused(data: Path, text: str, line: int) -> None:
    with pytest.raises(DataError, match=f"line {line}.*several"):
        scan(table(data, text))


def test_a_comma_in_the_name_of_a_class_is_no_list(data: Path) -> None:
    text = 'path,label\ncat/1.png,"shark, white"\ndog/1.png,salt/pepper\n'
    found = labels(data, table(data, text))
    assert set(found.values()) == {"shark, white", "salt/pepper"}


@pytest.mark.parametrize("row", ["cat/1.png,0,0", "cat/1.png,2,0", "cat/1.png,1"])
def test_a_row_of_zeros_and_ones_names_one_class(data: Path, row: str) -> None:
    with pytest.raises(DataError, match="line 3"):
        scan(table(data, f"image,cat,dog\ndog/1.png,0,1\n{row}\n"))


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("/home/x/cat/1.png", "leave '/home/x/' out"),
        ("C:\\photos\\cat\\1.png", r"leave 'C:\\\\photos\\\\' out"),
        ("D:\\photos\\1.png", "another system"),
        ("cat/1", "add '.png'"),
        ("data/cat/1.png", "leave 'data/' out"),
        ("gone.png", "Correct the paths"),
    ],
)
def test_paths_that_lead_nowhere(data: Path, given: str, advice: str) -> None:
    """The first is named, how many there are, what they count from, and what may help."""
    source = table(data, f"path,label\n{given},cat\nnowhere/2.png,dog\n")
    with pytest.raises(DataError, match=advice) as caught:
        scan(source)
    for part in ("2 of 2", repr(given), repr(str(data))):
        assert part in str(caught.value)
    with pytest.raises(DataError, match="2 of 2"):
        content_groups(source)


def test_a_table_in_a_folder_that_must_not_be_listed(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    source = table(data, "path,label\ngone.png,cat\n")
    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(DataError, match="Correct the paths"):
        scan(source)


@pytest.mark.parametrize("folder", ["tables", "tables/deep"])
def test_a_table_in_another_folder(data: Path, folder: str) -> None:
    (data / folder).mkdir(parents=True)
    source = table(data, "path,label\ncat/1.png,cat\n", f"{folder}/list.csv")
    with pytest.raises(DataError, match=f"move the table to '{data}'"):
        scan(source)


def test_some_that_lead_nowhere_are_left_out_by_name(data: Path) -> None:
    listing = scan(table(data, "path,label\ncat/1.png,cat\nb.png,dog\na.png,cat\n"))
    assert [Path(skip.path).name for skip in listing.skipped] == ["a.png", "b.png"]
    assert listing.lost is not None
    assert (listing.lost.paths, listing.lost.rows, listing.lost.first) == (2, 3, "b.png")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("path,label\na.png,x\nb.png,K\xe4se\n".encode("latin-1"), "line 3.*0xe4"),
        ("path,label\na.png,x\n".encode("utf-16"), "UTF-16"),
        ("path,label\na.png,x\n".encode("utf-16-le"), "line 1.*NUL"),
        (b"path,label\na\0.png,x\n", "line 2.*NUL"),
    ],
)
def test_what_is_no_text_in_utf_8(data: Path, content: bytes, complaint: str) -> None:
    (data / "list.csv").write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        scan(data / "list.csv")
    assert str(caught.value).isprintable()


def test_groups_are_a_column(data: Path) -> None:
    text = "path,label,group\ncat/1.png,cat,one\ncat/2.png,cat,\ndog/1.png,dog,one\n"
    listing = scan(table(data, text))
    first, alone, other = (image.group_key for image in listing.images)
    assert first == other != alone == ""
    assert "one" not in first
    told = scan(table(data, text.replace("group", "Scene")), columns=Columns(group_column="Scene"))
    assert told.images == listing.images
    assert set(content_groups(table(data, text)).values()) == {first, ""}
    with pytest.raises(UnclearTable, match="'group'"):
        scan(table(data, "path,label,group,group\na,b,c,d\n"))


# --- tables of divided datasets

DIVIDED = (
    "path,label,split\ncat/1.png,cat,train\ncat/2.png,cat,val\ndog/1.png,dog,train\n",
    "path,label,Usage\ncat/1.png,cat,Training\ncat/2.png,cat,PublicTest\ndog/1.png,dog,Training\n",
    "path,label,is_valid\ncat/1.png,cat,False\ncat/2.png,cat,True\ndog/1.png,dog,False\n",
    "path,label,is_train\ncat/1.png,cat,1\ncat/2.png,cat,0\ndog/1.png,dog,1\n",
    "path,cat,dog,is_test\ncat/1.png,1,0,0\ncat/2.png,1,0,1\ndog/1.png,0,1,0\n",
    "path,label,data set\ncat/1.png,cat,train\ncat/2.png,cat,held-out\ndog/1.png,dog,train\n",
    "path,label,is_valid\ncat/1.png,cat,0.0\ncat/2.png,cat,1.0\ndog/1.png,dog,0.0\n",
    "path,label,is_test\ncat/1.png,cat,No\ncat/2.png,cat,Yes\ndog/1.png,dog,No\n",
    "path,label,is_valid,is_test\ncat/1.png,cat,0,0\ncat/2.png,cat,0,1\ndog/1.png,dog,0,0\n",
    "path,label,is_test,is_train\ncat/1.png,cat,0,1\ncat/2.png,cat,0,0\ndog/1.png,dog,0,1\n",
    "path,label,is_train,is_valid\ncat/1.png,cat,1,0\ncat/2.png,cat,1,1\ndog/1.png,dog,1,0\n",
    "path,label,set,split\ncat/1.png,cat,a,train\ncat/2.png,cat,b,test\ndog/1.png,dog,b,train\n",
    "path,label,phase,split\ncat/1.png,cat,test,train\ncat/2.png,cat,test,val\n"
    "dog/1.png,dog,val,train\n",
    "path,label,phase,is_test\ncat/1.png,cat,2,0\ncat/2.png,cat,2,1\ndog/1.png,dog,3,0\n",
    "path,label,split\ncat/1.png,cat,train1\ncat/2.png,cat,val\ndog/1.png,dog,train2\n",
    "path,label,split\ncat/1.png,cat,train\ncat/2.png,cat,val\ndog/1.png,dog,training\n",
    "path,label,split\ncat/1.png,cat,train/a\ncat/2.png,cat,b#test\ndog/1.png,dog,train/a\n",
)


@pytest.mark.parametrize("text", DIVIDED)
def test_a_divided_table_is_refused_and_its_parts_are_taken(
    data: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    source = table(data, text)
    with pytest.raises(DividedData, match="rows of") as raised:
        scan(source)
    learned, tested = raised.value.to_learn, raised.value.to_test
    assert learned is not None
    assert tested is not None
    assert labels(data, learned) == {"cat/1.png": "cat", "dog/1.png": "dog"}
    assert labels(data, tested) == {"cat/2.png": "cat"}
    assert len(content_groups(tested)) == 1
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with pytest.raises(DataError, match="Leave the rows of one of them"):
        scan("-")


def split(data: Path, cells: tuple[str, ...]) -> Path:
    rows = "".join(f"{name},{name[:3]},{cell}\n" for name, cell in zip(FILES, cells, strict=True))
    return table(data, f"path,label,split\n{rows}")


@pytest.mark.parametrize(
    "cells",
    [("a", "b", "a"), ("train", "train", "train"), ("train", "", "train"), ("0", "1", "2")],
)
def test_other_cells_divide_nothing(data: Path, cells: tuple[str, ...]) -> None:
    assert labels(data, split(data, cells)) == EXPECTED


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (("train", "train", "train"), ""),
        (("", "", ""), ""),
        (("train", "", "train"), "rows of train (2), none (1): all are taken; 'list.csv#train' "),
        (("0", "1", "0"), "rows of 0 (2), 1 (1): all are taken; 'list.csv#0' are those of one"),
        (("train", "extra", "train"), "rows of train (2), extra (1): all are taken"),
        (("a/b", "c#d", "a/b"), "rows of a/b (2), c#d (1): all are taken\n"),
    ],
)
def test_what_may_divide_them_is_said(
    data: Path, caplog: pytest.LogCaptureFixture, cells: tuple[str, ...], said: str
) -> None:
    labels(data, split(data, cells).name)
    assert said in caplog.text
    assert bool(caplog.text) == bool(said)


@pytest.mark.parametrize(
    ("wanted", "taken"), [("TRAIN", 2), ("training", 2), ("valid", 1), ("val", 1)]
)
def test_a_part_is_known_by_its_name_or_its_kind(data: Path, wanted: str, taken: int) -> None:
    assert len(labels(data, f"{table(data, DIVIDED[0])}#{wanted}")) == taken


@pytest.mark.parametrize(
    ("text", "wanted"), [(DIVIDED[0], "test"), ("path,label\ncat/1.png,cat\n", "train")]
)
def test_a_part_that_is_not_there(data: Path, text: str, wanted: str) -> None:
    with pytest.raises(DataError, match=f"Received: {wanted!r}, where the table has"):
        scan(f"{table(data, text)}#{wanted}")


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(DataError, match="File name too long"):
        scan(f"{'a' * 300}.csv#train")


def test_a_file_of_that_name_is_that_file(data: Path) -> None:
    (data / "list.csv#train" / "cat").mkdir(parents=True)
    (data / "list.csv#train" / "cat" / "1.png").write_text("cat/1.png")
    table(data, DIVIDED[0])
    assert labels(data, "list.csv#train") == {"list.csv#train/cat/1.png": "cat"}
