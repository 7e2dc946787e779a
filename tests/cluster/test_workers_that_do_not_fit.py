"""Clusters that cannot compute what is asked for: one line, and nothing is begun."""

from pathlib import Path

import pytest

from tests.support import accidents
from tests.support.clusters import Cluster, done

pytest.importorskip("distributed")

pytestmark = pytest.mark.slow

PRELOAD = {"DASK_DISTRIBUTED__WORKER__PRELOAD": accidents.__file__}


def refused(cluster: Cluster, pictures: Path, tmp_path: Path) -> str:
    """The one line with which a run is not begun."""
    given = ("pretrain", pictures / "first", "--out", tmp_path / "run")
    _, err = done(tmp_path / "cache", *given, "--cluster", cluster.address, code=2)
    assert not (tmp_path / "run").exists()
    (line,) = [line for line in err.splitlines() if line.startswith("tlcli: error")]
    return line


def test_a_scheduler_of_another_version(pictures: Path, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    try:
        cluster.scheduler(DASK_DISTRIBUTED__SCHEDULER__PRELOAD=accidents.__file__, VERSION="1.0")
        assert "Received: 1.0. Install one version everywhere" in refused(
            cluster, pictures, tmp_path
        )
    finally:
        cluster.end()


def test_a_scheduler_without_workers_and_one_whose_worker_lacks_a_package(
    pictures: Path, tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path)
    try:
        cluster.scheduler()
        assert "Expected workers" in refused(cluster, pictures, tmp_path)
        cluster.worker(HIDDEN="openvino,keras,tensorflow", **PRELOAD)
        cluster.wait_for_workers(1)
        line = refused(cluster, pictures, tmp_path)
    finally:
        cluster.end()
    assert "Install there what is installed here" in line
    assert "tensorflow" in line
