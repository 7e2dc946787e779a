"""Steps that several devices share: the same as on one, and what is refused."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tests.training.test_training import OPTIONS, examples, setting, start
from tlcli import backbones, runs, training
from tlcli.errors import ClusterUnavailable, UsageError, WorkerGone
from tlcli.training import distribution
from tlcli.training.distribution import DISTRIBUTIONS, Distribution, Sharing
from tlcli.training.gathering import gather
from tlcli.training.members import Members, members_of_environment
from tlcli.training.steps import _slice_of, bounds_of

HERE = Path(__file__).parents[2]
NAMES = ["apple", "leaf", "sky"]
FAST = ("--unfreeze", "2", "--epochs", "2", "--batch-size", "6")
TASK = {"type": "worker", "index": 0}


def one_replica() -> Any:
    """A strategy that can be made in a process that has computed already."""
    backbones.keras_module()
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0"])


def trained(folder: Path, shared: Distribution, **changes: Any) -> list[Any]:
    """All weights after a training, then the figures of its epochs."""
    with shared.scope():
        prepared = setting(folder, distribution=shared, **changes)
    head, history = training.fit(prepared, start(), examples(30), examples(13, seed=1))
    figures = [(e.loss, e.validation_loss, e.accuracy) for e in history.epochs]
    return [*prepared.model.get_weights(), head.weights, head.bias, np.array(figures)]


ONE_EPOCH = replace(OPTIONS, epochs=1, batch_size=7)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return trained(tmp_path_factory.mktemp("alone"), distribution.ALONE, options=ONE_EPOCH)


@pytest.mark.parametrize(
    "shared",
    [
        lambda: distribution._Mirrored(one_replica()),
        lambda: distribution._Cluster(one_replica(), Members(("here:1",), 0)),
    ],
    ids=["mirrored", "multiworker"],
)
def test_a_shared_step_learns_what_a_step_learns(
    tmp_path: Path, shared: Any, alone: list[Any]
) -> None:
    together = trained(tmp_path, made := shared(), options=ONE_EPOCH)
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert made.leads


@pytest.mark.parametrize(("images", "replicas"), [(7, 2), (1, 3), (8, 4), (2, 3)])
def test_every_image_counts_once_however_uneven_the_slices(images: int, replicas: int) -> None:
    backbones.keras_module()
    import tensorflow as tf

    bounds = bounds_of(images, replicas)
    values = np.arange(1.0, images + 1)
    parts = [_slice_of(tf.constant(bounds), place) for place in range(replicas)]
    assert max(np.diff(bounds)) - min(np.diff(bounds)) <= 1
    assert all(len(values[rows]) for rows, _ in parts)
    total = sum(float(share) * values[rows].mean() for rows, share in parts)
    assert total == pytest.approx(values.mean(), rel=1e-6)


def test_workers_must_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = distribution._Cluster(one_replica(), Members(("a:1", "b:1"), 0))
    other = json.dumps({"lr": 0.1}).encode()

    def each(self: Any, values: Any) -> Any:
        row = np.asarray(values, np.float32)
        return np.stack([row, np.frombuffer(other, np.uint8) if len(row) > 1 else row])

    monkeypatch.setattr(distribution._Cluster, "_each", each)
    shared.require_agreement({"lr": 0.1})
    with pytest.raises(UsageError, match=r"lr=0\.1 of b:1 and 0\.2 of the chief"):
        shared.require_agreement({"lr": 0.2})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "not set"),
        ("", "not set"),
        ("{", "no JSON"),
        ("[]", "no table"),
        ({}, "cluster is missing"),
        ({"cluster": {"worker": ["a:1"]}}, "task is missing"),
        ({"cluster": {}, "task": TASK}, "no worker"),
        ({"cluster": {"worker": ["a:1"]}, "task": {**TASK, "index": 1}}, "no worker 1"),
        ({"cluster": {"worker": ["a:1"]}, "task": {**TASK, "index": "0"}}, "no whole number"),
        ({"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}, "no chief 0"),
        ({"cluster": {"worker": ["a:1", "a:1"]}, "task": TASK}, "twice"),
        ({"cluster": {"worker": ["a"]}, "task": TASK}, "'a'"),
        ({"cluster": {"worker": "a:1"}, "task": TASK}, "no list"),
        ({"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, "task": TASK}, "'ps'"),
        ({"cluster": {"chief": ["a:1", "b:1"]}, "task": TASK}, "2 chiefs"),
    ],
)
def test_tf_config_that_cannot_be_meant_is_refused_before_anything_else(
    tlcli: CommandLine, run: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch,
    content: Any, said: str,
) -> None:  # fmt: skip
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if content is not None:
        text = content if isinstance(content, str) else json.dumps(content)
        monkeypatch.setenv("TF_CONFIG", text)
    line = tlcli.error(2, "finetune", run, pictures / "first", "--distribute", "multiworker")
    assert said in line


def test_the_chief_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    places = {}
    for kind, index in (("chief", 0), ("worker", 0), ("worker", 1)):
        content = {"cluster": cluster, "task": {"type": kind, "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(content))
        found = members_of_environment()
        assert found.addresses == ("a:1", "b:1", "c:1")
        places[kind, index] = found.here
    assert list(places.values()) == [0, 1, 2]


def test_who_does_not_come_is_named() -> None:
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(3))
    with pytest.raises(WorkerGone, match=f"{addresses[1]}, {addresses[2]}"):
        gather(Members(addresses, 0), 0.05)
    with pytest.raises(WorkerGone, match=addresses[0]):
        gather(Members(addresses, 2), 0.05)


def test_an_address_that_somebody_has_is_refused() -> None:
    with socket.create_server(("", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ClusterUnavailable, match=address):
            gather(Members((address, "b:1"), 0), 0.05)


@pytest.mark.usefixtures("tiny_backbone")
def test_in_a_process_that_has_computed_workers_cannot_begin(
    tlcli: CommandLine, run: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbones.keras_module()
    content = {"cluster": {"worker": ["127.0.0.1:1"]}, "task": TASK}
    monkeypatch.setenv("TF_CONFIG", json.dumps(content))
    line = tlcli.error(2, "finetune", run, pictures / "first", "--distribute", "multiworker")
    assert "a process of its own" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--distribute", "mirored"), "Did you mean mirrored?"),
        (("--distribute", "mirrored", "--train-batch-norm"), "--train-batch-norm"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    tlcli: CommandLine, run: Path, pictures: Path, options: Sequence[str], said: str
) -> None:
    tlcli("finetune", run, pictures / "first", *options, code=2)
    assert said in tlcli.err.splitlines()[-1]


def test_one_device_says_so_and_trains(tlcli: CommandLine, run: Path, pictures: Path) -> None:
    answer = tlcli.json("finetune", run, pictures / "first", *FAST, "--distribute", "mirrored")
    assert "there is one device here" in tlcli.err
    assert answer["round"] == 2


@dataclass(frozen=True, eq=False)
class Follower(Distribution):
    """A worker that is not the chief, without the others."""

    leads = False

    def checkpoints(self, folder: Path, identity: Mapping[str, Any]) -> training.Checkpoints:
        return distribution._ReadCheckpoints(folder, identity)


def test_only_the_chief_writes(
    tlcli: CommandLine,
    run: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(DISTRIBUTIONS, "multiworker", Sharing("", Follower))
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    given = ("finetune", run, pictures / "first", *FAST, "--distribute", "multiworker")
    with runs.extending(run, 0):
        answer = tlcli.json(*given, "--tensorboard", tmp_path / "board")
    assert not any((tmp_path / "board").iterdir())
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert (answer["round"], answer["changed"]) == (1, False)


def shares(answer: dict[str, Any]) -> dict[str, Any]:
    """What is the same in the answers of all workers."""
    return {name: value for name, value in answer.items() if name != "seconds"}


def losses(run: Path) -> list[float]:
    lines = (run / "rounds" / "0002" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)[name] for line in lines for name in ("loss", "validation_loss")]


def free_ports(count: int) -> list[int]:
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in with_ports]
    for server in with_ports:
        server.close()
    return ports


@pytest.fixture
def prepared(isolated: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A run after round 1, to be copied, and its images: batches of 6 leave one of 5."""
    data = tiny.draw(tmp_path / "data", NAMES, count=17, contrast=0.3)
    called("tests.support.tiny", "pretrain", data, "--out", tmp_path / "run")
    return tmp_path / "run", data


