"""Which images are held out: decided by content, so a split is stable as images arrive."""

import hashlib
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tlcli.errors import UsageError

HELD_OUT = 0.2
"""Share of the images that what gradients train is tested on."""

TRAINED_ONLY = -1
"""In place of a fold: never tested."""

FEWEST_SET_APART = 5
"""Test images of a class say little when they are fewer."""


def holdout(
    sha256s: Sequence[str], labels: Sequence[str], share: float, groups: Sequence[str] = ()
) -> NDArray[np.bool_]:
    """Return True where an image is held out for validation.

    An image is held out when the first 8 bytes of its hash, read as a fraction of 2⁶⁴, lie below
    `share`: neither the order nor the other images matter. Only where that would take all images
    of a class, the one with the largest hash stays in training.

    Args:
        sha256s: n hashes of at least 16 hexadecimal digits.
        labels: n class names.
        share: from 0 to 1.
        groups: n keys in place of the hashes, where they are not empty, see `units`; or none.

    Returns:
        (n,) bool.

    Raises:
        UsageError: `share` lies outside 0 to 1.
    """
    if not 0 <= share <= 1:
        raise UsageError(
            f"Expected a share to hold out from 0 to 1. Received: share={share}. Use 0.1, say."
        )
    keys = np.array(units(sha256s, groups), dtype=object)
    held = np.array([int(key[:16], 16) / 2**64 < share for key in keys], dtype=np.bool_)
    classes = [keys[members] for members in _by_class(sha256s, labels) if held[members].all()]
    held[np.isin(keys, [max(names) for names in classes])] = False
    return held


def set_apart(
    sha256s: Sequence[str], labels: Sequence[str], share: float, groups: Sequence[str] = ()
) -> NDArray[np.bool_]:
    """Return True where an image is set apart for tests, never to be learned.

    Of each class those with the smallest hashes: `share` of its images rounded up, at least five,
    at most half. `holdout` does not promise as many in a small class; it takes the same ones first,
    so that few of the images that are left here are left to it. Of groups as many as needed for
    that many images, as far as no class loses more than half.

    Args:
        sha256s: n different hashes.
        labels: n class names.
        share: from 0, which sets none apart, to 0.5.
        groups: as for `holdout`.

    Returns:
        (n,) bool.

    Raises:
        UsageError: `share` lies outside 0 to 0.5.
    """
    if not 0 <= share <= 0.5:
        raise UsageError(
            f"Expected a share to hold out from 0 to 0.5. Received: hold_out={share:g}. "
            "Use 0.2, say."
        )
    total, apart = Counter(labels), Counter[str]()
    wanted = {name: _count_apart(count, share) for name, count in total.items()}
    chosen = np.zeros(len(sha256s), dtype=np.bool_)
    keys = units(sha256s, groups)
    for members in sorted(_by_class(sha256s, keys), key=lambda members: keys[members[0]]):
        more = Counter(labels[i] for i in members)
        fits = all(apart[name] + count <= total[name] // 2 for name, count in more.items())
        if fits and any(apart[name] < wanted[name] for name in more):
            apart += more
            chosen[members] = True
    return chosen


def _count_apart(images: int, share: float) -> int:
    """How many of a class's images are set apart."""
    if share == 0:
        return 0
    wanted = math.ceil(round(share * images, 9))  # 0.07 × 100 is a little more than 7
    return min(max(wanted, FEWEST_SET_APART), images // 2)


def folds(
    sha256s: Sequence[str], labels: Sequence[str], k: int, groups: Sequence[str] = ()
) -> NDArray[np.int64]:
    """Return each image's fold, 0 to k − 1: its rank by hash within its class, modulo k.

    A class of at least two different images never lies in one fold (k ≥ 2), and copies of an
    image share a fold. The order of the images does not matter. With groups, each lies whole in
    the fold in which its classes are rarest so far, the largest first; one that a class needs so
    that none of the folds holds all of it is in no fold: -1.

    Args:
        sha256s: n hashes.
        labels: n class names.
        k: number of folds, at least 1.
        groups: as for `holdout`.

    Returns:
        (n,) int64.

    Raises:
        UsageError: `k` is less than 1.
    """
    if k < 1:
        raise UsageError(f"Expected at least one fold. Received: k={k}. Use 5, say.")
    if any(groups):
        return _grouped_folds(units(sha256s, groups), labels, k)
    fold = np.zeros(len(sha256s), dtype=np.int64)
    for members in _by_class(sha256s, labels):
        ranks = {sha: rank for rank, sha in enumerate(sorted({sha256s[i] for i in members}))}
        fold[members] = [ranks[sha256s[i]] % k for i in members]
    return fold


def _grouped_folds(keys: Sequence[str], labels: Sequence[str], k: int) -> NDArray[np.int64]:
    """`folds` of what must not be divided."""
    fold = np.full(len(keys), TRAINED_ONLY, dtype=np.int64)
    total, load, size = Counter(labels), [Counter[str]() for _ in range(k)], [0] * k
    whole = _by_class(keys, keys)
    for members in sorted(whole, key=lambda members: (-len(members), keys[members[0]])):
        more = Counter(labels[i] for i in members)
        names = sorted(more)
        fullness = [sum(held[name] / total[name] for name in names) for held in load]
        best = min(range(k), key=lambda number: (fullness[number], size[number]))
        load[best] += more
        size[best] += len(members)
        fold[members] = best
    of_key = np.array(keys, dtype=object)
    classes = [of_key[rows] for rows in _by_class(keys, labels) if len(set(fold[rows])) == 1]
    fold[np.isin(of_key, [max(names) for names in classes])] = TRAINED_ONLY
    return fold


def some_of_each(sha256s: Sequence[str], labels: Sequence[str], most: int) -> list[int]:
    """Return the positions of at most `most` images of each class, those with the smallest hashes.

    Returns:
        In the order of the hashes.
    """

    def by_hash(row: int) -> tuple[str, int]:
        return sha256s[row], row

    rows = [sorted(members, key=by_hash)[:most] for members in _by_class(sha256s, labels)]
    return sorted(itertools.chain(*rows), key=by_hash)


def units(sha256s: Sequence[str], groups: Sequence[str]) -> list[str]:
    """Return what must not be divided: the key of each image's group, else its own hash."""
    return [group or sha for sha, group in zip(sha256s, groups or sha256s, strict=True)]


def _by_class(sha256s: Sequence[str], labels: Sequence[str]) -> list[list[int]]:
    """Return the positions of each class's images; raises ValueError for unequal lengths."""
    members: defaultdict[str, list[int]] = defaultdict(list)
    for i, (_, label) in enumerate(zip(sha256s, labels, strict=True)):
        members[label].append(i)
    return list(members.values())


def digest_of(hashes: Sequence[str], labels: Sequence[str]) -> str:
    """SHA-256 of the content and the class of every image, whatever their order."""
    lines = sorted(f"{key} {label}\n" for key, label in zip(hashes, labels, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
