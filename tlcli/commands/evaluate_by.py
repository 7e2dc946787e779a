"""evaluate --by: the images of the index answer beside the head."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tlcli import images, retrieval
from tlcli.config import EvaluateConfig, Progress
from tlcli.errors import DataError
from tlcli.evaluation import Beside
from tlcli.extractor import Extractor
from tlcli.features import Examples
from tlcli.heads import Classifier, LinearHead
from tlcli.images import LabelledImage
from tlcli.retrieval import Index, Neighbours, Searcher, Space


def beside(
    config: EvaluateConfig,
    extractor: Extractor,
    head: LinearHead,
    learned: Collection[str],
    progress: Progress,
) -> Beside:
    """How the index answers on images that neither it nor the run has seen.

    Args:
        config: with `by`.
        extractor: of the round that is measured.
        head: of that round.
        learned: content hashes of images that are left out.
        progress: told the phase of computing features.

    Raises:
        TlcliError: there is no index, or no image to test it on.
    """
    assert config.by is not None
    with retrieval.open_index(config.run) as index:
        index.require_space(Space.of(extractor))
        wanted, left_out = _wanted(config, index, learned)
        found = extractor.features(wanted, progress).examples
        neighbours = Neighbours.of(Searcher.of(index, exact=False), config.by)
        plain = replace(extractor, projection=None)
        right = _right(neighbours, plain, found)
        shared = np.isin(np.array(found.labels), head.classes)
        head_right = _right(head, extractor, found.where(shared))
    return Beside(
        by=config.by,
        images=len(right),
        accuracy=float(right.mean()),
        shared_images=int(shared.sum()),
        shared_accuracy=float(right[shared].mean()) if shared.any() else None,
        head_accuracy=float(head_right.mean()) if shared.any() else None,
        left_out=left_out,
    )


def _wanted(
    config: EvaluateConfig, index: Index, learned: Collection[str]
) -> tuple[list[LabelledImage], int]:
    """Images of classes that the index knows, and how many it holds itself."""
    known = index.records.labels()
    given = [image for image in images.scan(config.data).images if image.label in known]
    held = {entry.sha256 for entry in index.records.of_hashes(image.sha256 for image in given)}
    wanted = [image for image in given if image.sha256 not in held | set(learned)]
    if not wanted:
        raise DataError(
            f"Expected images of classes that the index knows for --by. Received: none in "
            f"{config.data} that neither it nor the run has seen. Give others, or leave --by out."
        )
    return wanted, len(held)


def _right(classifier: Classifier, extractor: Extractor, examples: Examples) -> NDArray[np.bool_]:
    """(n,) whether each image is answered with its class."""
    logits = classifier.logits(extractor.project(examples).vectors)
    answers = np.array(classifier.classes, object)[logits.argmax(axis=1)]
    return np.asarray(answers == np.array(examples.labels, object), bool)
