"""extend-classes: the next round."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tlcli import evaluation, extension, moments, runs
from tlcli.config import ExtendConfig, Progress, StrategyOptions, no_progress
from tlcli.errors import GateFailed, UsageError
from tlcli.evaluation import Ask, Validation
from tlcli.extension import Extension, Means, Strategy
from tlcli.features import Features
from tlcli.heads import Known, Recipe
from tlcli.images import LabelledImage, Listing, Skipped
from tlcli.memory import Memory
from tlcli.moments import Moments
from tlcli.runs import RegisteredClass, Writer
from tlcli.stages import choosing, collecting, parents, rounds
from tlcli.stages.choosing import AUTO, Choice
from tlcli.stages.collecting import Collected
from tlcli.stages.parents import Parent, Recalled
from tlcli.stages.rounds import Calibrated, Clock, Draft, Intake, RoundResult, Solution


def extend_classes(config: ExtendConfig, progress: Progress = no_progress) -> RoundResult:
    """Add classes, or images of known ones, to a run and commit the next round.

    Images that the run has learned before are recognised by their content and left out; when
    nothing new remains, and the memory is to stay as it is, no round is added.

    Raises:
        TlcliError: see errors.py; the run is as it was.
    """
    clock = Clock()
    parents.require_memory(config.keeping)
    extension.require_known(config.learning.strategy)
    with runs.extending(config.run, config.wait) as writer:
        parent = Parent.of(writer.run, config.engine)
        same_recipe = _same_recipe(config, parent)
        given = _take_in(config, writer, parent, clock, progress)
        idle = same_recipe and not given.anything
        if idle and not parents.turns(config.keeping, parent.memory):
            return rounds.unchanged(config.run, parent.round, given.intake, clock)
        state = _state(config, parent, given, clock, progress)
        plan, choice = _as_it_is(state) if idle else _choose(config, state, clock, progress)
        with clock.phase("validation"):
            calibrated, validation = _examine(config, plan, choice, progress)
        _require_no_regression(config.max_regression, validation)
        with clock.phase("memory"):
            remembered = _remember(config, state)
        draft = Draft(
            command="extend-classes",
            strategy=plan.strategy_name,
            choice=choice.table,
            solution=calibrated.solution,
            memory=remembered,
            exact=plan.exact,
            config=config,
            intake=given.intake,
            validation=validation,
            calibration=calibrated.figures,
        )
        return rounds.publish(writer, draft, clock)


@dataclass(frozen=True, eq=False)
class _Given:
    """What the command was given, without what the run has learned before."""

    found: Features
    """Of the images that are new."""
    collected: Collected
    """From files of moments."""
    learned: tuple[LabelledImage, ...]
    """Images of DATA that the run has learned before."""
    registry: tuple[RegisteredClass, ...]
    intake: Intake

    @property
    def anything(self) -> bool:
        """Whether an image is new."""
        return bool(self.found.images or self.collected.ledger)


def _take_in(
    config: ExtendConfig, writer: Writer, parent: Parent, clock: Clock, progress: Progress
) -> _Given:
    collected = collecting.read(parent, config.moments)
    ledger = {**parent.memory.ledger, **collected.ledger}
    listing = Listing(()) if config.data is None else rounds.scan(config.data, progress)
    fresh, refused = _fresh(listing, ledger)
    learned = tuple(image for image in listing.images if image.sha256 in ledger)
    with clock.phase("features"):
        found = parent.lens.features(fresh, progress)
        skipped = rounds.readable(listing, found, refused, config.images.max_bad)
    registry = rounds.registered(
        parent.round.manifest.classes,
        {*found.labels, *collected.ledger.values()},
        writer.next_number,
    )
    known = {*found.labels, *collected.ledger.values()} & set(parent.round.classes)
    intake = Intake(
        used=len(found.images) + len(collected.ledger),
        from_cache=found.from_cache,
        already_learned=len(learned) - len(refused) + collected.already_learned,
        duplicates=listing.duplicates,
        skipped=skipped,
        known_classes=tuple(sorted(known)),
    )
    return _Given(found, collected, learned, registry, intake)


def _fresh(
    listing: Listing, ledger: Mapping[str, str]
) -> tuple[list[LabelledImage], list[Skipped]]:
    """The images that the run has not learned, and those it learned under another label."""
    fresh = [image for image in listing.images if image.sha256 not in ledger]
    refused = [
        Skipped(str(image.path), f"it was learned before as {ledger[image.sha256]!r}")
        for image in listing.images
        if ledger.get(image.sha256, image.label) != image.label
    ]
    return fresh, refused


@dataclass(frozen=True, eq=False)
class _State:
    """All that the next head may be solved from."""

    parent: Parent
    given: _Given
    recalled: Recalled
    """Of all learned images, those whose features are at hand."""
    before: Moments | None
    """Of all images that the run has learned so far."""
    total: Moments | None
    """With the new ones."""

    @property
    def complete(self) -> bool:
        """Whether the features of every learned image are at hand."""
        return self.recalled.extent == "all"


def _state(
    config: ExtendConfig, parent: Parent, given: _Given, clock: Clock, progress: Progress
) -> _State:
    images = given.learned
    if config.old_data is not None:
        images = (*images, *rounds.scan(config.old_data, progress).images)
    wants_all = config.learning.strategy == "joint" or parents.turns(config.keeping, parent.memory)
    with clock.phase("features"):
        recalled = parents.recall(parent, images, wants_all, progress)
        before = total = parents.moments_before(parent, recalled)
        if before is not None:
            total = moments.add(before, parent.lens.moments(given.found.examples))
            total = moments.add(total, given.collected.moments)
    return _State(parent, given, recalled, before, total)


@dataclass(frozen=True, eq=False)
class _Plan:
    """How the next head is solved."""

    state: _State
    strategy_name: str | None
    strategy: Strategy
    extension: Extension

    @property
    def exact(self) -> bool:
        """Whether the round equals joint training on all images."""
        state = self.state
        complete = state.parent.memory.exact and state.given.collected.exact
        return self.strategy.exact and (complete or not self.extension.recipe.from_moments)

    @property
    def ask(self) -> Ask:
        """How the head is asked about images that it has not learned."""
        anew = self.strategy.exact and self.extension.recipe.from_moments
        return evaluation.by_folds if anew else evaluation.by_fewest_fits

    @property
    def old_too(self) -> bool:
        """Whether the head can be solved without some of the old images."""
        again = self.strategy.exact or self.state.parent.again is not None
        return again and self.state.complete

    def solve(self) -> Solution:
        """The head, without a temperature.

        Raises:
            DataError: a class has too few images for the head.
        """
        state, lens = self.state, self.state.parent.lens
        if self.strategy.exact and not self.extension.recipe.from_moments:
            labels = (*state.recalled.examples.labels, *state.given.found.labels)
            self.extension.recipe.require_images(labels)
        known = Known(
            state.total,
            lens.view(state.given.found.examples),
            lens.view(state.recalled.examples),
            state.parent.head,
            state.parent.again,
        )
        fit = extension.following(self.strategy, self.extension)
        return Solution.of(lens, self.extension.recipe, fit, known, state.given.registry)


def _recipe(config: ExtendConfig, parent: Parent, name: str | None) -> Recipe:
    """Of the head with this name; None: the one that was asked for, or that of the run."""
    asked = config.solver
    if asked.head == AUTO or name is not None:
        asked = replace(asked, head=name)
    recipe = Recipe.of(asked, parent.recipe)
    parents.require_projection(recipe, parent.lens)
    return recipe


def _same_recipe(config: ExtendConfig, parent: Parent) -> bool:
    return config.solver.head != AUTO and _recipe(config, parent, None) == parent.recipe


def _as_it_is(state: _State) -> tuple[_Plan, Choice]:
    """The head of the parent, where nothing but the memory changes."""
    parent = state.parent
    manifest = parent.round.manifest
    how = replace(extension.UNCHANGED, exact=manifest.exact)
    told = Extension(parent.recipe, parent.round.classes, StrategyOptions())
    plan = _Plan(state, manifest.strategy, how, told)
    solution = plan.solve()
    return plan, Choice(solution, solution.held_out(evaluation.by_folds, old_too=False))


def _plan(config: ExtendConfig, state: _State, head: str | None = None) -> _Plan:
    parent, given = state.parent, state.given
    recipe = _recipe(config, parent, head)
    means = Means(
        recipe,
        grows=len(given.registry) > len(parent.round.classes),
        moments=state.before is not None,
        old_images=state.recalled.extent,
    )
    strategy = extension.choose(config.learning.strategy, means)
    if given.collected.ledger and strategy != "merge":
        raise UsageError(
            f"Expected --strategy merge with --moments. Received: strategy={strategy!r}, which "
            "needs the images. Give them as DATA, or add --head lda."
        )
    per_class = parents.exemplars_per_class(config.keeping, parent.memory)
    classes = tuple(entry.name for entry in given.registry)
    how = Extension(recipe, classes, config.learning, per_class)
    return _Plan(state, strategy, extension.STRATEGIES[strategy], how)


def _choose(
    config: ExtendConfig, state: _State, clock: Clock, progress: Progress
) -> tuple[_Plan, Choice]:
    """How the head is solved, and what it says of images that are held out."""
    if config.solver.head == AUTO:
        with clock.phase("validation"):
            return _best(config, state, progress)
    plan = _plan(config, state)
    with clock.phase("head"):
        solution = plan.solve()
    with clock.phase("validation"):
        return plan, Choice(solution, solution.held_out(plan.ask, plan.old_too))


def _best(config: ExtendConfig, state: _State, progress: Progress) -> tuple[_Plan, Choice]:
    if not state.complete:
        raise UsageError(
            "Expected the features of all old images with --head auto. Received: a run that keeps "
            f"{state.recalled.extent} of them. Name a head, or give the images with --old-data."
        )
    parent = state.parent
    names = choosing.candidates(
        config.solver,
        (*state.given.found.labels, *state.recalled.examples.labels),
        parents.turned(config.keeping, parent.memory)[0] == "features",
        parent.lens.projection is not None,
    )
    plans = {name: _plan(config, state, name) for name in names}
    choice = choosing.best(names, lambda name: plans[name].solve(), True, progress)
    return plans[choice.solution.recipe.head], choice


def _examine(
    config: ExtendConfig, plan: _Plan, choice: Choice, progress: Progress
) -> tuple[Calibrated, Validation | None]:
    """The temperature of the head, and how good it is."""
    parent, solution = plan.state.parent, choice.solution
    if config.max_regression is not None and config.test is None and not plan.old_too:
        raise UsageError(
            "Expected images of the old classes with --max-regression. Received: a run that "
            "cannot test them. Add --test DATA, or use a run with --memory features."
        )
    if plan.strategy.keeps_temperature:
        calibrated = solution.with_temperature(choice.answers, parent.head.temperature)
    else:
        carried = None
        if not plan.old_too:
            carried = parent.suggests(solution.head, solution.known.moments)
        calibrated = solution.calibrated(choice.answers, carried)
    answers = choice.answers
    if config.test is not None:
        answers = calibrated.solution.on_test(config.test, progress)
    number = parent.round.number + 1
    return calibrated, rounds.validated(answers, plan.state.given.registry, number)


def _require_no_regression(limit: float | None, validation: Validation | None) -> None:
    """Refuse a round that is worse on the old classes than its parent by more than the limit."""
    if limit is None:
        return
    now = before = None
    if validation is not None:
        now, before = validation.old_accuracy, validation.old_accuracy_before
    if now is None or before is None:
        raise GateFailed(
            "Expected images of every old class to hold --max-regression against. Received: some "
            "have none. Complete --test; nothing was published."
        )
    if before - now > limit + 1e-9:
        raise GateFailed(
            f"Expected the accuracy on old classes to fall by at most {limit:g}. Received: "
            f"{before:.4f} before, {now:.4f} after. Nothing was published; look at the new images, "
            "or raise --max-regression."
        )


def _remember(config: ExtendConfig, state: _State) -> Memory:
    """The memory after this round."""
    parent, given, recalled = state.parent, state.given, state.recalled
    sources = recalled.files | {image.sha256: image for image in given.found.images}
    pixels = parents.pixels_of(parent.lens, sources, parent.memory)
    old = parent.memory
    if parents.turns(config.keeping, old):
        setting, per_class = parents.turned(config.keeping, old)
        had_moments = old.moments is not None
        old = old.changed(setting, per_class, recalled.examples, pixels, state.before)
        if not had_moments:
            old = replace(old, engines=frozenset({parent.lens.engine}))
    total = None if old.setting == "none" else state.total
    remembered = old.learned(given.found.examples, total, parent.lens.engine, pixels)
    if given.collected.ledger:
        if remembered.setting not in ("none", "moments"):
            raise UsageError(
                f"Expected a run with --memory moments for --moments. Received: memory="
                f"{remembered.setting!r}, which needs the images. Add --memory moments."
            )
        remembered = replace(
            remembered,
            ledger={**remembered.ledger, **given.collected.ledger},
            engines=remembered.engines | given.collected.engines,
            exact=remembered.exact and given.collected.exact,
        )
    return remembered
