"""Every command that takes images takes tables alike; groups hold through all rounds."""

import csv
import shlex
import shutil
from collections import defaultdict
from pathlib import Path

import click
import pytest

from tests.conftest import CommandLine
from tlcli import memory, runs
from tlcli.cli.app import cli
from tlcli.cli.datasets import Images

FLAGS = {"--path-column", "--label-column", "--group-column"}


@pytest.fixture
def lists(pictures: Path, tmp_path: Path) -> Path:
    """A folder of tables with other columns, one for each folder of pictures; pairs are groups."""
    for folder in sorted(path for path in pictures.iterdir() if path.is_dir()):
        with (tmp_path / f"{folder.name}.csv").open("w", newline="") as file:
            writer = csv.writer(file, delimiter=";")
            writer.writerow(("photo", "kind", "scene"))
            for path in sorted(folder.rglob("*.png")):
                number = int(path.stem) // 2
                writer.writerow((path, path.parent.name, f"{path.parent.name} {number}"))
    return tmp_path


COLUMNS = ("--path-column", "photo", "--label-column", "kind")


def rows_of(table: Path) -> list[list[str]]:
    return list(csv.reader(table.read_text().splitlines(), delimiter=";"))


def test_every_command_that_takes_images_has_the_columns() -> None:
    def walk(command: click.Command) -> None:
        for child in getattr(command, "commands", {}).values():
            walk(child)
        takes = any(isinstance(parameter.type, Images) for parameter in command.params)
        flags = {flag for parameter in command.params for flag in parameter.opts}
        assert not takes or flags >= FLAGS, command.name

    walk(cli)


def test_the_command_that_is_advised_works(tlcli: CommandLine, lists: Path) -> None:
    typed = ("data", "check", lists / "first.csv", "--label-column=kind")
    error = tlcli.error(3, *typed)
    assert "'photo', 'kind', 'scene'" in error
    command = shlex.split(error.partition("Type `")[2].partition("`")[0])
    assert command[:4] == ["tlcli", "data", "check", str(lists / "first.csv")]
    assert "images in 3 classes" in tlcli(*command[1:])


@pytest.mark.parametrize("flag", ["--test", "--old-data"])
def test_other_tables_follow_too(
    tlcli: CommandLine, lists: Path, pictures: Path, flag: str
) -> None:
    run = lists / "run"
    tlcli("pretrain", pictures / "first", "--out", run)
    table = lists / "first.csv"
    if flag == "--test":
        rows = [row for row in rows_of(lists / "test.csv") if row[1] != "plum"]
        table = lists / "tested.csv"
        table.write_text("".join(";".join(row) + "\n" for row in rows))
    error = tlcli.error(3, "extend-classes", run, pictures / "second", flag, table)
    assert str(table) in error
    tlcli("extend-classes", run, lists / "second.csv", flag, table, *COLUMNS, "--strategy", "joint")


def test_a_table_that_leads_nowhere_is_reported_and_refused(
    tlcli: CommandLine, tmp_path: Path
) -> None:
    table = tmp_path / "list.csv"
    table.write_text("path,label\n" + "".join(f"D:\\x\\{i}.png,{i % 2}\n" for i in range(9)))
    report = tlcli.json("data", "check", table, code=3)
    assert report["images"] == 0
    assert report["lost"]["paths"] == 9
    assert report["lost"]["relative_to"] == str(tmp_path)
    (reason,) = report["reasons"]
    assert (reason["files"], reason["reason"]) == (9, "the file does not exist")
    assert "D:\\x\\0.png" in tlcli("data", "check", table, code=3)
    assert "9 of 9 paths" in tlcli.error(3, "pretrain", table, "--out", tmp_path / "run")
    assert "9 of 9 paths" in tlcli.error(3, "data", "divide", tmp_path, "--test", table)


def test_what_is_passed_over_is_named(tlcli: CommandLine, pictures: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(pictures / "first", tmp_path / "data"))
    (data / "apple" / "notes.TXT").write_text("x")
    (data / "apple" / "README").write_text("x")
    shutil.copy(data / "apple" / "000.png", data / "leaf" / "copy")
    report = tlcli.json("data", "check", data)
    assert [(row["suffix"], row["files"]) for row in report["passed_over"]] == [
        ("", 1),
        (".txt", 1),
    ]
    assert report["conflicts"] == 2
    assert "1 .txt" in tlcli("data", "check", data)
    (data / "leaf" / "copy").unlink()
    answer = tlcli.json("pretrain", data, "--out", tmp_path / "run")
    assert [row["suffix"] for row in answer["images"]["passed_over"]] == ["", ".txt"]
    assert "1 .txt" in tlcli.err


