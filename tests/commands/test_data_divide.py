"""data divide: what the run or the tests know is never chosen, and no image is lost on the way."""

import csv
import io
import os
import shutil
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from tests.conftest import CommandLine


def put(folder: Path, *contents: str) -> Path:
    """Files of one line each; a division decodes nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(contents):
        (folder / f"{number:03d}.jpg").write_text(f"{content}\n")
    return folder


def contents(folder: Path) -> Counter[str]:
    return Counter(path.read_text().strip() for path in folder.rglob("*") if path.is_file())


def files_of(folder: Path) -> dict[Path, str]:
    return {
        path.relative_to(folder): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def rows(table: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(table.read_text("utf-8"), newline="")))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two classes of ten contents, one of them twice; ten more files are known to the tests."""
    put(tmp_path / "data" / "cat", *(f"cat {number}" for number in range(10)), "cat 3")
    put(tmp_path / "data" / "dog", *(f"dog {number}" for number in range(10)), "tested", "tested")
    put(tmp_path / "test" / "dog", "tested")
    return tmp_path / "data"


@pytest.fixture
def aside(data: Path) -> Path:
    return data.parent / "aside"


def test_it_says_what_is_new_and_touches_nothing(tlcli: CommandLine, data: Path) -> None:
    before = sorted(data.parent.rglob("*"))
    answer = tlcli.json("data", "divide", data, "--test", data.parent / "test")
    assert answer == {
        "data": str(data),
        "learn": 10,
        "held_out": 10,
        "learned_before": 0,
        "tested": 1,
        "duplicates": 2,
        "skipped": [],
        "classes": {"cat": {"learn": 5, "held_out": 5}, "dog": {"learn": 5, "held_out": 5}},
        "tables": [],
        "moved": None,
    }
    assert sorted(data.parent.rglob("*")) == before
    text = tlcli("data", "divide", data, "--test", data.parent / "test")
    assert "10 images to learn, 10 held out, 0 learned before, 1 in --test already" in text
    assert "2 further copies" in text


def test_what_a_run_has_learned_is_not_new(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    """Also when the run keeps nothing of its images; under another name it is left out."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "leaf").symlink_to(pictures / "first" / "apple")
    (data / "sky").symlink_to(pictures / "first" / "sky")
    (data / "sun").symlink_to(pictures / "second" / "sun")
    answer = tlcli.json("data", "divide", data, "--run", run)
    assert answer["learned_before"] == 8
    assert answer["classes"] == {"sun": {"learn": 4, "held_out": 4}}
    assert {skip["reason"] for skip in answer["skipped"]} == {"it was learned before as 'apple'"}
    tlcli("extend-classes", run, pictures / "second", "--memory", "none")
    assert tlcli.json("data", "divide", data, "--run", run)["learned_before"] == 16
    assert "left out: " in tlcli("data", "divide", data, "--run", run)


def test_the_tables_are_data_for_other_commands(
    tlcli: CommandLine, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From whatever folder; what is held out is not learned."""
    monkeypatch.chdir(pictures)
    parts = tmp_path / "parts"
    answer = tlcli.json("data", "divide", "all", "--hold-out", "50%", "--out", parts)
    assert answer["tables"] == [str(parts / "learn.csv"), str(parts / "held-out.csv")]
    monkeypatch.chdir(tmp_path)
    assert tlcli.json("pretrain", parts / "learn.csv", "--out", "run")["images"]["used"] == 20
    assert tlcli.json("evaluate", "run", parts / "held-out.csv")["images"] == 20
    learned = {path for path, _ in rows(parts / "learn.csv")}
    assert not learned & {path for path, _ in rows(parts / "held-out.csv")} - {"path"}


def test_a_table_names_any_file_whose_name_is_text(tlcli: CommandLine, tmp_path: Path) -> None:
    folder = put(tmp_path / "data" / 'a, "b"')
    for name in ("new\nline.jpg", 'quote", .jpg', "キ.jpg", "-.jpg"):
        (folder / name).write_text(name)
    tlcli("data", "divide", tmp_path / "data", "--hold-out", 0, "--out", tmp_path / "parts")
    again = tlcli.json("data", "divide", tmp_path / "parts" / "learn.csv", "--hold-out", 0)
    assert again["classes"] == {'a, "b"': {"learn": 4, "held_out": 0}}
    assert not again["skipped"]
    (folder / os.fsdecode(b"\xff.jpg")).write_text("x")
    message = tlcli.error(
        3, "data", "divide", tmp_path / "data", "--out", tmp_path / "others", "--hold-out", 0
    )
    assert "Expected file names in UTF-8" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "parts"]


