"""Fine-tune once on the first round, freeze, merge: against the head alone, and all at once.

    python scripts/bench/split.py caltech51 splits --rounds 20+10+10+11 --train 25 --test 15
    python scripts/bench/first_round.py splits

Three runs over the same tables: *head only* never trains the backbone; *fine-tune once* trains it
on round 1 and merges the others, without the old images; *joint* fine-tunes on the images of all
rounds together, which has to keep them. The table has accuracies on test.csv, of all classes, of
those of round 1 and of the others, after the last round.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from calling import tlcli


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("splits", type=Path)
    parser.add_argument("--backbone", default="EfficientNetLite0")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--epochs", default="10")
    parser.add_argument("--unfreeze", default="all")
    parser.add_argument("--lr", default="0.003")
    parser.add_argument("--augment", default="standard")
    options = parser.parse_args()
    tables = sorted(options.splits.glob("round*.csv"))
    network = ["--backbone", options.backbone, "--weights", options.weights]
    how = ["--unfreeze", options.unfreeze, "--epochs", options.epochs, "--lr", options.lr]
    how += ["--augment", options.augment]
    print("| | all classes | of round 1 | of later rounds | old images | exact | seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    joint = options.splits / "joint.csv"
    with tempfile.TemporaryDirectory() as scratch:
        for name, first, tune in (
            ("head only", tables, False),
            ("fine-tune once, freeze, merge", tables, True),
            ("joint fine-tuning", [joint], True),
        ):
            run = Path(scratch) / name.replace(" ", "-")
            answers = [tlcli("pretrain", first[0], "--out", run, *network)]
            if tune:
                answers.append(tlcli("finetune", run, first[0], *how))
            answers += [tlcli("extend-classes", run, table) for table in first[1:]]
            report = tlcli("evaluate", run, options.splits / "test.csv")
            _print(name, answers, report, set(classes_of(tables[0])))


def classes_of(table: Path) -> list[str]:
    """The classes of a table."""
    return [line.rsplit(",", 1)[1] for line in table.read_text("utf-8").splitlines()[1:]]


def _print(
    name: str, answers: list[dict[str, Any]], report: dict[str, Any], first: set[str]
) -> None:
    def accuracy(wanted: bool) -> float:
        chosen = [e for e in report["per_class"] if (e["class"] in first) == wanted]
        images = sum(entry["images"] for entry in chosen)
        return float(sum(entry["accuracy"] * entry["images"] for entry in chosen) / images)

    seconds = sum(answer["seconds"]["total"] for answer in answers)
    needed = "all" if len(answers) < 3 else "none"
    exact = "yes" if answers[-1]["exact"] else "no"
    print(
        f"| {name} | {report['accuracy']:.1%} | {accuracy(True):.1%} | {accuracy(False):.1%} "
        f"| {needed} | {exact} | {seconds:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
