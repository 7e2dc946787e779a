"""`predict` through the command line: forms, unknown answers, copies in class folders."""

import csv
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import CommandLine

HERE = Path(__file__).parent.parent


def lines(tlcli: CommandLine, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tlcli(*arguments, "--json", code=code).splitlines()]


def test_all_forms_say_the_same(tlcli: CommandLine, first_run: Path, pictures: Path) -> None:
    paths = (pictures / "test" / "sky", pictures / "nowhere, really.png")
    answers = lines(tlcli, "predict", first_run, *paths)
    rows = list(csv.DictReader(io.StringIO(tlcli("predict", first_run, *paths, "--csv"))))
    text = [line.split("\t") for line in tlcli("predict", first_run, *paths).splitlines()]
    assert len(answers) == len(rows) == len(text) == 5
    for answer, row, cells in zip(answers[:-1], rows, text, strict=False):
        assert row["path"] == answer["path"] == cells[2]
        assert row["label"] == answer["label"] == cells[0] == "sky"
        assert float(row["probability"]) == answer["probability"]
        assert row["error"] == row["copied_to"] == ""
    assert answers[-1] == {"path": str(paths[1]), "error": "the file does not exist"}
    assert (rows[-1]["path"], rows[-1]["error"]) == (str(paths[1]), "the file does not exist")
    assert text[-1][2:] == [str(paths[1]), "the file does not exist"]


def test_below_the_threshold_the_answer_is_unknown(
    tlcli: CommandLine, first_run: Path, pictures: Path
) -> None:
    answers = lines(tlcli, "predict", first_run, pictures / "test")
    values = sorted(answer["probability"] for answer in answers)
    limit = values[len(values) // 2]
    judged = lines(tlcli, "predict", first_run, pictures / "test", "--threshold", limit)
    for before, after in zip(answers, judged, strict=True):
        expected = before["label"] if before["probability"] >= limit else "unknown"
        assert after == before | {"label": expected}
    assert {"unknown"} < {answer["label"] for answer in judged}


def test_a_class_named_unknown_cannot_be_told_from_the_answer(
    tlcli: CommandLine, first_run: Path, pictures: Path, tmp_path: Path
) -> None:
    shutil.copytree(pictures / "test", tmp_path / "data")
    (tmp_path / "data" / "sun").rename(tmp_path / "data" / "unknown")
    tlcli("pretrain", tmp_path / "data", "--out", tmp_path / "run")
    assert "--threshold" in tlcli.error(
        2, "predict", tmp_path / "run", pictures / "test", "--threshold", 0.5
    )
    assert len(lines(tlcli, "predict", tmp_path / "run", pictures / "test")) == 20


def test_images_are_sorted_into_the_folders_of_their_classes(
    tlcli: CommandLine, first_run: Path, pictures: Path, tmp_path: Path
) -> None:
    target = tmp_path / "sorted"
    command = ("predict", first_run, pictures / "test", tmp_path / "no.png", "--copy-into", target)
    answers = lines(tlcli, *command)
    copies = [Path(answer["copied_to"]) for answer in answers if "copied_to" in answer]
    assert len(set(copies)) == 20
    assert set(copies) == {path for path in target.rglob("*") if path.is_file()}
    for answer in answers[:-1]:
        copy = Path(answer["copied_to"])
        assert copy.parent == target / answer["label"]
        assert copy.read_bytes() == Path(answer["path"]).read_bytes()
    assert lines(tlcli, *command) == answers
    assert len(list(target.rglob("*.png"))) == 20


def test_no_file_is_replaced_by_a_copy(
    tlcli: CommandLine, first_run: Path, pictures: Path, tmp_path: Path
) -> None:
    target = tmp_path / "sorted"
    source = pictures / "test" / "sky" / "000.png"
    mine = target / "sky" / "000.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    (answer,) = lines(tlcli, "predict", first_run, source, "--copy-into", target)
    assert mine.read_text() == "mine"
    assert answer["copied_to"] == str(target / "sky" / "000-2.png")


def test_a_class_name_never_leads_out_of_the_folder(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    names = {"sky": "../up", "sun": "..", "leaf": "a/b"}
    rows = [
        f"{path},{names[name]}" for name in names for path in (pictures / "test" / name).iterdir()
    ]
    (table := tmp_path / "table.csv").write_text("\n".join(["path,label", *rows]))
    tlcli("pretrain", table, "--out", tmp_path / "run")
    target = tmp_path / "deep" / "sorted"
    tlcli("predict", tmp_path / "run", pictures / "test" / "sky", "--copy-into", target)
    tlcli("predict", tmp_path / "run", pictures / "test" / "sun", "--copy-into", target)
    assert {path.name for path in target.iterdir()} <= {"..%2Fup", "%2E%2E", "a%2Fb"}
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "run", "deep"}


def test_copies_that_cannot_be_made(
    tlcli: CommandLine, first_run: Path, pictures: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(pictures / "test", tmp_path / "inbox"))
    error = tlcli.error(2, "predict", first_run, folder, "--copy-into", folder / "sorted")
    assert str(folder / "sorted") in error
    (tmp_path / "taken").write_text("")
    image = folder / "sky" / "000.png"
    error = tlcli.error(6, "predict", first_run, image, "--copy-into", tmp_path / "taken" / "here")
    assert "taken" in error


def test_an_earlier_round_answers_with_its_classes(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    before = lines(tlcli, "predict", run, pictures / "test")
    tlcli("extend-classes", run, pictures / "second")
    assert lines(tlcli, "predict", run, pictures / "test", "--round", 1) == before
    assert lines(tlcli, "predict", run, pictures / "test") != before
    assert "7" in tlcli.error(2, "predict", run, pictures / "test", "--round", 7)


def test_an_answer_comes_before_the_next_path_is_known(first_run: Path, pictures: Path) -> None:
    command = [sys.executable, "-m", "tests.tiny", "predict", str(first_run), "-", "--json"]
    with subprocess.Popen(
        command, cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in ("sky", "leaf", "sky"):
            print(pictures / "test" / name / "000.png", file=process.stdin, flush=True)
            assert json.loads(process.stdout.readline())["label"] == name
        process.stdin.close()
    assert process.returncode == 0


@pytest.mark.parametrize("share", ["1.5", "x"])
def test_a_threshold_is_a_share(
    tlcli: CommandLine, first_run: Path, pictures: Path, share: str
) -> None:
    assert "--threshold" in tlcli.error(
        2, "predict", first_run, pictures / "test", "--threshold", share
    )


def test_patterns_are_matched_where_no_shell_does(
    tlcli: CommandLine, first_run: Path, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png", "c.txt"):
        Image.new("RGB", (40, 40), (80, 140, 230)).save(tmp_path / name, "png")
    answers = lines(tlcli, "predict", first_run, f"{tmp_path}/[ab].*")
    assert [Path(answer["path"]).name for answer in answers] == ["a.png", "b.png"]
