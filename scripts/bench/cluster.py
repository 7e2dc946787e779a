"""Measure what a cluster on this machine costs against one process with as many threads.

    python scripts/bench/cluster.py run flowers128 --workers 2

`tlcli moments` learns some and then all of the images, each time with an empty cache and in a new
process: alone, and with `--cluster local:N`. Start and rate are the line through the two; processor
seconds, of all processes together, are not disturbed by what else the machine does. It is an error
if the files differ.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tlcli import images

SHARE = 4
"""The smaller count is the larger one divided by this."""


@dataclass(frozen=True)
class Cost:
    """Of one command, or the least of several."""

    wall: float
    processor: float

    def least(self, other: "Cost") -> "Cost":
        """What disturbances add is left out."""
        return Cost(min(self.wall, other.wall), min(self.processor, other.processor))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    listed = images.scan(str(options.data)).images
    counts = (len(listed) // SHARE, len(listed))
    cluster = f"local:{options.workers}"
    found: dict[tuple[int, str], Cost] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for count in counts:
            table = Path(scratch) / f"{count}.csv"
            # Every so many: the share has all classes in it.
            chosen = listed[:: len(listed) // count][:count]
            rows = (f"{image.path.absolute()},{image.label}" for image in chosen)
            table.write_text("\n".join(["path,label", *rows]), "utf-8")
            for _ in range(options.repeats):
                for where, extra in (("alone", ()), (cluster, ("--cluster", cluster))):
                    cost = _measured(options.run, table, where, extra)
                    found[count, where] = found.get((count, where), cost).least(cost)
            if len({path.read_bytes() for path in Path(scratch).glob(f"{count}*.h5")}) != 1:
                raise SystemExit("the moments differ")
    _print(found, counts)


def _measured(run: Path, table: Path, where: str, extra: tuple[str, ...]) -> Cost:
    out = table.with_name(f"{table.stem}-{where}.h5")
    command = [sys.executable, "-m", "tlcli", "moments", str(run), str(table), "--out", str(out)]
    with tempfile.TemporaryDirectory() as cache:
        begun, before = time.monotonic(), os.times()
        environment = {**os.environ, "TLCLI_CACHE_DIR": cache}
        subprocess.run(  # noqa: S603 - our own command
            [*command, *extra], check=True, stdout=subprocess.DEVNULL, env=environment
        )
        after = os.times()
    used = after.children_user + after.children_system
    return Cost(time.monotonic() - begun, used - before.children_user - before.children_system)


def _print(found: dict[tuple[int, str], Cost], counts: tuple[int, int]) -> None:
    print("| | images | seconds | processor seconds | start | processor ms an image |")
    print("|---|---|---|---|---|---|")
    few, many = counts
    for where in dict.fromkeys(name for _, name in found):
        cost, small = found[many, where], found[few, where]
        each = (cost.processor - small.processor) / (many - few)
        start = cost.processor - each * many
        print(
            f"| {where} | {many} | {cost.wall:.1f} | {cost.processor:.1f} | {start:.1f} | "
            f"{1000 * each:.2f} |"
        )


if __name__ == "__main__":
    main()
