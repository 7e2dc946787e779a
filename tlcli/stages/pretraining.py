"""pretrain: round 1."""

from dataclasses import replace
from pathlib import Path

from tlcli import (
    backbones,
    engines,
    evaluation,
    extension,
    files,
    heads,
    memory,
    runs,
)
from tlcli.backbones import StoredBackbone
from tlcli.config import PretrainConfig, Progress, no_progress
from tlcli.errors import DataError, UsageError
from tlcli.features import Examples
from tlcli.heads import Known, Recipe
from tlcli.images import Listing
from tlcli.runs import Writer
from tlcli.stages import choosing, parents, publishing, rounds, scratch, trainings
from tlcli.stages.choosing import AUTO, Choice
from tlcli.stages.lenses import PROJECTION_WIDTH, Lens
from tlcli.stages.publishing import Draft
from tlcli.stages.rounds import Calibration, Clock, Intake, RoundResult, Solution
from tlcli.stages.scratch import Scratch


def pretrain(config: PretrainConfig, progress: Progress = no_progress) -> RoundResult:
    """Make a run: choose a backbone, solve a head for the classes in DATA, commit round 1.

    Raises:
        TlcliError: see errors.py; nothing is left behind.
    """
    clock = Clock()
    _require_head(config)
    parents.require_memory(config.keeping)
    engines.require_known(config.engine)
    _require_known_precision(config)
    _require_matching_backbone(config)
    scratch.require_objective(config)
    trainings.require_options(config.training, config.watching)
    listing = _scan(config, progress)
    with runs.creating(config.out, config.wait) as writer:
        if writer.run.numbers():
            return _same_again(config, writer, listing, clock)
        return _first_round(config, writer, listing, clock, progress)


def _scan(config: PretrainConfig, progress: Progress) -> Listing:
    if config.objective == scratch.SIMCLR:
        return scratch.unlabelled(config, progress)
    listing = rounds.scan(config.data, progress)
    if len(listing.classes) < 2:
        raise DataError(
            f"Expected at least two classes. Received: {rounds.named(listing.classes)} alone in "
            f"{config.data}. Add a folder with images of something else."
        )
    return listing


def _require_head(config: PretrainConfig) -> None:
    """Refuse, before any image is read, a head that does not exist or has no such option."""
    if config.solver.head != AUTO:
        Recipe.of(config.solver)
    elif config.objective == scratch.SIMCLR:
        raise UsageError(
            "Expected a head that needs no choice with --objective simclr. Received: head='auto'. "
            "Choose it when labels come, with `tlcli extend-classes --head`."
        )


def _require_known_precision(config: PretrainConfig) -> None:
    if config.precision not in (None, *backbones.PRECISIONS):
        raise UsageError(
            f"Expected a precision: {', '.join(backbones.PRECISIONS)}. "
            f"Received: precision={config.precision!r}. Choose one of these."
        )


def _require_matching_backbone(config: PretrainConfig) -> None:
    """Refuse, before any image is read, a backbone that the weights cannot be of."""
    if config.backbone:
        backbones.architecture(config.backbone)
    if not Path(config.weights).is_dir():
        return
    stored = scratch.backbone_of_run(Path(config.weights))
    for option, wanted, given in (
        ("backbone", config.backbone, stored.name),
        ("image-size", config.image_size, stored.image_size),
        ("precision", config.precision, stored.precision),
    ):
        if wanted not in (None, given):
            raise UsageError(
                f"Expected the {option} of the run {config.weights}: {given}. "
                f"Received: {option}={wanted}. Leave --{option} out."
            )


def _same_again(
    config: PretrainConfig, writer: Writer, listing: Listing, clock: Clock
) -> RoundResult:
    """The run exists: fine if it began with these very options on these very images."""
    taken = UsageError(
        f"Expected a new folder for the run. Received: {config.out} is a run already, made "
        "with other images or options. Choose another --out, or add to it with "
        "`tlcli extend-classes`."
    )
    if 1 not in writer.run.numbers():
        raise taken
    first = writer.run.round(1)
    ledger = memory.load(first).ledger
    skipped = {entry["path"] for entry in rounds.report_of(first)["images"]["skipped"]}
    given = {
        image.sha256: image.label for image in listing.images if str(image.path) not in skipped
    }
    options = rounds.plain(config) | {"data": first.manifest.config["data"]}
    digest = trainings.digest_of(list(given), list(given.values()))
    same = trainings.same_images(first, digest) if listing.unlabelled else ledger == given
    if first.manifest.config != options or not same:
        raise taken
    intake = Intake(0, 0, len(given), listing.duplicates, listing.skipped)
    return rounds.unchanged(config.out, first, intake, clock)


def _first_round(
    config: PretrainConfig, writer: Writer, listing: Listing, clock: Clock, progress: Progress
) -> RoundResult:
    stored, trained = _store_backbone(config, writer, listing, clock, progress)
    plain = Lens.of(stored, config.engine, None)
    if listing.unlabelled and trained is not None:
        draft = _without_classes(config, plain, listing, trained)
    else:
        draft = _with_classes(config, plain, listing, clock, progress)
    if trained is not None:
        draft = replace(draft, training=trained.summary)
    return publishing.publish(writer, draft, clock)


