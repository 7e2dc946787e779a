"""What only a process of its own shows: imports, noise, signals, locks, kills."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny

HERE = Path(__file__).parents[2]


def tlcli(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "tests.support.tiny", *map(str, arguments)]


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(tlcli(*arguments), cwd=HERE, capture_output=True, text=True, check=False)


def files_of(run: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_imports_nothing_heavy() -> None:
    modules = modules_after("from tlcli.cli import app; app.run(['pretrain', '--help'])")
    assert not modules & {"numpy", "PIL", "rich", "h5py", "scipy", "sklearn", "keras", "tensorflow"}


def test_what_needs_no_gradient_does_not_import_tensorflow(
    run: Path, pictures: Path, tmp_path: Path
) -> None:
    """Pretrain too, when the backbone was prepared by an earlier run; all images are new."""
    new = tiny.draw(tmp_path / "new", ["sun"], seed=12)
    test = tiny.draw(tmp_path / "test", ["apple", "sun"], seed=13)
    again = tiny.draw(tmp_path / "again", ["apple", "sun"], seed=14)
    commands = [
        ["extend-classes", str(run), str(new)],
        ["evaluate", str(run), str(test)],
        ["predict", str(run), str(tiny.draw(tmp_path / "more", ["sky"], seed=15))],
        ["pretrain", str(again), "--out", str(tmp_path / "again-run")],
        ["rounds", "verify", str(run)],
        ["cache", "stats"],
    ]
    modules = modules_after(
        "from tests.support import tiny\nfrom tlcli.cli import app\ntiny.install()\n"
        f"assert not any(app.run(c) for c in {commands})"
    )
    assert "openvino" in modules
    assert not modules & {"keras", "tensorflow"}


def test_what_is_known_already_does_not_even_import_openvino(run: Path, pictures: Path) -> None:
    commands = [
        ["evaluate", str(run), str(pictures / "first"), "--include-learned"],
        ["predict", str(run), str(pictures / "first")],
    ]
    modules = modules_after(
        f"from tlcli.cli import app\nassert not any(app.run(c) for c in {commands})"
    )
    assert not modules & {"keras", "tensorflow", "openvino"}


def test_json_prints_one_object_and_nothing_else(pictures: Path, tmp_path: Path) -> None:
    """In a new process, so that TensorFlow is imported and the features are computed."""
    data = tiny.draw(tmp_path / "data", ["apple", "leaf"], seed=11)
    done = call("pretrain", data, "--out", tmp_path / "run", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout)["round"] == 1
    done = call("finetune", tmp_path / "run", data, "--json", "--epochs", 1)
    assert done.returncode == 0
    assert "tensorflow" not in done.stderr.lower()
    assert json.loads(done.stdout)["command"] == "finetune"


def test_a_reader_that_goes_away_is_no_error(run: Path, pictures: Path) -> None:
    command = " ".join(tlcli("predict", run, pictures / "first")) + " | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=HERE, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 1


def test_a_second_writer_is_told_at_once_and_a_reader_never_waits(
    run: Path, pictures: Path
) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time, pathlib; from tlcli import runs\n"
            "with runs.extending(pathlib.Path(sys.argv[1]), 0): print(flush=True); time.sleep(60)",
            str(run),
        ],
        stdout=subprocess.PIPE,
        cwd=HERE,
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = call("extend-classes", run, pictures / "second")
        assert done.returncode == 75
        assert len(done.stderr.splitlines()) == 1
        assert call("rounds", "list", run).returncode == 0
        assert call("predict", run, pictures / "first").returncode == 0
    finally:
        holder.kill()
        holder.communicate()


INTERRUPTED = """
import os, signal, sys
from tests.support import tiny
from tlcli import backbones, files, images, runs
from tlcli.cli import main
tiny.install()
module, name = sys.argv[1].split(":")
number = int(sys.argv[2])
target = {"images": images, "backbones": backbones, "runs": runs.Writer, "files": files}[module]
original = getattr(target, name)
def interrupted(*arguments, **options):
    os.kill(os.getpid(), number)
    return original(*arguments, **options)
