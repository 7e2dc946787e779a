"""Divide a folder of class folders into rounds and a test set, as tables for tlcli.

    python scripts/bench/split.py photos splits --rounds 40+10+1 --train 25 --test 15

writes splits/round1.csv, round2.csv, …, joint.csv (all rounds together) and test.csv. Classes are
taken in sorted order; of each, the first images by name are for training and the next for testing
(fewer where a class has fewer).
"""

import argparse
import csv
from collections.abc import Iterable
from pathlib import Path

Row = tuple[str, str]


def rows(folder: Path, chosen: slice) -> list[Row]:
    """Return (path, label) of some images of a class folder."""
    return [(str(path.resolve()), folder.name) for path in sorted(folder.iterdir())[chosen]]


def write(path: Path, content: Iterable[Row]) -> None:
    """Write a table with its header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label"), *content])


def main() -> None:
    """Read the arguments and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", default="40+10+1", help="classes a round")
    parser.add_argument("--train", type=int, default=25, help="images a class")
    parser.add_argument("--test", type=int, default=15, help="images a class")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    folders = sorted(path for path in arguments.data.iterdir() if path.is_dir())
    train, test = slice(arguments.train), slice(arguments.train, arguments.train + arguments.test)
    start, learned = 0, list[Row]()
    for number, count in enumerate(map(int, arguments.rounds.split("+")), 1):
        content = [row for folder in folders[start : start + count] for row in rows(folder, train)]
        write(arguments.out / f"round{number}.csv", content)
        start, learned = start + count, learned + content
    write(arguments.out / "joint.csv", learned)
    used = folders[:start]
    write(arguments.out / "test.csv", [row for folder in used for row in rows(folder, test)])


if __name__ == "__main__":
    main()