def test_moves_take_all_copies_along(tlcli: CommandLine, data: Path, aside: Path) -> None:
    before = contents(data)
    answer = tlcli.json(
        "data", "divide", data, "--test", data.parent / "test", "--move-into", aside
    )
    held_out, tested = contents(aside / "held-out"), contents(aside / "tested")
    assert tested == Counter({"tested": 2})
    assert len(held_out) == 10
    assert not set(held_out) & set(contents(data))
    assert contents(data) + held_out + tested == before
    assert answer["moved"] == held_out.total() + tested.total()
    assert (aside / "tested" / "dog" / "010.jpg").exists()
    again = tlcli.json("data", "divide", data, "--test", data.parent / "test", "--move-into", aside)
    assert (again["moved"], again["learn"], again["held_out"]) == (0, 10, 0)


def test_moves_take_file_names_of_any_bytes(tlcli: CommandLine, tmp_path: Path) -> None:
    folder = put(tmp_path / "data" / "*")
    for name in (b"\xff\n.jpg", b"-rf .jpg", b"$(x).jpg"):
        (folder / os.fsdecode(name)).write_bytes(name)
    (put(folder / "deep\n") / "ü.jpg").write_text("deep")
    tlcli("data", "divide", tmp_path / "data", "--move-into", tmp_path, "--hold-out", "50%")
    found = {os.fsencode(path.name) for path in tmp_path.rglob("*.jpg")}
    assert found == {b"\xff\n.jpg", b"-rf .jpg", b"$(x).jpg", "ü.jpg".encode()}
    assert len(list((tmp_path / "held-out").rglob("*.jpg"))) == 2


def test_an_image_of_two_classes_stays_where_it_is(tlcli: CommandLine, aside: Path) -> None:
    """Whoever learns DATA refuses it; were it moved, nobody would."""
    data = aside.parent / "others"
    put(data / "one", "a", "b")
    put(data / "two", "a", "b")
    answer = tlcli.json("data", "divide", data, "--move-into", aside, "--hold-out", "50%")
    assert (answer["moved"], len(answer["skipped"])) == (0, 4)
    assert contents(data).total() == 4


def stop_at_rename(patch: pytest.MonkeyPatch, number: int) -> None:
    """Stop the program in place of one of its renames."""
    rename, calls = Path.rename, count(1)

    def renamed(source: Path, target: Path) -> Path:
        if next(calls) == number:
            raise KeyboardInterrupt
        return rename(source, target)

    patch.setattr(Path, "rename", renamed)