setattr(target, name, interrupted)
sys.argv[1:] = sys.argv[3:]
main()
"""
PHASES = [
    "images:scan",
    "images:draw_many",
    "backbones:prepare",
    "backbones:write_classifier",
    "files:write_json",
    "runs:commit",
]


def phases(fast: str, *others: str) -> list[Any]:
    """One phase for the fast tests, the others for the slow ones."""
    return [fast, *(pytest.param(phase, marks=pytest.mark.slow) for phase in others)]


def interrupted(phase: str, number: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", INTERRUPTED, phase, str(number), *map(str, arguments)]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "phase",
    phases("runs:commit", "images:scan", "images:draw_many", "backbones:write_classifier"),
)
def test_ctrl_c_in_each_phase_of_extend_classes_leaves_the_run_as_it_was(
    run: Path, tmp_path: Path, phase: str
) -> None:
    data = tiny.draw(tmp_path / "data", ["sun"], seed=PHASES.index(phase) + 20)
    before = files_of(run)
    done = interrupted(phase, signal.SIGINT, "extend-classes", run, data)
    assert (done.returncode, done.stdout) == (130, "")
    assert len(done.stderr.splitlines()) == 1
    assert files_of(run) == before
    assert call("extend-classes", run, data).returncode == 0


@pytest.mark.parametrize(
    "phase",
    phases("backbones:prepare", "images:draw_many", "backbones:write_classifier", "runs:commit"),
)
def test_sigterm_in_each_phase_of_pretrain_leaves_nothing_behind(
    tmp_path: Path, phase: str
) -> None:
    data = tiny.draw(tmp_path / "data", ["sun", "sky"], seed=PHASES.index(phase) + 40)
    done = interrupted(phase, signal.SIGTERM, "pretrain", data, "--out", tmp_path / "run")
    assert done.returncode == 143
    assert len(done.stderr.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"data"}


@pytest.mark.parametrize("phase", phases("runs:commit", "backbones:prepare", "files:write_json"))
def test_after_a_kill_the_same_command_starts_anew(tmp_path: Path, phase: str) -> None:
    data = tiny.draw(tmp_path / "data", ["sun", "sky"], seed=PHASES.index(phase) + 60)
    command = ("pretrain", data, "--out", tmp_path / "run")
    assert interrupted(phase, signal.SIGKILL, *command).returncode == -signal.SIGKILL
    assert call("rounds", "list", tmp_path / "run").returncode == 5
    assert call(*command).returncode == 0
    assert call("rounds", "verify", tmp_path / "run").returncode == 0
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "unfreeze", "times"),
    [("finetune", "all", 5), ("finetune", "1", 2), ("simclr", "", 2)],
)
def test_a_training_killed_at_random_moments_ends_with_the_same_weights(
    tmp_path: Path, command: str, unfreeze: str, times: int
) -> None:
    """SIGKILL, SIGTERM or SIGINT, at moments that a fixed seed chooses."""
    data = tiny.draw(tmp_path / "data", ["apple", "leaf", "sky"], count=60, contrast=0.03)
    options = ["--epochs", "60", "--patience", "99", "--batch-size", "8", "--lr", "0.01"]
    options += ["--augment", "strong", "--json"]

    def arguments(run: Path) -> list[object]:
        if command == "finetune":
            return [command, run, data, "--unfreeze", unfreeze, *options]
        objective = ["--objective", "simclr"] if command == "simclr" else []
        return ["pretrain", data, "--out", run, "--weights", "none", *objective, *options]

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    if command == "finetune":
        for run in (whole, cut):
            assert call("pretrain", data, "--out", run).returncode == 0
    expected = json.loads(call(*arguments(whole)).stdout)
    moments = random.Random(7)
    stopped = 0
    for _ in range(times):
        process = subprocess.Popen(
            tlcli(*arguments(cut), "--resume"), cwd=HERE, stdout=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=moments.uniform(5, 12))
        except subprocess.TimeoutExpired:
            number = moments.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            process.send_signal(number)
            # At its very end the interpreter has no handlers any more.
            assert process.wait() in (-number, 128 + number)
            stopped += 1
    answer = json.loads(call(*arguments(cut), "--resume").stdout)
    assert stopped
    if answer["changed"]:
        assert answer["training"]["epochs"] == 60
    for name in ("backbone_fingerprint", "memory_sha256"):
        assert answer[name] == expected[name]
