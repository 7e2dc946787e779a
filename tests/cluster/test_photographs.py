"""Photographs on a cluster of this machine, whatever happens to its workers: the same bits."""

import json
from pathlib import Path

import pytest

from tests.support.clusters import done

pytest.importorskip("distributed")

SHARED = Path(__file__).parents[3] / "shared" / "data"
CALTECH, FLOWERS = SHARED / "caltech51", SHARED / "flowers128"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CALTECH.is_dir(), reason="the photographs are not beside the checkout"),
]


def some(source: Path, target: Path, classes: int, count: int) -> Path:
    """The first images of the first classes, as links."""
    for folder in sorted(source.iterdir())[:classes]:
        (target / folder.name).mkdir(parents=True)
        for path in sorted(folder.iterdir())[:count]:
            (target / folder.name / path.name).symlink_to(path)
    return target


def rounds(first: Path, second: Path, run: Path, *options: str) -> tuple[list[str], list[int]]:
    """The hash of the memory and the number of images that were used, of two rounds."""
    cache, given = run.with_name(f"{run.name} cache"), ("--json", "--max-bad", "2%", *options)
    told = [
        done(cache, "pretrain", first, "--out", run, *given, module="tlcli"),
        done(cache, "extend-classes", run, second, *given, module="tlcli"),
    ]
    found = [json.loads(out) for out, _ in told]
    return (
        [answer["memory_sha256"] for answer in found],
        [answer["images"]["used"] for answer in found],
    )


def test_killed_workers_and_poison_leave_the_hash_of_one_process(tmp_path: Path) -> None:
    first = some(CALTECH, tmp_path / "caltech", classes=10, count=12)
    second = some(FLOWERS, tmp_path / "flowers", classes=2, count=40)
    once = sorted(first.glob("*/*"))[100]
    once.rename(once.with_name(f"once-{once.name}"))  # its worker gets SIGKILL
    poison = min(second.glob("*/*"))
    poison.with_name("failing-one.jpg").write_bytes(poison.read_bytes() + b"another")
    there = rounds(first, second, tmp_path / "there", "--cluster", "local:2")
    assert len(list(first.glob("*/once-*.done"))) == 1
    poison.with_name("failing-one.jpg").unlink()
    assert there == rounds(first, second, tmp_path / "here")
    assert there[1] == [120, 80]
