"""Thirty days of `scripts/retrain`: a class a day, one day poisoned, one killed, one overlapping.

    python scripts/bench/thirty_days.py caltech51 /tmp/thirty

The first classes are learned by `tlcli pretrain`; every day the inbox receives one more, and the
job runs as cron would run it. On the poisoned day the new class has images of a known one, on the
killed day the job and its children get SIGKILL while they work, on the overlapping day it starts
twice at once. In the end it is an error if an image is lost or in two places, if the memory is not
that of one joint training on all archived images, if the poisoned batch is not in quarantine, or if
the published model answers otherwise than the run.
"""

import argparse
import json
import os
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
from typing import Any

import numpy as np

from tlcli import images

HERE = Path(__file__).parent.parent.parent
DAYS = 30
POISONED, KILLED, OVERLAPPING = 10, 15, 20
PLACES = ("inbox", "inbox.work", "inbox.archive", "inbox.quarantine", "test")


@dataclass(frozen=True)
class Site:
    """A folder with data, run, inbox, test images, and the published model."""

    folder: Path

    @property
    def program(self) -> Path:
        """Starts the tlcli of this checkout."""
        return self.folder / "tlcli"

    def tlcli(self, *arguments: object) -> str:
        """Return what a command answers."""
        command = [str(self.program), *map(str, arguments)]
        environment = os.environ | {"TLCLI_CACHE_DIR": str(self.folder / "inbox.work" / "cache")}
        done = subprocess.run(  # noqa: S603 - our own command
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout

    def retrain(self) -> "subprocess.Popen[str]":
        """Start the job with the empty environment and closed standard input of a bad cron."""
        folders = {"run": "run", "inbox": "inbox", "test": "test", "out": "model.keras"}
        words = ["env", "-i", f"TLCLI={self.program}", str(HERE / "scripts" / "retrain")]
        for name, below in folders.items():
            words += [f"--{name}", str(self.folder / below)]
        return subprocess.Popen(  # noqa: S603 - our own script
            ["/bin/sh", "-c", f"{shlex.join(words)} --settle 0 <&-"],
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def images(self) -> Counter[str]:
        """Content hash of every image that arrived → in how many places it is."""
        found = (path for place in PLACES for path in (self.folder / place).rglob("*.jpg"))
        return Counter(sha256(path.read_bytes()).hexdigest() for path in found)

    def published(self) -> str:
        """Hash of the published model."""
        return sha256((self.folder / "model.keras").read_bytes()).hexdigest()


def main() -> None:
    """Live through the days, then check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--first", type=int, default=10, help="classes before the first day")
    parser.add_argument("--images", type=int, default=40, help="most images of a class")
    options = parser.parse_args()
    options.out.mkdir()
    site = Site(options.out.resolve())
    names = sorted(path.name for path in options.data.iterdir() if path.is_dir())
    given = {name: sorted((options.data / name).iterdir()) for name in names}
    _begin(site, {name: given[name][: options.images] for name in names[: options.first]})
    spare = max(names[: options.first], key=lambda name: len(given[name]))
    for day, name in enumerate(names[options.first : options.first + DAYS], 1):
        new = given[name][: options.images]
        if day == POISONED:
            new = given[spare][options.images : 2 * options.images]
        _copy(new, site.folder / "inbox" / name)
        _live(site, day, name)
    _check(site, names[options.first + POISONED - 1])


def _copy(paths: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copyfile(path, folder / path.name)


def _begin(site: Site, given: dict[str, list[Path]]) -> None:
    """Learn the first classes, all but 15 images of each, which test."""
    site.program.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={shlex.quote(str(HERE))}\n"
        f'exec {shlex.quote(sys.executable)} -m tlcli "$@"\n'
    )
    site.program.chmod(0o755)
    for name, paths in given.items():
        _copy(paths[:-15], site.folder / "first" / name)
        _copy(paths[-15:], site.folder / "test" / name)
    (site.folder / "inbox").mkdir()
    site.tlcli("pretrain", site.folder / "first", "--out", site.folder / "run")
    site.tlcli("export", site.folder / "run", "--out", site.folder / "model.keras")


def _live(site: Site, day: int, name: str) -> None:
    """One day: the job runs; what it did is printed and checked."""
    before, published, start = site.images(), site.published(), time.perf_counter()
    job = site.retrain()
    second = site.retrain() if day == OVERLAPPING else None
    if day == KILLED:
        _kill_at_work(site, job)
    codes = [job.wait()] + ([second.wait()] if second else [])
    assert job.stderr is not None
    said = job.stderr.read().splitlines()[:1]
    seconds = time.perf_counter() - start
    print(f"day {day:2} {name:16} exit {codes} {seconds:5.1f} s  {' '.join(said)}", flush=True)
    assert site.images() == before, "an image is lost"
    if set(codes) != {0} and day != OVERLAPPING:
        assert site.published() == published, "a model is published that has not passed"
    if day == OVERLAPPING:
        assert sorted(codes) == [0, 75], codes


def _kill_at_work(site: Site, job: "subprocess.Popen[str]") -> None:
    """Kill the job with all its children when the next round is committed but not measured."""
    folder = site.folder / "run" / "rounds"
    rounds = len(list(folder.iterdir()))
    while len(list(folder.iterdir())) == rounds and job.poll() is None:
        time.sleep(0.01)
    os.killpg(job.pid, signal.SIGKILL)


def _check(site: Site, poisoned: str) -> None:
    """Compare with joint training, and the published model with the run."""
    assert set(site.images().values()) == {1}, "an image is in two places"
    assert not list((site.folder / "inbox").rglob("*.jpg"))
    refused = sorted((site.folder / "inbox.quarantine").iterdir())
    labels = sorted(path.name for batch in refused for path in (batch / "images").iterdir())
    joint = site.folder / "joint"
    shutil.copytree(site.folder / "first", joint)
    archived = sorted((site.folder / "inbox.archive").iterdir())
    for batch in archived:
        shutil.copytree(batch / "images", joint, dirs_exist_ok=True)
    at_once = json.loads(site.tlcli("pretrain", joint, "--out", site.folder / "at-once", "--json"))
    current = json.loads(site.tlcli("rounds", "show", site.folder / "run", "--json"))
    site.tlcli("rounds", "verify", site.folder / "run")
    measured = json.loads(
        site.tlcli("evaluate", site.folder / "run", site.folder / "test", "--json")
    )
    print(f"{len(archived)} batches archived, {len(refused)} in quarantine: {', '.join(labels)}")
    print(f"run: round {current['round']}, memory {current['memory_sha256'][:16]}…")
    print(f"joint training of the archived images: memory {at_once['memory_sha256'][:16]}…")
    print(f"{measured['images']} test images: accuracy {measured['accuracy']:.1%}")
    print(f"published model: largest difference of a probability {_difference(site):.1e}")
    assert at_once["memory_sha256"] == current["memory_sha256"]
    assert labels == [poisoned], "other batches are in quarantine than the poisoned one"


def _difference(site: Site) -> float:
    """Return the largest between the published model and `tlcli predict`, on all test images."""
    import keras

    model: Any = keras.saving.load_model(site.folder / "model.keras")
    run, test = site.folder / "run", site.folder / "test"
    names = json.loads((max((run / "rounds").iterdir()) / "round.json").read_text("utf-8"))
    classes = [entry["name"] for entry in names["classes"]]
    options = ("--top", len(classes), "--engine", "keras", "--json")
    lines = [json.loads(line) for line in site.tlcli("predict", run, test, *options).splitlines()]
    size = model.input_shape[1]
    pixels = np.stack([images.decode(Path(line["path"]), images.Square(size)) for line in lines])
    answers = model.predict(pixels, verbose=0)
    said = [{entry["label"]: entry["probability"] for entry in line["top"]} for line in lines]
    return float(np.abs(answers - [[row[name] for name in classes] for row in said]).max())


if __name__ == "__main__":
    main()
