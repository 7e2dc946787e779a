"""scripts/cluster/finetune*: who is started again, what each worker is told."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts" / "cluster"

STUB = """#!/bin/sh
# Ends with the first code in CODES, which is struck out; waits where there is none.
echo "$*" >> "$CALLS"
echo "$TF_CONFIG" >> "$TOLD"
if [ ! -s "$CODES" ]; then
    trap 'exit 143' TERM
    touch "$CALLS.waiting"
    while :; do sleep 0.05; done
fi
code=$(head -n 1 "$CODES")
sed -i 1d "$CODES"
exit "$code"
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a program for which tlcli ends with these codes, one after the other."""
    program = tmp_path / "tlcli"
    program.write_text(STUB)
    program.chmod(0o755)

    def begin(
        command: Sequence[object], codes: Sequence[int], **environment: str
    ) -> subprocess.Popen[str]:
        (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
        told = {name: str(tmp_path / name.lower()) for name in ("CODES", "CALLS", "TOLD")}
        path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PAUSE": "0"}
        return subprocess.Popen(
            [str(word) for word in command],
            env={**os.environ, **told, **path, **environment},
            stderr=subprocess.PIPE,
            text=True,
            cwd=SCRIPTS.parents[1],
        )

    return begin


@pytest.mark.parametrize(
    ("codes", "calls", "code"),
    [
        ([0], 1, 0),
        ([75, 137, 139, 0], 4, 0),
        ([3], 1, 3),
        ([137, 2], 2, 2),
        ([143], 1, 143),
        ([130], 1, 130),
        ([75, 75, 75, 75, 75], 4, 75),
    ],
)
def test_only_who_lost_a_worker_or_was_killed_is_started_again(
    start: Start, tmp_path: Path, codes: list[int], calls: int, code: int
) -> None:
    with start([SCRIPTS / "finetune", "a run", "data"], codes, RESTARTS="3") as loop:
        _, err = loop.communicate()
    assert loop.returncode == code
    line = "finetune a run data --distribute multiworker --resume"
    assert (tmp_path / "calls").read_text().splitlines() == [line] * calls
    assert err.count("restart") == calls - 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_loop_that_is_stopped_stops_its_worker(start: Start, tmp_path: Path, number: int) -> None:
    with start([SCRIPTS / "finetune", "run", "data"], []) as loop:
        while not (tmp_path / "calls.waiting").exists():
            time.sleep(0.01)
        loop.send_signal(number)
        loop.communicate()
    assert loop.returncode == 143
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


def test_slurm_tells_each_worker_who_all_are(start: Start, tmp_path: Path) -> None:
    (tmp_path / "scontrol").write_text('#!/bin/sh\nprintf "n%s\\n" 1 2\n')
    (tmp_path / "srun").write_text(
        '#!/bin/sh\nshift\nfor n in 0 1; do SLURM_PROCID=$n "$@" || exit; done\n'
    )
    for name in ("scontrol", "srun"):
        (tmp_path / name).chmod(0o755)
    job = ["sh", SCRIPTS / "finetune.sbatch", "a run", "data"]
    with start(job, [0, 0], SLURM_JOB_NODELIST="n[1-2]") as process:
        process.communicate()
    assert process.returncode == 0
    check_told(tmp_path, ["n1:5000", "n2:5000"])


def test_kubernetes_tells_each_worker_who_all_are(start: Start, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    service, job = yaml.safe_load_all((SCRIPTS / "finetune.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    told = {entry["name"]: entry["value"] for entry in container["env"]}
    assert int(told["WORKERS"]) == job["spec"]["completions"] == job["spec"]["parallelism"]
    assert pod["subdomain"] == service["metadata"]["name"]
    for index in ("0", "1"):
        environment = {**told, "WORKERS": "2", "JOB_COMPLETION_INDEX": index}
        with start(container["command"], [0], **environment) as process:
            process.communicate()
        assert process.returncode == 0
    check_told(tmp_path, [f"tlcli-finetune-{n}.tlcli-finetune:5000" for n in range(2)])


def check_told(folder: Path, addresses: list[str]) -> None:
    """Two workers were started, each with TF_CONFIG."""
    text = (folder / "told").read_text()
    decoder, found = json.JSONDecoder(), []
    while text := text.strip():
        content, end = decoder.raw_decode(text)
        found.append(content)
        text = text[end:]
    assert [content["task"] for content in found] == [
        {"type": "worker", "index": index} for index in range(2)
    ]
    assert all(content["cluster"] == {"worker": addresses} for content in found)
    calls = (folder / "calls").read_text().splitlines()
    assert all("--distribute multiworker --resume" in call for call in calls)


@pytest.mark.parametrize("name", ["finetune", "finetune.sbatch"])
def test_shellcheck_finds_nothing(name: str) -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("there is no shellcheck here")
    assert subprocess.run([shellcheck, SCRIPTS / name], check=False).returncode == 0
