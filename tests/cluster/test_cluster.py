"""--cluster through the command line: the bits of one process, whatever happens to workers."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support import accidents, tiny
from tests.support.clusters import begun, cluster, done, wait_until
from tlcli.cluster import connection

pytest.importorskip("distributed")

ADDRESS = "local:2"


@pytest.fixture
def images(pictures: Path, tmp_path: Path) -> Path:
    """Class folders that a test may add to."""
    for path in sorted((pictures / "first").glob("*/*.png")):
        copy = tmp_path / "images" / path.parent.name / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return tmp_path / "images"


def renamed(images: Path, kind: str) -> Path:
    """One of the images, to which something is to happen."""
    path = sorted(images.glob("*/*.png"))[5]
    return path.rename(path.with_name(f"{kind}-{path.name}"))


def expected(tlcli: CommandLine, run: Path, images: Path, tmp_path: Path) -> bytes:
    """The moments of images as this process computes them."""
    tlcli("moments", run, images, "--out", tmp_path / "expected.h5")
    return (tmp_path / "expected.h5").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("happens", ["nothing", "once"])
def test_a_cluster_gives_the_bits_of_one_process(
    tlcli: CommandLine, run: Path, images: Path, tmp_path: Path, happens: str
) -> None:
    renamed(images, happens)
    out = tmp_path / "out.h5"
    done(tmp_path / "cache", "moments", run, images, "--out", out, "--cluster", ADDRESS)
    assert out.read_bytes() == expected(tlcli, run, images, tmp_path)
    assert len(list(images.glob("*/*.done"))) == (happens == "once")


@pytest.mark.slow
@pytest.mark.parametrize("happens", ["deadly", "failing"])
def test_an_image_that_workers_do_not_survive_is_named_and_the_rest_is_learned(
    tlcli: CommandLine, run: Path, images: Path, tmp_path: Path, happens: str
) -> None:
    deadly = renamed(images, happens)
    out, given = tmp_path / "out.h5", ("moments", run, images, "--cluster", ADDRESS)
    _, err = done(tmp_path / "cache", *given, "--out", out, code=3)
    assert str(deadly) in err
    assert not out.exists()
    done(tmp_path / "cache", *given, "--out", out, "--max-bad", "5%")
    deadly.unlink()
    assert out.read_bytes() == expected(tlcli, run, images, tmp_path)


@pytest.mark.slow
def test_a_file_that_a_worker_cannot_read_is_no_bad_image(
    run: Path, images: Path, tmp_path: Path
) -> None:
    unseen = renamed(images, "unseen")
    given = ("moments", run, images, "--out", tmp_path / "out.h5", "--max-bad", "100%")
    _, err = done(tmp_path / "cache", *given, "--cluster", ADDRESS, code=3)
    assert str(unseen) in err
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.slow
def test_bad_images_are_told_as_by_one_process(
    tlcli: CommandLine, run: Path, images: Path, tmp_path: Path
) -> None:
    renamed(images, "broken").write_bytes(b"no image")
    given = ("moments", run, images, "--max-bad", "50%", "--json")
    there, _ = done(tmp_path / "cache", *given, "--out", tmp_path / "out.h5", "--cluster", ADDRESS)
    here = tlcli(*given, "--out", tmp_path / "expected.h5")
    assert there.split('"skipped"')[1].split("]")[0] == here.split('"skipped"')[1].split("]")[0]


@pytest.mark.slow
def test_workers_that_are_killed_and_come_change_no_bit(
    tlcli: CommandLine, run: Path, images: Path, tmp_path: Path
) -> None:
    """Five shards on two workers, then on one, then on two again; an image is poison."""
    tiny.draw(images, ["apple", "sky", "leaf"], count=100, seed=5)
    held, poison = renamed(images, "hold"), renamed(images, "failing")
    out, happens = tmp_path / "out.h5", {"DASK_DISTRIBUTED__WORKER__PRELOAD": accidents.__file__}
    with cluster(tmp_path) as found:
        for _ in range(2):
            found.worker("--no-nanny", **happens)
        found.wait_for_workers(2)
        given = ("moments", run, images, "--out", out, "--cluster", found.address)
        process = begun(tmp_path / "cache", *given, "--max-bad", "1%", "--json")
        wait_until(lambda: bool(list(held.parent.glob("hold-*.held"))))
        (mark,) = held.parent.glob("hold-*.held")
        os.kill(int(mark.suffixes[-2][1:]), signal.SIGKILL)
        wait_until(lambda: len(list(held.parent.glob("hold-*.held"))) == 2)
        assert found.asked("print(len(c.nthreads()))") == "1\n"
        found.worker("--no-nanny", **happens)
        found.wait_for_workers(2)
        held.with_suffix(".go").touch()
        told, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert str(poison) in told
    poison.unlink()
    assert out.read_bytes() == expected(tlcli, run, images, tmp_path)


@pytest.mark.slow
def test_workers_read_urls_themselves(
    tlcli: CommandLine, run: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    given = ("moments", run, f"objects://{images.name}", "--out", out, "--cluster", ADDRESS)
    done(tmp_path / "cache", *given, OBJECTS=str(images.parent))
    assert out.read_bytes() == expected(tlcli, run, images, tmp_path)
    bare = {"OBJECTS": str(images.parent), "DASK_DISTRIBUTED__WORKER__PRELOAD": "[]"}
    out.unlink()
    _, err = done(tmp_path / "other", *given, code=3, **bare)
    assert "Expected workers that can read objects://" in err
    assert not out.exists()


@pytest.mark.slow
def test_every_command_computes_on_the_cluster(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    new, test = pictures / "second", pictures / "test"
    joint = tlcli.json("pretrain", pictures / "first", "--out", tmp_path / "here")
    with cluster(tmp_path, {"TLCLI_CACHE_DIR": str(tmp_path / "worker")}) as found:
        on: Sequence[object] = ("--cluster", found.address, "--json")
        caches = (tmp_path / f"cache{number}" for number in range(9))
        there = tmp_path / "there"
        out, _ = done(next(caches), "pretrain", pictures / "first", "--out", there, *on)
        assert joint["memory_sha256"] in out
        extended, _ = done(next(caches), "extend-classes", there, new, *on)
        assert tlcli.json("extend-classes", run, new)["memory_sha256"] in extended
        measured, _ = done(next(caches), "evaluate", there, new, "--include-learned", *on)
        predicted, _ = done(next(caches), "predict", there, test, *on)
        done(next(caches), "index", "add", there, new, *on)
    assert predicted == tlcli("predict", there, test, "--json")
    assert '"accuracy"' in measured


@pytest.mark.slow
def test_a_worker_of_another_arithmetic_is_named_and_gets_no_images(
    tlcli: CommandLine, run: Path, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    with cluster(tmp_path, {}, {"ONEDNN_MAX_CPU_ISA": "SSE41"}) as found:
        found.wait_for_workers(2)
        given = ("moments", run, images, "--out", out, "--cluster", found.address)
        _, err = done(tmp_path / "cache", *given)
    assert "another arithmetic" in err
    assert out.read_bytes() == expected(tlcli, run, images, tmp_path)


@pytest.mark.slow
def test_an_interrupted_command_frees_the_workers(run: Path, images: Path, tmp_path: Path) -> None:
    held = renamed(images, "hold")
    with cluster(tmp_path, {"DASK_DISTRIBUTED__WORKER__PRELOAD": accidents.__file__}) as found:
        given = ("moments", run, images, "--out", tmp_path / "out.h5", "--cluster", found.address)
        process = begun(tmp_path / "cache", *given)
        wait_until(lambda: bool(list(held.parent.glob("hold-*.held"))))
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130
        held.with_suffix(".go").touch()
        assert "compute" not in found.asked("print(c.processing())")
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("address", ["nonsense", "local:0", "tcp://", ""])
def test_what_is_no_address_is_refused(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, address: str
) -> None:
    given = ("moments", run, pictures / "second", "--out", tmp_path / "out.h5")
    assert f"cluster={address!r}" in tlcli.error(2, *given, "--cluster", address)
    error = tlcli.error(
        2, "pretrain", pictures / "first", "--out", tmp_path / "new", "--cluster", address
    )
    assert f"cluster={address!r}" in error
    assert not (tmp_path / "new").exists()


def test_where_no_scheduler_is_nothing_is_begun(
    tlcli: CommandLine, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.3)
    given = ("pretrain", pictures / "first", "--out", tmp_path / "new")
    assert "scheduler at tcp://127.0.0.1:9" in tlcli.error(
        2, *given, "--cluster", "tcp://127.0.0.1:9"
    )
    assert not (tmp_path / "new").exists()
