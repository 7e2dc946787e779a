"""pretrain: round 1."""

import shlex
from dataclasses import replace

from tlcli import (
    backbones,
    evaluation,
    files,
    heads,
    images,
    memory,
    runs,
    strategies,
    training,
)
from tlcli.backbones import Random, StoredBackbone
from tlcli.commands.pretrain_network import Scratch, require_objective, train_network
from tlcli.config import AUTO, PretrainConfig, Progress, no_progress
from tlcli.errors import DataError, UsageError
from tlcli.extractor import PROJECTION_WIDTH, Extractor, require_computable
from tlcli.features import Examples, Features
from tlcli.heads import Evidence, LinearHead, Recipe
from tlcli.images import LabelledImage, Listing
from tlcli.images.unlabelled import unlabelled
from tlcli.memory import Memory
from tlcli.memory.pixels import pixels_of
from tlcli.memory.setting import keeps_first, require_memory
from tlcli.rounds.backbone import Beginning, beginning
from tlcli.rounds.intake import (
    Intake,
    named,
    readable,
    registered,
    require_outside,
    require_testable,
    scan,
)
from tlcli.rounds.layers import Readings, best_reading, require_choosable
from tlcli.rounds.parent import empty_memory
from tlcli.rounds.publication import Draft, publish
from tlcli.rounds.result import Phases, RoundResult, options_of, report_of, unchanged
from tlcli.rounds.selection import Choice, best_head, candidates
from tlcli.rounds.solution import (
    Calibration,
    Examination,
    Examined,
    Problem,
    Solution,
    evidence_of,
    scheme_for,
)
from tlcli.rounds.training import discard_outdated, require_options, same_images, warn_of_idle
from tlcli.runs import Round, Writer
from tlcli.training import Objective


def pretrain(config: PretrainConfig, progress: Progress = no_progress) -> RoundResult:
    """Make a run: choose a backbone, solve a head for the classes in DATA, commit round 1.

    Raises:
        TlcliError: see errors.py; nothing is left behind.
    """
    phases = Phases(progress)
    require_memory(config.keeping)
    objective = require_objective(config)
    _require_head(config, objective)
    require_computable(config.runs_on)
    begins = beginning(
        config.weights,
        config.backbone,
        config.image_size,
        config.precision,
        config.drawing,
        config.reading,
    )
    require_choosable(begins, config.reading.layers, objective.pretrained)
    require_options(config.training, config.watching)
    if not _trains(objective, begins):
        warn_of_idle(config.training)
    require_outside(config.out, config.data)
    runs.require_available(config.out, config.wait)
    listing = _scan(config, objective, progress)
    with runs.creating(config.out, config.wait) as writer:
        if writer.run.numbers():
            return _same_again(config, writer, listing, phases)
        return _first_round(config, begins, writer, listing, phases)


def _trains(objective: Objective, begins: Beginning) -> bool:
    """Whether the network learns, and not the head alone."""
    return objective.pretrained or isinstance(begins.source, Random)


def _scan(config: PretrainConfig, objective: Objective, progress: Progress) -> Listing:
    if not objective.labels:
        return unlabelled(config.data, progress)
    listing = scan(config.data, config.images.columns, progress)
    if len(listing.classes) < 2:
        raise DataError(
            f"Expected at least two classes. Received: {named(listing.classes)} alone in "
            f"{config.data}. Add a folder with images of something else; to a run that is there "
            "`tlcli extend-classes` adds a single class."
        )
    return listing


def _require_head(config: PretrainConfig, objective: Objective) -> None:
    """Refuse, before any image is read, a head that does not exist or has no such option."""
    if config.solver.head != AUTO:
        Recipe.of(config.solver)
    elif not objective.labels:
        raise UsageError(
            f"Expected a head that needs no choice with --objective {config.objective}. Received: "
            f"head={AUTO!r}. Choose it when labels come, with `tlcli extend-classes --head`."
        )


def _same_again(
    config: PretrainConfig, writer: Writer, listing: Listing, phases: Phases
) -> RoundResult:
    """The run exists: fine if it began with these very options on these very images."""
    if 1 in writer.run.numbers():
        first = writer.run.round(1)
        given = _given(first, listing)
        if _began_so(config, first, listing, given):
            discard_outdated(writer)
            left_out = (listing.duplicates, listing.skipped)
            intake = Intake(0, 0, len(given), *left_out, passed_over=listing.passed_over)
            return unchanged(config.out, first, intake, phases)
    raise UsageError(
        f"Expected a new folder for the run. Received: {config.out} is a run already, made "
        f"with other images or options. Choose another --out, or add the images to it with `tlcli "
        f"extend-classes {shlex.quote(str(config.out))} {shlex.quote(str(config.data))}`."
    )


def _given(first: Round, listing: Listing) -> dict[str, str]:
    """Content → label of the images, but for those that the round could not read."""
    skipped = {entry["path"] for entry in report_of(first)["images"]["skipped"]}
    return {image.sha256: image.label for image in listing.images if str(image.path) not in skipped}


def _began_so(
    config: PretrainConfig, first: Round, listing: Listing, given: dict[str, str]
) -> bool:
    """Whether a round was made of these very images, with these options."""
    if first.manifest.config != options_of(config) | {"data": first.manifest.config.get("data")}:
        return False
    if listing.unlabelled:
        return same_images(first, images.digest_of(list(given), list(given.values())))
    return memory.load(first).ledger == given