def called(module: str, *arguments: object) -> str:
    """Standard output of a program that does well."""
    done = started(module, *arguments)
    out, err = done.communicate()
    assert done.returncode == 0, err
    return out


def started(module: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return popen(command, **environment)


def popen(command: Sequence[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=HERE,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def copied(run: Path, name: str) -> Path:
    return Path(shutil.copytree(run, run.with_name(name)))


def wait_for_state(process: subprocess.Popen[str], run: Path) -> None:
    """Until the state of the training is saved."""
    until = time.monotonic() + 120
    while not (run / "training" / "state.json").exists():
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.slow
def test_two_devices_learn_what_one_learns_and_go_on(prepared: tuple[Path, Path]) -> None:
    run, data = prepared
    one, two, cut = (copied(run, name) for name in ("one", "two", "cut"))
    given = (data, "--unfreeze", "2", "--epochs", "20", "--patience", "20", "--batch-size", "6")
    shared = (*given, "--distribute", "mirrored", "--json")
    called("tests.support.tiny", "finetune", one, *given, "--cached-views", "0")
    whole = called("tests.support.devices", 2, "finetune", two, *shared)
    np.testing.assert_allclose(losses(two)[:2], losses(one)[:2], atol=1e-6)
    with started("tests.support.devices", 2, "finetune", cut, *shared) as process:
        wait_for_state(process, cut)
        process.send_signal(signal.SIGTERM)
        process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    out = called("tests.support.devices", 2, "finetune", cut, *shared, "--resume")
    assert json.loads(out)["backbone_fingerprint"] == json.loads(whole)["backbone_fingerprint"]


def workers(
    run: Path, data: Path, options: Sequence[str], command: Sequence[str], **environment: str
) -> list[subprocess.Popen[str]]:
    """Two that know of each other."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    found = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        content = json.dumps({"cluster": {"worker": addresses}, "task": task})
        given = [*command, str(run), str(data), *options]
        found.append(popen(given, TF_CONFIG=content, WORKER=str(index), **environment))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_workers_learn_what_one_learns_and_survive_one(
    prepared: tuple[Path, Path], tmp_path: Path, killed: int
) -> None:
    """The loop of scripts/cluster starts all again after one was killed."""
    run, data = prepared
    one, two = copied(run, "one"), copied(run, "two")
    given = ("--unfreeze", "2", "--epochs", "6", "--batch-size", "6", "--json")
    called("tests.support.tiny", "finetune", one, data, *given, "--cached-views", "0")
    program, pid = tmp_path / "tlcli", tmp_path / "pid"
    program.write_text(
        f'#!/bin/sh\necho $$ > "$PID$WORKER"\nexec {sys.executable} -m tests.support.tiny "$@"\n'
    )
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    loop = str(HERE / "scripts" / "cluster" / "finetune")
    loops = workers(two, data, given, [loop], PATH=path, PID=str(pid), PAUSE="0")
    wait_for_state(loops[killed], two)
    os.kill(int(Path(f"{pid}{killed}").read_text()), signal.SIGKILL)
    told = [process.communicate(timeout=300) for process in loops]
    assert [process.returncode for process in loops] == [0, 0], told
    assert "ended with 137, restart" in told[killed][1]
    assert "one has gone" in told[1 - killed][1]
    assert "ended with 75, restart" in told[1 - killed][1]
    first, other = (shares(json.loads(out)) for out, _ in told)
    assert first == other
    assert first["round"] == 2
    np.testing.assert_allclose(losses(two)[:2], losses(one)[:2], atol=1e-6)
    assert called("tests.support.tiny", "rounds", "verify", two)
