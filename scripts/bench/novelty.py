"""Novelty and triage, on classes that were left out.

    python scripts/bench/novelty.py IMAGES BACKGROUND

Half of the classes of IMAGES, a folder of class folders, are learned with 25 images each in a run
of its own; up to 15 other images of these are the known ones, up to 10 of every other class the new
ones; BACKGROUND holds photographs of no class. Prints the area under the ROC curve for both, the
share of known images above the limit with its 95 % binomial interval, and the purity of the
candidates: the share of their images that are of the candidate's largest class.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from tlcli import images, runs
from tlcli.commands.pretrain import pretrain
from tlcli.commands.triage import Triaged, triage
from tlcli.config import PretrainConfig, RunsOn, TriageConfig, no_progress
from tlcli.images import ImageFile
from tlcli.rounds.novelty import Judge, judge
from tlcli.rounds.parent import Parent

RATE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("background", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _divide(options.images, place)
        pretrain(PretrainConfig(str(place / "learn"), place / "run"))
        rule = judge(Parent.of(runs.open_run(place / "run"), RunsOn()), RATE, None, no_progress)
        scores = {name: _scores(rule, place / name) for name in ("known", "new")}
        scores["background"] = _scores(rule, options.background)
        _print(rule, scores)
        paths = (str(place / "known"), str(place / "new"))
        found = triage(TriageConfig(place / "run", paths, false_alarms=RATE))
        print(_candidates(found))


def _divide(source: Path, place: Path) -> None:
    """Links in place/learn and place/known, and in place/new for every other class."""
    folders = sorted(path for path in source.iterdir() if path.is_dir())
    for number, folder in enumerate(folders):
        paths = sorted(folder.iterdir())
        parts = {"learn": paths[:25], "known": paths[25:40]}
        if number >= (len(folders) + 1) // 2:
            parts = {"new": paths[25:35]}
        for part, chosen in parts.items():
            for path in chosen:
                link = place / part / folder.name / path.name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.absolute())


def _scores(rule: Judge, folder: Path) -> np.ndarray:
    paths = list(images.find_images([folder]))
    hashes = images.content_hashes(paths)
    files = {k: ImageFile(p, k) for p, k in zip(paths, hashes, strict=True) if isinstance(k, str)}
    return rule.scores(rule.extractor.features(list(files.values()), no_progress).vectors)


def _print(rule: Judge, scores: dict[str, np.ndarray]) -> None:
    known = scores.pop("known")
    for name, found in scores.items():
        truth = np.repeat([0, 1], [len(known), len(found)])
        area = roc_auc_score(truth, np.concatenate([known, found]))
        caught = np.mean(found > rule.limit)
        print(f"{name:12} {len(found):5} images   AUROC {area:.3f}   above the limit {caught:.1%}")
    above = int((known > rule.limit).sum())
    low, high = binomtest(above, len(known)).proportion_ci()
    rate = f"{above / len(known):.1%} ({low:.1%} to {high:.1%})"
    print(f"{'known':12} {len(known):5} images   above the limit {rate}, asked for {RATE:.0%}")


def _candidates(found: Triaged) -> str:
    classes = [
        Counter(Path(entry.path).parent.name for entry in candidate.images).most_common(1)[0][1]
        for candidate in found.candidates
    ]
    total = sum(len(candidate.images) for candidate in found.candidates)
    return f"{len(classes)} candidates with {total} images, purity {sum(classes) / total:.3f}"


if __name__ == "__main__":
    main()
