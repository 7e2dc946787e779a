"""scripts/daily: what is new becomes candidates, what is named is learned, nothing is lost."""

import ast
import fcntl
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support import tiny
from tlcli import runs
from tlcli.images import IMAGE_SUFFIXES

HERE = Path(__file__).parents[2]
SCRIPT = HERE / "scripts" / "daily"
CALTECH = HERE.parent / "shared" / "data" / "caltech51"


@dataclass(frozen=True)
class Site:
    """A folder with a run, unsorted images, and all that the script makes beside them."""

    folder: Path
    run: Path
    program: Path

    @property
    def unsorted(self) -> Path:
        return self.folder / "un sorted"

    @property
    def out(self) -> Path:
        return self.folder / "model.keras"

    def command(self, *options: object) -> list[str]:
        given = {"run": self.run, "unsorted": self.unsorted, "test": self.folder / "test"}
        given |= {"out": self.out}
        flags = [text for name, value in given.items() for text in (f"--{name}", str(value))]
        return [str(SCRIPT), *flags, "--settle", "0", *map(str, options)]

    def __call__(self, *options: object, code: int = 0) -> str:
        """Standard output."""
        done = subprocess.run(
            self.command(*options),
            env={**os.environ, "TLCLI": str(self.program)},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        (self.folder / "said").write_text(done.stderr, "utf-8")
        return done.stdout

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text("utf-8")

    def place(self, name: str) -> Path:
        return self.folder / f"un sorted.{name}"

    def images(self) -> Counter[str]:
        """Content of every image that arrived, wherever it is → in how many places."""
        found = (
            path
            for top in (self.folder / "test", *self.folder.glob("un sorted*"))
            for path in top.rglob("*")
            if path.suffix in (".png", ".jpg") and "cache" not in path.parts
        )
        return Counter(sha256(path.read_bytes()).hexdigest() for path in found)

    def candidates(self) -> list[Path]:
        return sorted(self.place("review").glob("*/candidate-*"))

    def classes(self) -> set[str]:
        return set(runs.open_run(self.run).round().manifest.class_names)


def program(folder: Path, module: str) -> Path:
    """Starts a command line of this checkout."""
    path = folder / "tlcli"
    words = [shlex.quote(text) for text in (f"PYTHONPATH={HERE}", sys.executable)]
    path.write_text(f'#!/bin/sh\nexec env {" ".join(words)} -m {module} "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def site(run: Path, tmp_path: Path) -> Site:
    """A run of three classes with the tiny backbone."""
    tiny.draw(tmp_path / "test", ["apple", "leaf", "sky"], count=6, seed=1)
    made = Site(tmp_path, run, program(tmp_path, "tests.support.tiny"))
    made.unsorted.mkdir()
    return made


def arrive(site: Site, names: list[str], count: int, seed: int) -> None:
    """Pictures without classes."""
    tiny.draw(site.folder / "drawn", names, count=count, seed=seed)
    for path in sorted((site.folder / "drawn").rglob("*.png")):
        path.rename(site.unsorted / f"{seed}-{path.parent.name}-{path.name}")


LIMIT = ("--false-alarms", "10%")


def test_what_is_new_is_named_learned_measured_and_published(site: Site) -> None:
    arrive(site, ["sun", "apple", "leaf"], 10, seed=2)
    before = site.images()
    assert "page.html" in site(*LIMIT)
    (first, *_) = site.candidates()
    assert "sun" in {path.name.split("-")[1] for path in first.iterdir()}
    assert site.images() == before
    assert not site.out.exists()
    assert len(list(site.place("sorted").rglob("*.png"))) >= 15

    sun = first.with_name("sun")
    first.rename(sun)
    for path in sun.iterdir():
        if "sun" not in path.name:
            path.unlink()
    for other in site.candidates():
        shutil.rmtree(other)
    before = site.images()
    arrive(site, ["sun"], 4, seed=3)
    assert str(site.out) in site(*LIMIT)
    assert "sun" in site.classes()
    assert site.out.is_file()
    assert (site.images() - before).total() == 4
    assert len([p for p in site.place("sorted").rglob("*.png") if "3-sun" in p.name]) >= 3
    assert not list(site.place("named").rglob("*.png"))
    assert list(site.place("named.archive").rglob("*.png"))


@pytest.mark.slow
def test_what_fails_a_gate_is_set_aside_and_not_published(site: Site) -> None:
    """Known images under a new name."""
    named = site.place("review") / "20260101T000000Z-1" / "fruit"
    tiny.draw(named.parent, ["apple"], count=12, seed=4)
    (named.parent / "apple").rename(named)
    before = site.images()
    site("--", "--min-class-accuracy", "90%", code=4)
    assert "min-class-accuracy" in site.said
    assert site.classes() == {"apple", "leaf", "sky"}
    assert site.images() == before
    assert len(list(site.place("named.quarantine").rglob("*.png"))) == 12
    assert not site.out.exists()


def test_a_folder_without_a_name_waits_and_one_at_work_too(site: Site) -> None:
    batch = site.place("review") / "20260101T000000Z-1"
    tiny.draw(batch, ["sun"], count=3, seed=4)
    (batch / "sun").rename(batch / "candidate-01")
    tiny.draw(batch, ["plum"], count=3, seed=4)
    assert site("--settle", 3600) == ""
    assert len(list((batch / "plum").iterdir())) == 3
    assert site.classes() == {"apple", "leaf", "sky"}
    shutil.rmtree(batch / "plum")
    assert site() == ""
    assert len(list((batch / "candidate-01").iterdir())) == 3


def test_images_that_are_alone_stay_and_what_is_unreadable_too(site: Site) -> None:
    arrive(site, ["plum"], 2, seed=5)
    (site.unsorted / "broken.png").write_text("no image")
    (site.unsorted / "note.txt").write_text("no image either")
    before = site.images()
    for _ in range(2):
        assert site(*LIMIT) == ""
        assert "broken.png" in site.said
        assert len(list(site.unsorted.iterdir())) == 4
    assert site.images() == before
    assert not site.candidates()


def test_triage_that_fails_gives_the_images_back(site: Site) -> None:
    arrive(site, ["plum"], 2, seed=5)
    names = sorted(path.name for path in site.unsorted.iterdir())
    site("--false-alarms", "0.1%", code=3)
    assert "--known" in site.said
    assert sorted(path.name for path in site.unsorted.iterdir()) == names
    assert not list(site.place("review").iterdir())


@pytest.mark.parametrize("seconds", [0.15, 0.8, 2])
def test_a_killed_start_is_made_good_by_the_next(site: Site, seconds: float) -> None:
    arrive(site, ["sun"], 6, seed=2)
    before = site.images()
    job = subprocess.Popen(
        site.command(*LIMIT),
        env={**os.environ, "TLCLI": str(site.program)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    assert site.images() == before
    site(*LIMIT)
    assert site.images() == before
    assert len([path for folder in site.candidates() for path in folder.iterdir()]) >= 4
    assert not [path for path in site.place("work").iterdir() if path.is_dir()]
    assert not list(site.place("review").glob(".*"))


def test_one_start_at_a_time(site: Site) -> None:
    site.place("work").mkdir()
    with (site.place("work") / "lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        site(code=75)


@pytest.mark.parametrize("options", [
    ("--nonsense", "1"), ("--wait",), ("run",), ("--run", "/nothing"), ("--unsorted", ""),
    ("--settle", "soon"), ("--wait", "-1"), ("--review", "/proc"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(site: Site, options: tuple[str, ...]) -> None:
    arrive(site, ["plum"], 2, seed=5)
    site(*options, code=2)
    assert len(site.said.splitlines()) == 1
    assert len(list(site.unsorted.iterdir())) == 2


def test_it_knows_the_suffixes_of_images() -> None:
    (text,) = re.findall(
        r"^SUFFIXES = frozenset\((.*?)\.split\(\)", SCRIPT.read_text(), re.M | re.S
    )
    assert set(ast.literal_eval(f"({text.strip()})").split()) == IMAGE_SUFFIXES


@pytest.mark.slow
@pytest.mark.skipif(not CALTECH.is_dir(), reason="the photographs are not beside the checkout")
def test_a_day_of_caltech(tmp_path: Path) -> None:
    """Ten classes are known; two others arrive among them, are named, and learned."""
    folders = sorted(path for path in CALTECH.iterdir() if path.is_dir())
    known, new = folders[:10], folders[10:12]
    for folder in known:
        paths = sorted(folder.iterdir())
        for part, some in (
            ("first", paths[:20]),
            ("test", paths[20:30]),
            ("un sorted", paths[30:34]),
        ):
            place = tmp_path / part / ("" if part == "un sorted" else folder.name)
            place.mkdir(parents=True, exist_ok=True)
            for path in some:
                shutil.copy(path, place / f"{folder.name}-{path.name}")
    for folder in new:
        for path in sorted(folder.iterdir())[:16]:
            shutil.copy(path, tmp_path / "un sorted" / f"{folder.name}-{path.name}")
    site = Site(tmp_path, tmp_path / "run", program(tmp_path, "tlcli"))
    words: list[str | Path] = [site.program, "pretrain", tmp_path / "first", "--out", site.run]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    assert "candidates" in site()
    for folder in site.candidates():
        labels = Counter(path.name.rsplit("-", 1)[0] for path in folder.iterdir())
        ((label, count),) = labels.most_common(1)
        assert count >= 0.6 * labels.total()
        if label in {path.name for path in new} and not (folder.with_name(label)).exists():
            folder.rename(folder.with_name(label))
    named = {path.name for path in site.place("review").glob("*/*") if path.is_dir()}
    assert {path.name for path in new} <= named
    assert str(site.out) in site()
    assert {path.name for path in new} <= site.classes()
    assert site.out.is_file()
