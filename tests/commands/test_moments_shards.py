"""Shards of DATA: complete, once each, and in any order the bits of one process."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import CommandLine

SCRIPTS = Path(__file__).parents[2] / "scripts" / "cluster"
SHARDS = 40


def written(
    tlcli: CommandLine, run: Path, data: Path, folder: Path, count: int, *, start: int = 1
) -> list[Path]:
    """The files of all shards."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{count}-{number}.h5" for number in range(start, count + 1)]
    for number, file in enumerate(files, start):
        tlcli("moments", run, data, "--shard", f"{number}/{count}", "--out", file)
    return files


def taking(*files: Path) -> tuple[object, ...]:
    return tuple(word for file in files for word in ("--moments", file))


@pytest.fixture
def whole(tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path) -> str:
    """`memory_sha256` of the run with the new images, learned by one process."""
    copy = Path(shutil.copytree(run, tmp_path / "whole"))
    return str(tlcli.json("extend-classes", copy, pictures / "second")["memory_sha256"])


def test_shards_in_any_order_are_the_whole(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, whole: str
) -> None:
    files = written(tlcli, run, pictures / "second", tmp_path / "shards", 11)
    random.Random(0).shuffle(files)
    answer = tlcli.json("extend-classes", run, *taking(*files))
    assert answer["memory_sha256"] == whole
    assert answer["exact"] is True
    assert answer["images"]["used"] == 8


def test_a_folder_stands_for_the_files_in_it(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, whole: str
) -> None:
    written(tlcli, run, pictures / "second", tmp_path / "shards", 3)
    answer = tlcli.json("extend-classes", run, "--moments", tmp_path / "shards")
    assert answer["memory_sha256"] == whole
    (tmp_path / "empty").mkdir()
    error = tlcli.error(3, "extend-classes", run, "--moments", tmp_path / "empty")
    assert str(tmp_path / "empty") in error


def test_missing_shards_are_named_unless_they_are_not_wanted(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, whole: str
) -> None:
    first, *others = written(tlcli, run, pictures / "second", tmp_path / "shards", 4)
    error = tlcli.error(3, "extend-classes", run, *taking(*others))
    assert "1/4" in error
    assert "--partial" in error
    assert tlcli.json("rounds", "show", run)["round"] == 1
    tlcli("extend-classes", run, *taking(*others), "--partial")
    answer = tlcli.json("extend-classes", run, *taking(first), "--partial")
    assert tlcli.json("rounds", "show", run)["memory_sha256"] == whole
    assert answer["exact"] is True


def test_a_shard_counts_once(tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path) -> None:
    files = written(tlcli, run, pictures / "second", tmp_path / "shards", 2)
    copy = tmp_path / "copy.h5"
    shutil.copy(files[1], copy)
    error = tlcli.error(3, "extend-classes", run, *taking(*files, copy))
    assert "2/2" in error
    assert str(copy) in error
    assert "2/2" in tlcli.error(3, "extend-classes", run, *taking(copy, copy), "--partial")


def test_shards_of_other_data_or_another_number_do_not_fill_a_gap(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    seconds = written(tlcli, run, pictures / "second", tmp_path / "seconds", 2)
    thirds = written(tlcli, run, pictures / "third", tmp_path / "thirds", 2)
    error = tlcli.error(3, "extend-classes", run, *taking(seconds[0], thirds[1]))
    assert "other DATA" in error
    halves = written(tlcli, run, pictures / "second", tmp_path / "seconds", 3)
    assert "other" in tlcli.error(3, "extend-classes", run, *taking(*seconds, *halves))
    answer = tlcli.json("extend-classes", run, *taking(*seconds, *thirds))
    assert answer["images"]["used"] == 16


def test_an_image_in_two_files_is_refused(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.h5"
    tlcli("moments", run, pictures / "second", "--out", alone)
    files = written(tlcli, run, pictures / "second", tmp_path / "shards", 2)
    assert "common images" in tlcli.error(3, "extend-classes", run, *taking(*files, alone))


def test_what_shards_there_are_is_the_same_wherever_data_lies(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(pictures / "second", tmp_path / "moved"))
    given = ("--shard", "1/2", "--out", tmp_path / "out.h5")
    here = tlcli.json("moments", run, pictures / "second", *given)
    assert tlcli.json("moments", run, moved, *given)["data_sha256"] == here["data_sha256"]
    next(moved.glob("*/*.png")).unlink()
    assert tlcli.json("moments", run, moved, *given)["data_sha256"] != here["data_sha256"]


def test_partial_is_about_shards(tlcli: CommandLine, run: Path, pictures: Path) -> None:
    error = tlcli.error(2, "extend-classes", run, pictures / "second", "--partial")
    assert "--moments" in error


def started(run: Path, data: Path, folder: Path, number: int) -> subprocess.Popen[bytes]:
    """A shard in a process of its own."""
    given = (str(run), str(data), "--out", str(folder / f"{number}.h5"))
    shard = ("--shard", f"{number}/{SHARDS}")
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.tiny", "moments", *given, *shard],
        stdout=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_forty_processes_some_twice_and_one_killed(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, whole: str
) -> None:
    folder, order = tmp_path / "shards", [*range(1, SHARDS + 1), 7, 19]
    folder.mkdir()
    random.Random(1).shuffle(order)
    killed = started(run, pictures / "second", folder, order[0])
    time.sleep(1.5)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    for number in order:
        assert started(run, pictures / "second", folder, number).wait() == 0
    assert tlcli.json("extend-classes", run, "--moments", folder)["memory_sha256"] == whole


def body(script: str, folder: Path) -> list[str]:
    """What a scheduler would run for each shard."""
    if script.endswith(".sbatch"):
        return ["sh", str(SCRIPTS / script)]
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load((SCRIPTS / script).read_text())["spec"]
    container = job["template"]["spec"]["containers"][0]
    told = {entry["name"]: entry["value"] for entry in container["env"]}
    assert int(told["SHARDS"]) == job["completions"]
    assert set(told) == {"SHARDS", "RUN", "DATA", "FOLDER"}
    return list(container["command"])


@pytest.mark.slow
@pytest.mark.parametrize("script", ["moments.sbatch", "moments.yaml"])
def test_the_body_of_a_job_for_every_shard(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, whole: str, script: str
) -> None:
    folder, program = tmp_path / "a folder", tmp_path / "bin" / "tlcli"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.support.tiny "$@"\n')
    program.chmod(0o755)
    arguments = ("3", str(run), str(pictures / "second"), str(folder))
    names = dict(zip(("SHARDS", "RUN", "DATA", "FOLDER"), arguments, strict=True))
    command = body(script, folder)
    if script.endswith(".sbatch"):
        command += arguments
    for index in (2, 0, 1, 0):  # one of them twice
        place = {"SLURM_ARRAY_TASK_ID": str(index + 1), "JOB_COMPLETION_INDEX": str(index)}
        path = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
        subprocess.run(command, check=True, env={**os.environ, **names, **place, **path})
    assert len(list(folder.iterdir())) == 3
    assert tlcli.json("extend-classes", run, "--moments", folder)["memory_sha256"] == whole
