"""Novelty and triage, on classes that were left out.

    python scripts/bench/novelty.py IMAGES BACKGROUND [--learn 25] [--new 10]

Half of the classes of IMAGES, a folder of class folders, are learned with --learn images each in
a run of its own; up to 15 other images of these are the known ones, up to --new of every other
class the new ones; BACKGROUND holds photographs of no class. Prints the area under the ROC curve
for both, for the score and for others, the share of known images above the limit with its 95 %
binomial interval, and the purity of the candidates: the share of their images that are of the
candidate's largest class.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from tlcli import gaussian, images, runs
from tlcli.commands.pretrain import pretrain
from tlcli.commands.triage import Triaged, triage
from tlcli.config import Columns, PretrainConfig, RunsOn, TriageConfig, no_progress
from tlcli.features import Vectors
from tlcli.images import ImageFile
from tlcli.rounds.novelty import Judge, judge
from tlcli.rounds.parent import Parent

RATE = 0.05


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("background", type=Path)
    parser.add_argument("--learn", type=int, default=25)
    parser.add_argument("--new", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _divide(options, place)
        pretrain(PretrainConfig(str(place / "learn"), place / "run"))
        rule = judge(
            Parent.of(runs.open_run(place / "run"), RunsOn()), RATE, None, Columns(), no_progress
        )
        places = {name: place / name for name in ("known", "new")}
        places["background"] = options.background
        vectors = {name: _vectors(rule, folder) for name, folder in places.items()}
        _print_others(rule, vectors)
        _print(rule, {name: rule.scores(found) for name, found in vectors.items()})
        paths = (str(place / "known"), str(place / "new"))
        found = triage(TriageConfig(place / "run", paths, false_alarms=RATE))
        print(_candidates(found))


def _divide(options: argparse.Namespace, place: Path) -> None:
    """Links in place/learn and place/known, and in place/new for every other class."""
    folders = sorted(path for path in options.images.iterdir() if path.is_dir())
    last = options.learn + 15
    for number, folder in enumerate(folders):
        paths = sorted(folder.iterdir())
        parts = {"learn": paths[: options.learn], "known": paths[options.learn : last]}
        if number >= (len(folders) + 1) // 2:
            parts = {"new": paths[options.learn : options.learn + options.new]}
        for part, chosen in parts.items():
            for path in chosen:
                link = place / part / folder.name / path.name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.absolute())


def _vectors(rule: Judge, folder: Path) -> Vectors:
    paths = list(images.find_images([folder]))
    hashes = images.content_hashes(paths)
    files = {k: ImageFile(p, k) for p, k in zip(paths, hashes, strict=True) if isinstance(k, str)}
    found = rule.extractor.features(list(files.values()), no_progress)
    return Vectors.of(found.vectors[:])


def _others(rule: Judge, features: np.ndarray) -> dict[str, np.ndarray]:
    """Scores that were compared with the one that is used."""
    measure = rule.novelty
    angle, quotient = measure.parts(features).T
    placed = features.astype(np.float64) @ measure.inverse.T
    distances = [((placed - centre) ** 2).sum(axis=1) for centre in measure.centres]
    nearest, middle = np.min(distances[:-1], axis=0), distances[-1]
    away, directions = placed - measure.centres[-1], measure.centres[:-1] - measure.centres[-1]
    products = away @ directions.T / np.linalg.norm(directions, axis=1)
    return {
        "the angle alone": angle,
        "the quotient alone": quotient,
        "the difference, one covariance": nearest - middle,
        "the difference, two covariances": nearest - _from_all(rule, features),
        "the nearest class": nearest,
        "the cosine, whitened": -(products / np.linalg.norm(away, axis=1)[:, None]).max(axis=1),
    }


def _from_all(rule: Judge, features: np.ndarray) -> np.ndarray:
    """The squared distance from the mean of all images, with their own shrunken covariance."""
    total = rule.moments
    middle = total.counts @ gaussian.means(total) / total.images
    covariance = gaussian.gram(total) / total.images - np.outer(middle, middle)
    amount = gaussian.usual_shrinkage(total.width, total.images)
    ridge = amount * np.trace(covariance) / total.width * np.eye(total.width)
    away = features - middle
    solved = np.linalg.solve((1 - amount) * covariance + ridge, away.T).T
    return np.asarray((away * solved).sum(axis=1))


def _area(known: np.ndarray, found: np.ndarray) -> float:
    truth = np.repeat([0, 1], [len(known), len(found)])
    return float(roc_auc_score(truth, np.concatenate([known, found])))


def _print_others(rule: Judge, vectors: dict[str, Vectors]) -> None:
    scores = {name: _others(rule, found[:]) for name, found in vectors.items()}
    for name, known in scores["known"].items():
        areas = [_area(known, scores[part][name]) for part in ("new", "background")]
        print(f"{name:32} AUROC {areas[0]:.3f} {areas[1]:.3f}")


def _print(rule: Judge, scores: dict[str, np.ndarray]) -> None:
    known = scores.pop("known")
    for name, found in scores.items():
        area = _area(known, found)
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