def test_a_division_keeps_groups_together(tlcli: CommandLine, lists: Path) -> None:
    out = lists / "parts"
    tlcli("data", "divide", lists / "first.csv", *COLUMNS, "--group-column", "scene", "--out", out)
    sides = defaultdict(set)
    for name in ("learn.csv", "held-out.csv"):
        with (out / name).open(newline="") as file:
            for row in csv.DictReader(file):
                sides[row["group"]].add(name)
    assert {len(names) for names in sides.values()} == {1}
    assert len(set.union(*sides.values())) == 2


def test_what_is_tested_or_learned_of_a_group_decides_for_the_rest(
    tlcli: CommandLine, lists: Path
) -> None:
    rows = rows_of(lists / "first.csv")[1:]
    for name, chosen in (("even", rows[::2]), ("odd", rows[1::2])):
        with (lists / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label", "group"), *chosen])
    divided = tlcli.json("data", "divide", lists / "odd.csv", "--test", lists / "even.csv")
    assert (divided["tested"], divided["learn"], divided["held_out"]) == (len(rows) // 2, 0, 0)
    run = lists / "run"
    tlcli("pretrain", lists / "even.csv", "--out", run)
    divided = tlcli.json("data", "divide", lists / "odd.csv", "--run", run)
    assert (divided["learn"], divided["held_out"]) == (len(rows) // 2, 0)
    tlcli("evaluate", run, lists / "odd.csv")
    assert f"{len(rows) // 2} of {len(rows) // 2} images are of groups" in tlcli.err
    again = ("pretrain", lists / "even.csv", "--out", lists / "other", "--test", lists / "odd.csv")
    tlcli(*again, code=3)
    assert "or their groups, are learned" in tlcli.err


@pytest.mark.parametrize("setting", ["moments", "features"])
def test_a_run_remembers_groups_without_their_names(
    tlcli: CommandLine, lists: Path, setting: str
) -> None:
    """A later round tests nothing of a scene that an earlier one has learned."""
    run, columns = lists / "run", (*COLUMNS, "--group-column", "scene")
    rows = rows_of(lists / "first.csv")
    for name, chosen in (("even", rows[1::2]), ("odd", rows[2::2])):
        with (lists / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([rows[0], *chosen])
    tlcli("pretrain", lists / "even.csv", "--out", run, *columns, "--memory", setting)
    ledger = memory.groups_of(runs.open_run(run).round())
    assert len(ledger) == len(set(ledger.values())) == len(rows) // 2
    assert b"apple 0" not in (run / "rounds" / "0001" / "memory.h5").read_bytes()
    answer = tlcli.json("extend-classes", run, lists / "odd.csv", *columns)
    tested = answer["validation"]
    if setting == "moments":
        assert tested is None
    else:
        assert tested["images"] == len(rows) - 1
    assert len(memory.groups_of(runs.open_run(run).round())) == len(rows) - 1
    tlcli("remove-classes", run, "apple")
    assert len(memory.groups_of(runs.open_run(run).round())) == 2 * (len(rows) // 2) * 2 // 3
    moments = lists / "m.h5"
    tlcli("moments", run, lists / "first.csv", *columns, "--out", moments)
    assert len(memory.load_file(moments).groups) == len(rows) - 1


@pytest.mark.parametrize("command", ["finetune", "compare"])
def test_training_and_trials_take_groups(tlcli: CommandLine, lists: Path, command: str) -> None:
    columns = (*COLUMNS, "--group-column", "scene")
    table = lists / "first.csv"
    if command == "compare":
        answer = tlcli.json("compare", table, *columns, "--heads", "lda", "--strategies", "merge",
                            "--folds", 2, "--rounds", "2+1")  # fmt: skip
        assert answer["images"]
        return
    tlcli("pretrain", table, *columns, "--out", lists / "run")
    tlcli("finetune", lists / "run", table, *columns, "--epochs", 1, "--unfreeze", 1)
