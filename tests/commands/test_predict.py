"""`predict` through the command line: forms, unknown answers, copies in class folders."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import CommandLine

HERE = Path(__file__).parents[2]


def lines(tlcli: CommandLine, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tlcli(*arguments, "--json", code=code).splitlines()]


def test_csv_has_no_path_that_a_spreadsheet_takes_for_a_formula(
    tlcli: CommandLine, first_run: Path, pictures: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """And every path leads to its file."""
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.png", "+1.png", "-1.png", "@1.png", "a=1.png"]
    picture = next((pictures / "test" / "sky").iterdir()).read_bytes()
    for name in names:
        Path(name).write_bytes(picture)
    out = tlcli("predict", first_run, "--csv", "--", *names)
    found = [row["path"] for row in csv.DictReader(io.StringIO(out))]
    assert found == ["./=1+1.png", "./+1.png", "./-1.png", "./@1.png", "a=1.png"]
    assert all(Path(path).read_bytes() == picture for path in found)


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
    assert "'unknown'" in tlcli.error(
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
    folders = {"%2E.%2Fup", "%2E%2E", "a%2Fb"}
    rows = [
        f"{path},{names[name]}" for name in names for path in (pictures / "test" / name).iterdir()
    ]
    (table := tmp_path / "table.csv").write_text("\n".join(["path,label", *rows]))
    tlcli("pretrain", table, "--out", tmp_path / "run")
    target = tmp_path / "deep" / "sorted"
    tlcli("predict", tmp_path / "run", pictures / "test" / "sky", "--copy-into", target)
    tlcli("predict", tmp_path / "run", pictures / "test" / "sun", "--copy-into", target)
    assert {path.name for path in target.iterdir()} <= folders
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "run", "deep"}


def test_no_copy_is_made_into_a_folder_that_is_not_read(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    tlcli("rename-classes", run, "sky=.sky", "leaf=Thumbs.db")
    target = tmp_path / "sorted"
    for name in ("sky", "leaf"):
        tlcli("predict", run, pictures / "test" / name, "--copy-into", target)
    assert {path.name for path in target.iterdir()} == {"%2Esky", "%54humbs.db"}
    assert tlcli.json("data", "check", target)["images"] == 8


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
    command = [sys.executable, "-m", "tests.support.tiny", "predict", str(first_run), "-", "--json"]
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


@pytest.mark.parametrize("form", ["--json", "--csv", ""])
def test_a_name_may_hold_anything(
    tlcli: CommandLine, first_run: Path, tmp_path: Path, form: str
) -> None:
    """In a process of its own, whose standard output is as strict as that of most locales."""
    names = (b"line\nend.png", b"car\rriage.png", b'quo"te,s.png', b"l\xe9.png")
    for name in names:
        Image.new("RGB", (40, 40), (80, 140, 230)).save(tmp_path / "x.png")
        (tmp_path / "x.png").rename(tmp_path / os.fsdecode(name))
    command = [
        sys.executable,
        "-m",
        "tests.support.tiny",
        "predict",
        str(first_run),
        str(tmp_path),
        *form.split(),
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    if form == "--json":
        paths = [json.loads(line)["path"] for line in done.stdout.splitlines()]
    elif form == "--csv":
        text = io.StringIO(os.fsdecode(done.stdout), newline="")
        paths = [row["path"] for row in csv.DictReader(text)]
    else:
        assert all(name in done.stdout for name in names)
        return
    assert {os.fsencode(Path(path).name) for path in paths} == set(names)


@pytest.mark.parametrize("taken", ["folder", "file", "dangling link"])
def test_what_lies_where_a_copy_should_go_stays(
    tlcli: CommandLine, first_run: Path, pictures: Path, tmp_path: Path, taken: str
) -> None:
    place = tmp_path / "sorted" / "sky"
    source = pictures / "test" / "sky" / "000.png"
    if taken == "file":
        place.parent.mkdir()
        place.write_text("mine")
        tlcli.error(6, "predict", first_run, source, "--copy-into", tmp_path / "sorted")
        assert place.read_text() == "mine"
        return
    place.mkdir(parents=True)
    if taken == "folder":
        (place / "000.png").mkdir()
    else:
        (place / "000.png").symlink_to("nowhere")
    (answer,) = lines(tlcli, "predict", first_run, source, "--copy-into", tmp_path / "sorted")
    assert answer["copied_to"] == str(place / "000-2.png")
    assert (place / "000.png").is_dir() or (place / "000.png").is_symlink()


def test_a_long_name_is_copied(
    tlcli: CommandLine, first_run: Path, pictures: Path, tmp_path: Path
) -> None:
    image = tmp_path / f"{'n' * 250}.png"
    shutil.copy(pictures / "test" / "sky" / "000.png", image)
    (answer,) = lines(tlcli, "predict", first_run, image, "--copy-into", tmp_path / "sorted")
    assert Path(answer["copied_to"]).read_bytes() == image.read_bytes()


def test_copies_do_not_go_into_the_run(tlcli: CommandLine, first_run: Path, pictures: Path) -> None:
    target = first_run / "rounds"
    assert "rounds" in tlcli.error(
        2, "predict", first_run, pictures / "test", "--copy-into", target
    )


def test_an_empty_path_is_a_mistake(tlcli: CommandLine, first_run: Path) -> None:
    assert "empty" in tlcli.error(2, "predict", first_run, "")


def test_a_form_may_come_from_a_file_or_the_environment(
    tlcli: CommandLine,
    first_run: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (config := tmp_path / "c.toml").write_text("[predict]\njson = true\n")
    image = pictures / "test" / "sky" / "000.png"
    assert json.loads(tlcli("--config", config, "predict", first_run, image))["label"] == "sky"
    monkeypatch.setenv("TLCLI_PREDICT_JSON", "1")
    assert json.loads(tlcli("predict", first_run, image))["label"] == "sky"
    assert "both" in tlcli.error(2, "predict", first_run, image, "--csv")


@pytest.mark.parametrize(
    ("redirection", "code"), [("| true", 141), (">/dev/full", 6), ("<&-", 3), ("- <&-", 3)]
)
def test_outputs_and_inputs_that_are_gone(
    first_run: Path, pictures: Path, tmp_path: Path, redirection: str, code: int
) -> None:
    paths = tmp_path / "nothing" if "<&-" in redirection else pictures / "test"
    command = f"{sys.executable} -m tests.support.tiny predict {first_run} {paths} {redirection}"
    script = f'{command}; echo "${{PIPESTATUS[0]}}" >&2'
    done = subprocess.run(["bash", "-c", script], cwd=HERE, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == str(code)
    assert "bug" not in done.stderr