@pytest.mark.parametrize("number", range(1, 14))
def test_moves_go_on_where_they_were_stopped(
    tlcli: CommandLine,
    data: Path,
    aside: Path,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same images are chosen, also when every image of a class has gone."""
    put(data / "all tested", "tested")
    command = ("data", "divide", data, "--test", data.parent / "test", "--move-into")
    whole, whole_aside = data.parent / "whole", data.parent / "whole aside"
    shutil.copytree(data, whole)
    tlcli("data", "divide", whole, *command[3:], whole_aside)
    with monkeypatch.context() as patch:
        stop_at_rename(patch, number)
        tlcli(*command, aside, code=130)
    assert contents(data) + contents(aside) == contents(whole) + contents(whole_aside)
    assert contents(aside).total() == number - 1
    tlcli(*command, aside)
    assert files_of(data) == files_of(whole)
    assert files_of(aside) == files_of(whole_aside)


def test_what_was_held_out_stays_so_when_the_tests_change(
    tlcli: CommandLine, data: Path, aside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of it that was still to be moved is not learned."""
    put(data / "cat", *(f"cat {number}" for number in (*range(10), *range(10))))
    with monkeypatch.context() as patch:
        stop_at_rename(patch, 2)
        tlcli("data", "divide", data, "--move-into", aside, code=130)
    tlcli("data", "divide", data, "--move-into", aside, "--hold-out", 0)
    (held_out,) = contents(aside / "held-out").items()
    assert held_out[1] == 2
    assert held_out[0] not in contents(data)


def test_where_all_has_gone_there_is_nothing_to_do(
    tlcli: CommandLine, data: Path, aside: Path
) -> None:
    shutil.rmtree(data / "cat")
    command = ("data", "divide", data, "--test", data.parent / "known", "--move-into", aside)
    shutil.copytree(data, data.parent / "known")
    assert tlcli.json(*command)["moved"] == 12
    assert tlcli.json(*command)["moved"] == 0


def test_tables_that_were_stopped_are_not_there(
    tlcli: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(data.parent.rglob("*"))
    with monkeypatch.context() as patch:
        stop_at_rename(patch, 1)
        tlcli("data", "divide", data, "--out", data.parent / "parts", code=130)
    assert sorted(data.parent.rglob("*")) == before


def test_nothing_is_moved_where_one_file_cannot_be(
    tlcli: CommandLine, data: Path, aside: Path
) -> None:
    """A link, which would break; a name that is taken, which would be lost."""
    before = contents(data)
    command = ("data", "divide", data, "--hold-out", "50%", "--move-into", aside)
    elsewhere = put(data.parent / "elsewhere", *(f"more {number}" for number in range(2)))
    (data / "more").symlink_to(elsewhere)
    assert "a link or lies behind one" in tlcli.error(3, *command)
    (data / "more").unlink()
    (aside / "held-out" / "dog").mkdir(parents=True)
    for number in range(12):
        (aside / "held-out" / "dog" / f"{number:03d}.jpg").symlink_to("nowhere")
    assert "Expected a free name" in tlcli.error(2, *command)
    assert contents(data) == before


@pytest.mark.parametrize(
    ("options", "code", "expected"),
    [
        (("--out", "parts", "--move-into", "aside"), 2, "--out or --move-into"),
        (("--out", "data"), 2, "a new folder for --out"),
        (("--out", "none/parts"), 6, "a folder for --out"),
        (("--move-into", "data"), 2, "apart"),
        (("--test", "."), 2, "apart"),
        (("--test", "data/cat"), 2, "apart"),
        (("--test", "none"), 2, "does not exist"),
        (("--run", "none"), 2, "none"),
        (("--hold-out", "51%"), 2, "from 0 to 0.5, or 0% to 50%"),
        (("--hold-out", "x"), 2, "not a share"),
        (("--move-into", "file"), 2, "is a file"),
        (("--move-into", "blocked"), 6, "Expected to be able to move"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tlcli: CommandLine,
    data: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    code: int,
    expected: str,
) -> None:
    monkeypatch.chdir(data.parent)
    Path("file").touch()
    Path("blocked").mkdir()
    Path("blocked/held-out").touch()
    before = files_of(data)
    assert expected in tlcli.error(code, "data", "divide", "data", *options)
    assert files_of(data) == before


def test_data_that_are_no_folder_cannot_be_moved(
    tlcli: CommandLine, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = tlcli.error(2, "data", "divide", "-", "--move-into", data.parent / "aside")
    assert "Expected a folder of class folders" in message
    assert "for both" in tlcli.error(2, "data", "divide", "-", "--test", "-")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{data}/cat/000.jpg,cat\n"))
    assert tlcli.json("data", "divide", "-", "--test", data)["tested"] == 1
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{data}/cat/000.jpg,cat\n"))
    assert tlcli.json("data", "divide", data, "--test", "-")["tested"] == 1