def _without_classes(
    config: PretrainConfig, plain: Lens, listing: Listing, trained: Scratch
) -> Draft:
    """A backbone alone: classes come with `extend-classes`."""
    recipe = Recipe.of(config.solver)
    lens = _projected(plain, recipe, config.projection)
    nothing = lens.view(lens.nothing())
    known = Known(lens.empty_moments(), nothing, nothing)
    head = scratch.headless(lens)
    return Draft(
        command="pretrain",
        strategy=None,
        solution=Solution(lens, recipe, extension.first(recipe), known, (), head),
        memory=parents.nothing(lens, config.keeping),
        exact=True,
        config=config,
        intake=Intake(
            listing.total - len(trained.skipped), 0, 0, listing.duplicates, trained.skipped
        ),
        validation=None,
        calibration=Calibration(head.temperature, None, None, 0),
    )


def _with_classes(
    config: PretrainConfig, plain: Lens, listing: Listing, clock: Clock, progress: Progress
) -> Draft:
    with clock.phase("features"):
        found = plain.features(listing.images, progress)
        skipped = rounds.readable(listing, found, (), config.images.max_bad)
    choice = _choose(config, plain, found.examples, clock, progress)
    with clock.phase("validation"):
        calibrated = choice.solution.calibrated(choice.answers, None)
        validation = calibrated.validation(choice.answers, config.test, (), 1, progress)
    solution = calibrated.solution
    sources = {image.sha256: image for image in found.images}
    start = parents.nothing(solution.lens, config.keeping)
    return Draft(
        command="pretrain",
        strategy=None,
        solution=solution,
        memory=start.learned(
            found.examples,
            None if start.moments is None else solution.known.moments,
            solution.lens.engine,
            parents.pixels_of(solution.lens, sources, None),
        ),
        exact=True,
        config=config,
        intake=Intake(len(found.images), found.from_cache, 0, listing.duplicates, skipped),
        validation=validation,
        calibration=calibrated.figures,
        choice=choice.table,
    )


def _choose(
    config: PretrainConfig, plain: Lens, found: Examples, clock: Clock, progress: Progress
) -> Choice:
    """The head that was asked for, or the best, and its answers about held-out images."""
    registry = rounds.registered((), found.labels, 1)

    def solve(name: str | None) -> Solution:
        recipe = Recipe.of(replace(config.solver, head=name))
        recipe.require_images(found.labels)
        lens = _projected(plain, recipe, config.projection)
        known = Known(lens.moments(found), lens.view(found), lens.view(lens.nothing()))
        return Solution.of(lens, recipe, extension.first(recipe), known, registry)

    if config.solver.head == AUTO:
        extendable = config.keeping.memory in ("features", "none")
        projected = None if config.projection is None else True
        names = choosing.candidates(config.solver, found.labels, extendable, projected)
        with clock.phase("validation"):
            ask = rounds.ask_for(plain, evaluation.by_folds)
            return choosing.best(names, solve, ask, False, progress)
    with clock.phase("head"):
        solution = solve(config.solver.head)
    ask = rounds.ask_for(plain, evaluation.ask_for(solution.recipe))
    with clock.phase("validation"):
        return Choice(solution, solution.held_out(ask, old_too=False))


def _projected(plain: Lens, recipe: Recipe, width: int | None) -> Lens:
    """The lens with the projection that was asked for, or that the head cannot do without."""
    if width is None and heads.HEADS[recipe.head].projected:
        width = PROJECTION_WIDTH
    return plain if width is None else plain.through(width)


def _store_backbone(
    config: PretrainConfig, writer: Writer, listing: Listing, clock: Clock, progress: Progress
) -> tuple[StoredBackbone, Scratch | None]:
    """Put the backbone of the new run in its place; how it was trained, where it was."""
    trained = None
    if config.objective == scratch.SIMCLR or config.weights == backbones.RANDOM:
        train = scratch.without_labels if listing.unlabelled else scratch.from_random
        with clock.phase("training"):
            trained = train(config, writer, listing, progress)
    with clock.phase("backbone"), files.saving(writer.run.path), writer.staging() as staged:
        stored = _prepare(config, staged, trained)
        return backbones.load_stored(writer.add_backbone(staged, stored.fingerprint)), trained


def _prepare(config: PretrainConfig, staged: Path, trained: Scratch | None) -> StoredBackbone:
    """Make the files of the backbone in an empty folder."""
    name, precision = scratch.name_of(config), config.precision or "f32"
    start = Path(config.weights)
    stored = scratch.backbone_of_run(start) if start.is_dir() else None
    if trained is not None:
        simclr = config.objective == scratch.SIMCLR
        source = backbones.UNLABELLED if simclr else backbones.RANDOM
        precision = stored.precision if stored else precision
        return backbones.store(trained.model, name, source, staged, precision)
    if stored is not None:
        stored.copy_into(staged)
        return stored
    return backbones.prepare(
        name,
        config.image_size,
        config.weights,
        precision,
        staged,
        lambda: backbones.build(name, config.image_size, config.weights),
    )