def _first_round(
    config: PretrainConfig,
    begins: Beginning,
    writer: Writer,
    listing: Listing,
    phases: Phases,
) -> RoundResult:
    readings = _readings(config, begins, listing, phases)
    stored, trained = _store_backbone(config, readings.begins, writer, listing, phases)
    plain = Extractor.of(stored, config.runs_on, None)
    if listing.unlabelled and trained is not None:
        draft = _without_classes(config, plain, listing, trained)
    else:
        draft = _with_classes(config, plain, listing, phases)
    if trained is not None:
        draft = replace(draft, training=trained.summary)
    return publish(writer, replace(draft, readings=readings.table), phases)


def _readings(
    config: PretrainConfig, begins: Beginning, listing: Listing, phases: Phases
) -> Readings:
    """The backbone as it is to be read, with the layers that were asked for, or the best."""
    if config.reading.layers != AUTO:
        return Readings(begins)

    def chosen(plain: Extractor, found: Examples) -> Choice:
        return _choose(config, plain, found, Phases(phases.progress))

    with phases.phase("layers"):
        return best_reading(begins, listing.images, chosen, config.runs_on, phases.progress)


def _without_classes(
    config: PretrainConfig, plain: Extractor, listing: Listing, trained: Scratch
) -> Draft:
    """A backbone alone: classes come with `extend-classes`."""
    recipe = Recipe.of(config.solver)
    extractor = _projected(plain, recipe, config.projection)
    start = empty_memory(extractor, config.keeping)
    evidence = evidence_of(extractor, extractor.empty_moments())
    head = LinearHead.without_classes(extractor.width)
    solution = Solution(extractor, recipe, strategies.first(recipe), evidence, (), head)
    examined = Examined(solution, Calibration(head.temperature, None, None, 0), None)
    used = listing.total - len(trained.skipped)
    intake = Intake(
        used, 0, 0, listing.duplicates, trained.skipped, passed_over=listing.passed_over
    )
    return Draft("pretrain", None, examined, start, True, config, intake)


def _with_classes(
    config: PretrainConfig, plain: Extractor, listing: Listing, phases: Phases
) -> Draft:
    require_testable(config.test, config.images.columns, listing.classes, phases.progress)
    with phases.phase("features"):
        found = plain.features(listing.images, phases.progress)
        skipped = readable(listing, found, (), config.images.max_bad)
    choice = _choose(config, plain, found.examples, phases)
    with phases.phase("validation"):
        how = Examination(choice.answers, config.test, config.images.columns, (), 1)
        examined = choice.solution.examined(how, phases.progress)
    memory = _remembered(config, choice.solution, found)
    intake = Intake.of(listing, found, skipped)
    return Draft("pretrain", None, examined, memory, True, config, intake, choice.table)


def _remembered(
    config: PretrainConfig, solution: Solution, found: Features[LabelledImage]
) -> Memory:
    extractor = solution.extractor
    start = empty_memory(extractor, config.keeping)
    total = solution.moments if start.keeps.moments else None
    sources = {image.sha256: image for image in found.images}
    pixels = pixels_of(sources, extractor.square, None)
    return start.learned(found.examples, total, extractor.kind, pixels)


def _choose(config: PretrainConfig, plain: Extractor, found: Examples, phases: Phases) -> Choice:
    """The head that was asked for, or the best, and its answers about held-out images."""
    registry = registered((), found.labels, 1)
    known: dict[str, Evidence] = {}

    def posed(name: str | None) -> Problem:
        recipe = Recipe.of(replace(config.solver, head=name))
        recipe.require_images(found.labels)
        extractor = _projected(plain, recipe, config.projection)
        if extractor.fingerprint not in known:
            known[extractor.fingerprint] = evidence_of(extractor, extractor.moments(found), found)
        evidence = known[extractor.fingerprint]
        return Problem(extractor, recipe, strategies.first(recipe), evidence, registry)

    if config.solver.head == AUTO:
        keeps = keeps_first(config.keeping)
        # Where a run keeps no moments, later rounds are given the old images again.
        all_features = keeps.every_feature or not keeps.moments
        projected = None if config.projection is None else True
        names = candidates(config.solver, found.labels, all_features, projected, plain.stored.width)
        with phases.phase("validation"):
            scheme = scheme_for(plain, evaluation.cross_validate_anew)
            return best_head(names, posed, scheme, False, phases.progress)
    with phases.phase("head"):
        solution = posed(config.solver.head).solved()
    scheme = scheme_for(plain, evaluation.scheme_for(solution.recipe))
    with phases.phase("validation"):
        return Choice(solution, solution.held_out(scheme, old_too=False))


def _projected(plain: Extractor, recipe: Recipe, width: int | None) -> Extractor:
    """The extractor with the projection that was asked for, or that the head cannot do without."""
    if width is None and heads.HEADS[recipe.head].projected:
        width = PROJECTION_WIDTH
    return plain if width is None else plain.through(width)


def _store_backbone(
    config: PretrainConfig,
    begins: Beginning,
    writer: Writer,
    listing: Listing,
    phases: Phases,
) -> tuple[StoredBackbone, Scratch | None]:
    """Put the backbone of the new run in its place; how it was trained, where it was."""
    objective, trained = training.objective_of(config.objective, "pretrain"), None
    if _trains(objective, begins):
        with phases.phase("training"):
            trained = train_network(config, begins, writer, listing, phases.progress)
    with phases.phase("backbone"), files.saving(writer.run.path), writer.staging() as staged:
        if trained is None:
            stored = begins.stored_in(staged)
        else:
            stored = backbones.store(
                trained.model,
                begins.name,
                objective.weights,
                staged,
                begins.precision,
                begins.drawing,
                begins.reading,
            )
        return backbones.load_stored(writer.add_backbone(staged, stored.fingerprint)), trained
