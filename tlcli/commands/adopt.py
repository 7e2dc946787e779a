"""adopt: round 1 from a classifier that exists."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tlcli import backbones, evaluation, files, heads, runs, strategies
from tlcli.backbones import StoredBackbone
from tlcli.commands.adopt_names import registry_of, require_classes
from tlcli.commands.adopt_scaling import scaled
from tlcli.config import AdoptConfig, MemoryOptions, Progress, no_progress
from tlcli.errors import UsageError
from tlcli.extractor import Extractor, require_computable
from tlcli.features import Features
from tlcli.heads import Generic, LinearHead, Recipe, generic
from tlcli.images import LabelledImage, Listing
from tlcli.manifest import RegisteredClass
from tlcli.memory import Memory
from tlcli.memory.pixels import pixels_of
from tlcli.memory.setting import require_memory
from tlcli.moments import Rows
from tlcli.rounds.adoption import Adopted, FromFile, FromImagenet, Probabilities, source_of
from tlcli.rounds.intake import NOTHING, Intake, readable, require_outside, scan
from tlcli.rounds.parent import empty_memory
from tlcli.rounds.publication import Draft, publish
from tlcli.rounds.result import Phases, RoundResult, options_of, report_of, unchanged
from tlcli.rounds.solution import Examination, Examined, Problem, evidence_of
from tlcli.rounds.usual_images import expected_of, sample_of
from tlcli.runs import Round, Writer

log = logging.getLogger(__name__)

NO_MEMORY = MemoryOptions(memory="none")
"""What a run remembers of images that it was never given."""


def adopt(config: AdoptConfig, progress: Progress = no_progress) -> RoundResult:
    """Make a run of a classifier: take it apart, compare both halves with it, commit round 1.

    Raises:
        TlcliError: see errors.py; nothing is left behind.
    """
    phases = Phases(progress)
    _require_options(config)
    with runs.creating(config.out, config.wait) as writer:
        if writer.run.numbers():
            return _same_again(config, writer, phases)
        with phases.phase("model"):
            source = source_of(config)
        listing = _listing(config.data, config, progress)
        registry = _registry(config, source, listing, progress)
        with phases.phase("model"):
            adopted = _scaled(config, source, registry, listing, progress)
        with phases.phase("backbone"):
            classifier = _Classifier.of(config, writer, adopted, registry)
            adopted.facts["deviation"] = _require_same_answers(config, adopted, classifier)
        draft = _draft(config, classifier, listing, phases)
        facts = {"model": config.model, "sha256": source.sha256, **adopted.facts}
        return publish(writer, replace(draft, adoption=facts), phases)


def _require_options(config: AdoptConfig) -> None:
    require_memory(config.keeping)
    require_computable(config.runs_on)
    require_outside(config.out, config.data)
    if config.data is None and config.keeping != MemoryOptions():
        raise UsageError(
            "Expected --data with --memory: what is remembered is of images. Received: "
            f"memory={config.keeping.memory!r} alone. Add --data DATA, the images that the model "
            "was trained on, or leave it out."
        )
    if config.data is not None and config.sample is not None:
        raise UsageError(
            "Expected --data or --sample: the images with labels say what a sample would. "
            "Received: both. Leave --sample out."
        )


def _same_again(config: AdoptConfig, writer: Writer, phases: Phases) -> RoundResult:
    """The run exists: fine if it began with this very model and these options."""
    if 1 in writer.run.numbers():
        first = writer.run.round(1)
        if _began_so(config, first):
            return unchanged(config.out, first, NOTHING, phases)
    raise UsageError(
        f"Expected a new folder for the run. Received: {config.out} is a run already, made of "
        "another model or with other options. Choose another --out."
    )


def _began_so(config: AdoptConfig, first: Round) -> bool:
    """Whether a round was made of this very model, with these options."""
    adoption = report_of(first).get("adoption")
    if first.manifest.config != options_of(config) or adoption is None:
        return False
    path = Path(config.model)
    return adoption["sha256"] in (None, backbones.classifier_digest(path) if path.exists() else "")


def _listing(data: str | None, config: AdoptConfig, progress: Progress) -> Listing | None:
    """What --data or --test holds; None where it was not given."""
    return None if data is None else scan(data, config.images.columns, progress)


def _registry(
    config: AdoptConfig,
    source: FromFile | FromImagenet,
    listing: Listing | None,
    progress: Progress,
) -> tuple[RegisteredClass, ...]:
    """The classes, after every label that was given has been found among them."""
    tested = _listing(config.test, config, progress)
    registry = registry_of(config, source, listing or tested)
    if listing is not None:
        require_classes(listing, registry, "--data", all_of_them=True)
    if tested is not None:
        require_classes(tested, registry, "--test", all_of_them=False)
    return registry


def _scaled(
    config: AdoptConfig,
    source: FromFile | FromImagenet,
    registry: tuple[RegisteredClass, ...],
    listing: Listing | None,
    progress: Progress,
) -> Adopted:
    if not isinstance(source, FromFile):
        return source.adopted
    if listing is None:
        listing = _listing(config.test, config, progress)
    names = [entry.name for entry in registry]
    adopted, found = scaled(config, source, names, listing)
    return replace(adopted, facts=adopted.facts | found)


def _stored(writer: Writer, adopted: Adopted) -> StoredBackbone:
    with files.saving(writer.run.path), writer.staging() as staged:
        stored = adopted.store(staged)
        return backbones.load_stored(writer.add_backbone(staged, stored.fingerprint))


@dataclass(frozen=True, eq=False)
class _Classifier:
    """What was adopted, in the form of a run."""

    extractor: Extractor
    registry: tuple[RegisteredClass, ...]
    head: LinearHead

    @staticmethod
    def of(
        config: AdoptConfig,
        writer: Writer,
        adopted: Adopted,
        registry: tuple[RegisteredClass, ...],
    ) -> "_Classifier":
        """Store the network in the run; the columns are those of the classifier."""
        extractor = Extractor.of(_stored(writer, adopted), config.runs_on, None)
        names = tuple(entry.name for entry in registry)
        return _Classifier(extractor, registry, LinearHead(names, adopted.weights, adopted.bias))

    def deviation(self, features: Rows, expected: Probabilities) -> float:
        """The largest difference of a probability from what is expected on images."""
        return float(np.abs(self.head.probabilities(features) - expected).max())


def _require_same_answers(
    config: AdoptConfig, adopted: Adopted, classifier: _Classifier
) -> float | None:
    """The largest difference of a probability; None where there is no model to compare with.

    Raises:
        UsageError: the stored network does not compute what the model does.
    """
    if adopted.answers is None:
        return None
    extractor = classifier.extractor
    pixels = backbones.probe_images(extractor.stored.image_size)
    expected = adopted.answers(pixels)
    features = backbones.features_of(backbones.load_model(extractor.stored), pixels)
    difference = classifier.deviation(features, expected)
    if not difference <= adopted.tolerance:
        raise _other_answers(config, adopted, difference)
    by_engine = classifier.deviation(extractor.features_of_pixels(pixels), expected)
    if by_engine > adopted.tolerance:
        _warn_of_engine(extractor.engine, by_engine, difference)
    return max(by_engine, difference)


def _warn_of_engine(engine: str, by_engine: float, by_keras: float) -> None:
    log.warning(
        "with %s the probabilities differ from the model's by up to %.1e, with keras by %.1e",
        engine,
        by_engine,
        by_keras,
    )


def _other_answers(config: AdoptConfig, adopted: Adopted, difference: float) -> UsageError:
    return UsageError(
        f"Expected a network that answers alike with and without its other half. Received: "
        f"{config.model}, whose probabilities differ by {difference:.1e} once it is cut below "
        f"{adopted.facts['last_layer']}. A layer of it may depend on the other images of a "
        "batch, or on chance; save it without."
    )


def _draft(
    config: AdoptConfig, classifier: _Classifier, listing: Listing | None, phases: Phases
) -> Draft:
    """Round 1, with what is to be remembered of the images that were given."""
    found, intake = None, NOTHING
    if listing is not None:
        with phases.phase("features"):
            found = classifier.extractor.features(listing.images, phases.progress)
            skipped = readable(listing, found, (), config.images.max_bad)
        intake = Intake.of(listing, found, skipped)
    head = replace(classifier.head, generic=_usual_images(config, classifier, found, phases))
    classifier = replace(classifier, head=head)
    remembered = _remembered(config, classifier.extractor, found)
    examined = _examined(config, classifier, found, remembered, phases)
    name = strategies.ADOPTED
    return Draft("adopt", name, examined, remembered, False, config, intake)


def _usual_images(
    config: AdoptConfig,
    classifier: _Classifier,
    found: Features[LabelledImage] | None,
    phases: Phases,
) -> Generic | None:
    """What images look like on average, or what the network expects of them."""
    head, extractor = classifier.head, classifier.extractor
    if found is not None:
        return generic.of_features(head, found.examples.vectors)
    if config.sample is None:
        return expected_of(extractor)
    with phases.phase("features"):
        sample = sample_of(extractor, config.sample, phases.progress)
    return generic.of_features(head, sample.vectors)


def _remembered(
    config: AdoptConfig, extractor: Extractor, found: Features[LabelledImage] | None
) -> Memory:
    if found is None:
        return empty_memory(extractor, NO_MEMORY)
    start = empty_memory(extractor, config.keeping)
    total = extractor.moments(found.examples) if start.keeps.moments else None
    sources = {image.sha256: image for image in found.images}
    pixels = pixels_of(sources, extractor.square, None)
    return start.learned(found.examples, total, extractor.kind, pixels)


def _examined(
    config: AdoptConfig,
    classifier: _Classifier,
    found: Features[LabelledImage] | None,
    remembered: Memory,
    phases: Phases,
) -> Examined:
    """The columns as they are, with a temperature, tested on --test alone.

    On images that the model was trained on it is surer than elsewhere: its probabilities are made
    softer by what they show, never sharper.
    """
    recipe = Recipe("softmax") if remembered.moments is None else Recipe()
    extractor, head = classifier.extractor, classifier.head
    known = extractor.no_examples() if found is None else found.examples
    evidence = evidence_of(extractor, remembered.moments, known)
    fit = strategies.adopted(head)
    solution = Problem(extractor, recipe, fit, evidence, classifier.registry).solved()
    answers = evaluation.on_test(head, None, evidence.new)
    kept = 1.0
    if len(known):
        kept = max(kept, heads.temperature(answers.logits, answers.columns))
    how = Examination(answers, config.test, config.images.columns, (), 1, kept=kept)
    with phases.phase("validation"):
        examined = solution.examined(how, phases.progress)
    return examined if config.test is not None else replace(examined, validation=None)
