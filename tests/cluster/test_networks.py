"""A cluster over a network: two hosts with addresses of their own, and connections with TLS."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CommandLine
from tests.support.clusters import Cluster, done

pytest.importorskip("distributed")

pytestmark = pytest.mark.slow

HEAD, THERE = "10.213.77.1", "10.213.77.2"


def ip(*words: str) -> None:
    """Configure the network."""
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@contextmanager
def hosts() -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """What runs a command on the first of two hosts, and on the second; skips where none can be."""
    names = tuple(f"tlcli{os.getpid()}{letter}" for letter in "ab")
    try:
        _make(*names)
        yield ("ip", "netns", "exec", names[0]), ("ip", "netns", "exec", names[1])
    finally:
        for name in names:
            if shutil.which("ip"):
                subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _make(first: str, second: str) -> None:
    try:
        for name in (first, second):
            ip("netns", "add", name)
        _join(first, second)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        pytest.skip(f"network namespaces are not permitted here: {reason.strip()}")


def _join(first: str, second: str) -> None:
    """A cable between two hosts."""
    ends = {first: (f"{first[-8:]}x", HEAD), second: (f"{second[-8:]}x", THERE)}
    (one, _), (other, _) = ends.values()
    ip("link", "add", one, "netns", first, "type", "veth", "peer", other, "netns", second)
    for host, (end, address) in ends.items():
        ip("-n", host, "address", "add", f"{address}/30", "dev", end)
        for device in (end, "lo"):
            ip("-n", host, "link", "set", device, "up")


def test_a_worker_on_another_host_gives_the_same_bits(
    tlcli: CommandLine, first_run: Path, pictures: Path, tmp_path: Path
) -> None:
    out, data = tmp_path / "out.h5", pictures / "all"
    tlcli("moments", first_run, data, "--out", tmp_path / "expected.h5")
    with hosts() as (here, there):
        cluster = Cluster(tmp_path)
        try:
            cluster.scheduler(*here, host=HEAD)
            cluster.worker("--nthreads", "2", before=there, host=THERE)
            assert cluster.address.startswith(f"tcp://{HEAD}:")
            given = ("moments", first_run, data, "--out", out, "--cluster", cluster.address)
            done(tmp_path / "cache", *given, before=here)
            _, err = done(tmp_path / "other", *given, code=2)  # a host that is on no cable
            assert f"Expected a Dask scheduler at {cluster.address}" in err
        finally:
            cluster.end()
    assert out.read_bytes() == (tmp_path / "expected.h5").read_bytes()


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate that is its own authority, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    subject = ("-subj", "/CN=tlcli", "-days", "2", "-nodes", "-newkey", "rsa:2048")
    command = ["openssl", "req", "-x509", *subject, "-keyout", key, "-out", made]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


def test_tls_lets_in_those_who_have_a_certificate_alone(
    tlcli: CommandLine, first_run: Path, pictures: Path, tmp_path: Path
) -> None:
    out, data = tmp_path / "out.h5", pictures / "second"
    tlcli("moments", first_run, data, "--out", tmp_path / "expected.h5")
    made, key = certificate(tmp_path)
    files = ("--tls-ca-file", made, "--tls-cert", made, "--tls-key", key)
    cluster = Cluster(tmp_path, protocol=("--protocol", "tls", *files))
    try:
        cluster.scheduler()
        cluster.worker()
        assert cluster.address.startswith("tls://")
        given = ("moments", first_run, data, "--out", out, "--cluster", cluster.address)
        _, err = done(tmp_path / "cache", *given, code=2)
        assert f"Expected a Dask scheduler at {cluster.address}" in err
        plain = cluster.address.replace("tls://", "tcp://")
        _, err = done(tmp_path / "cache", *given[:-1], plain, code=2)
        assert f"Expected a Dask scheduler at {plain}" in err
        assert not out.exists()
        tls = "DASK_DISTRIBUTED__COMM__TLS__"
        mine: dict[str, Any] = {
            f"{tls}CA_FILE": made,
            f"{tls}CLIENT__CERT": made,
            f"{tls}CLIENT__KEY": key,
        }
        done(tmp_path / "cache", *given, **mine)
    finally:
        cluster.end()
    assert out.read_bytes() == (tmp_path / "expected.h5").read_bytes()
