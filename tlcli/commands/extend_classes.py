"""extend-classes: the next round."""

import logging
from dataclasses import dataclass, replace

from tlcli import evaluation, moments, runs, strategies
from tlcli.commands.extend_classes_given import (
    Given,
    mends,
    require_moments_to_begin,
    require_room_for_moments,
    take_in,
)
from tlcli.config import AUTO, ExtendConfig, Progress, StrategyOptions, no_progress
from tlcli.errors import GateFailed, UsageError
from tlcli.evaluation import Validation, ValidationScheme
from tlcli.features import Examples
from tlcli.heads import LinearHead, Recipe
from tlcli.memory import Memory
from tlcli.memory.pixels import pixels_of
from tlcli.memory.setting import (
    exemplars_per_class,
    keeps_next,
    next_setting,
    require_memory,
    turns,
)
from tlcli.moments import Moments
from tlcli.rounds.parent import Parent, require_projection
from tlcli.rounds.publication import Draft, publish
from tlcli.rounds.recall import Recalled, moments_before, rebuilt, recall
from tlcli.rounds.result import Phases, RoundResult, unchanged
from tlcli.rounds.selection import Choice, best_head, candidates
from tlcli.rounds.solution import Examination, Examined, Problem, Solution, evidence_of, scheme_for
from tlcli.rounds.usual_images import Usual, claimed, sample_of, usual_images
from tlcli.strategies import EXACT, STRATEGIES, Available, OldImages, Strategy, StrategyInput

log = logging.getLogger(__name__)


def extend_classes(config: ExtendConfig, progress: Progress = no_progress) -> RoundResult:
    """Add classes, or images of known ones, to a run and commit the next round.

    Images that the run has learned before are recognised by their content and left out; when
    nothing new remains, and the memory is to stay as it is, no round is added; unless they are all
    images of a run that is not exact, and make it so.

    Raises:
        TlcliError: see errors.py; the run is as it was.
    """
    phases = Phases(progress)
    require_memory(config.keeping)
    strategies.named(config.learning.strategy)
    with runs.extending(config.run, config.wait) as writer:
        parent = Parent.of(writer.run, config.runs_on)
        require_moments_to_begin(config, parent)
        require_room_for_moments(config, parent)
        same_head = _same_head(config, parent)
        given = take_in(config, writer, parent, phases)
        nothing_new = same_head and not given.anything and not mends(config, parent, given)
        if nothing_new and not turns(config.keeping, parent.memory):
            return unchanged(config.run, parent.round, given.intake, phases)
        state = _state(config, parent, given, phases)
        plan, choice = _as_it_is(state) if nothing_new else _choose(config, state, phases)
        with phases.phase("validation"):
            examined = choice.solution.examined(_examination(config, plan, choice), progress)
        if not nothing_new:
            _require_no_regression(config.max_regression, examined.validation)
        with phases.phase("memory"):
            remembered = _remember(config, state)
        draft = _draft(config, plan, choice, examined, remembered)
        return publish(writer, draft, phases)


@dataclass(frozen=True, eq=False)
class _State:
    """All that the next head may be solved from."""

    parent: Parent
    given: Given
    recalled: Recalled
    """Of all learned images, those whose features are at hand."""
    before: Moments | None
    """Of all images that the run has learned so far."""
    total: Moments | None
    """With the new ones."""
    sample: Examples | None
    """Unlabelled images of the usual kind, as heads see them."""

    @property
    def complete(self) -> bool:
        """Whether the features of every learned image are at hand."""
        return self.recalled.extent is OldImages.ALL

    @property
    def learned_groups(self) -> frozenset[str]:
        """Of learned images that are not at hand."""
        at_hand = set(self.recalled.examples.hashes)
        groups = {**self.parent.memory.groups, **self.given.collected.groups}
        return frozenset(group for key, group in groups.items() if key not in at_hand)


def _state(config: ExtendConfig, parent: Parent, given: Given, phases: Phases) -> _State:
    images = (*given.learned, *given.old)
    asked = strategies.named(config.learning.strategy)
    wants_all = asked is not None and asked.old_images is OldImages.ALL
    from_cache = wants_all or turns(config.keeping, parent.memory)
    with phases.phase("features"):
        recalled = recall(parent, images, from_cache, phases.progress)
        before = total = moments_before(parent, recalled)
        if before is not None:
            total = moments.add(before, parent.extractor.moments(given.found.examples))
            total = moments.add(total, given.collected.moments)
        sample = None
        if config.sample is not None:
            sample = sample_of(parent.extractor, config.sample, phases.progress)
    return _State(parent, given, recalled, before, total, sample)


@dataclass(frozen=True, eq=False)
class _Plan:
    """How the next head is solved."""

    state: _State
    strategy_name: str | None
    strategy: Strategy
    told: StrategyInput
    head: LinearHead
    """Of the parent, with what the strategy has to know of its images."""
    origin: str | None = None
    """Where that comes from, in words."""

    @property
    def scheme(self) -> ValidationScheme:
        """How the head is asked about images that it has not learned."""
        return (
            evaluation.scheme_for(self.told.recipe) if self.strategy.exact else evaluation.cheapest
        )

    @property
    def old_too(self) -> bool:
        """Whether the head can be solved without some of the old images."""
        refit = self.strategy.exact or self.state.parent.refit is not None
        return refit and self.state.complete

    def posed(self) -> Problem:
        """What the head is solved from.

        Raises:
            DataError: a class has too few images for the head.
        """
        state, extractor = self.state, self.state.parent.extractor
        if self.strategy.exact and not self.told.recipe.from_moments:
            labels = (*state.recalled.examples.labels, *state.given.found.labels)
            self.told.recipe.require_images(labels)
        evidence = replace(
            evidence_of(
                extractor, state.total, state.given.found.examples, state.recalled.examples
            ),
            parent=self.head if self.head.classes else None,
            refit=state.parent.refit,
            sample=state.sample,
            learned_groups=state.learned_groups,
        )
        fit = strategies.following(self.strategy, self.told)
        return Problem(extractor, self.told.recipe, fit, evidence, state.given.registry)


def _recipe(config: ExtendConfig, parent: Parent, name: str | None) -> Recipe:
    """Of the head with this name; None: the one that was asked for, or that of the run."""
    asked = config.solver
    if asked.head == AUTO or name is not None:
        asked = replace(asked, head=name)
    recipe = Recipe.of(asked, parent.recipe)
    require_projection(recipe, parent.extractor)
    return recipe


def _same_head(config: ExtendConfig, parent: Parent) -> bool:
    """Whether the head stays as it is when there is no new image."""
    asked = strategies.named(config.learning.strategy)
    anew = asked is not None and asked.exact
    if config.solver.head == AUTO or (anew and not parent.solved):
        return False
    return _recipe(config, parent, None) == parent.recipe


def _as_it_is(state: _State) -> tuple[_Plan, Choice]:
    """The head of the parent, where nothing but the memory changes."""
    parent = state.parent
    manifest = parent.round.manifest
    how = replace(strategies.UNCHANGED, exact=manifest.exact)
    told = StrategyInput(parent.recipe, parent.round.classes, StrategyOptions())
    plan = _Plan(state, manifest.strategy, how, told, parent.head)
    solution = plan.posed().solved()
    return plan, Choice(solution, solution.held_out(evaluation.cross_validate, old_too=False))


def _plan(config: ExtendConfig, state: _State, head: str | None = None) -> _Plan:
    """How the head is solved by the strategy that was asked for, or the best that is possible."""
    recipe = _recipe(config, state.parent, head)
    if config.learning.strategy in EXACT:
        state.parent.require_seen(f"for {config.learning.strategy}")
    strategy = strategies.choose(config.learning.strategy, _available(recipe, state))
    strategies.require_options(strategy, config.learning)
    per_class = exemplars_per_class(config.keeping, state.parent.memory)
    classes = tuple(entry.name for entry in state.given.registry)
    told = StrategyInput(recipe, classes, config.learning, per_class)
    origin, known = _known_head(state, STRATEGIES[strategy])
    if state.sample is not None:
        strategies.require_sampling(strategy)
    plan = _Plan(state, strategy, STRATEGIES[strategy], told, known, origin)
    _require_room_for(config, plan)
    return plan


def _known_head(state: _State, strategy: Strategy) -> tuple[str | None, LinearHead]:
    """Of the parent, with what the strategy has to know of its images, and where that is from."""
    parent = state.parent
    if not strategy.generic:
        return None, parent.head
    new = parent.extractor.project(state.given.found.examples)
    return usual_images(parent.head, parent.extractor, state.sample, new)


def _available(recipe: Recipe, state: _State) -> Available:
    """What the run can offer to a strategy."""
    parent, given = state.parent, state.given
    return Available(
        recipe,
        grows=len(given.registry) > len(parent.round.classes),
        learns=bool(given.found.images),
        moments=state.before is not None,
        old_images=state.recalled.extent,
        begun=bool(parent.round.classes),
        sample=state.sample is not None,
    )


def _require_room_for(config: ExtendConfig, plan: _Plan) -> None:
    """Refuse what the strategy cannot take in or be tested on; say which option it passes over."""
    if not plan.strategy.exact and config.solver.head is not None:
        _warn_of_later_head(plan)
    if plan.state.given.collected.ledger and not plan.strategy.from_moments:
        raise UsageError(
            f"Expected --strategy merge with --moments. Received: strategy={plan.strategy_name!r}, "
            "which needs the images. Give them as DATA, or use a run with moments and a head "
            "solved from them, like --head lda."
        )
    if config.max_regression is not None and config.test is None and not plan.old_too:
        raise UsageError(
            "Expected images of the old classes with --max-regression. Received: a run that "
            "cannot test them. Add --test DATA, or use a run with --memory features."
        )


def _warn_of_later_head(plan: _Plan) -> None:
    log.warning(
        "--head %s is for the next %s round: %s has columns of its own",
        plan.told.recipe.head,
        " or ".join(EXACT),
        plan.strategy_name,
    )


def _choose(config: ExtendConfig, state: _State, phases: Phases) -> tuple[_Plan, Choice]:
    """How the head is solved, and what it says of images that are held out."""
    if config.solver.head == AUTO:
        with phases.phase("validation"):
            return _best(config, state, phases.progress)
    plan = _plan(config, state)
    with phases.phase("head"):
        solution = plan.posed().solved()
    with phases.phase("validation"):
        # The backbone may have learned the old images, but never the new ones.
        scheme = scheme_for(state.parent.extractor, plan.scheme) if plan.old_too else plan.scheme
        return plan, Choice(solution, solution.held_out(scheme, plan.old_too))


def _best(config: ExtendConfig, state: _State, progress: Progress) -> tuple[_Plan, Choice]:
    """By the head of several that is right most often on images that are held out."""
    _require_comparable_heads(config, state)
    parent = state.parent
    names = candidates(
        config.solver,
        (*state.given.found.labels, *state.recalled.examples.labels),
        keeps_next(config.keeping, parent.memory).every_feature,
        parent.extractor.projection is not None,
        parent.extractor.stored.width,
    )
    plans = {name: _plan(config, state, name) for name in names}
    scheme = scheme_for(parent.extractor, evaluation.cross_validate_anew)
    choice = best_head(names, lambda name: plans[name].posed(), scheme, True, progress)
    return plans[choice.problem.recipe.head], choice


def _require_comparable_heads(config: ExtendConfig, state: _State) -> None:
    """Refuse --head auto where heads make no difference, or cannot be tried on all images."""
    asked = strategies.named(config.learning.strategy)
    if asked is not None and not asked.exact:
        raise UsageError(
            f"Expected --strategy {' or '.join(EXACT)} with --head auto. Received: "
            f"strategy={config.learning.strategy!r}, for which the head makes no difference. "
            "Leave one of them out."
        )
    if not state.complete:
        raise UsageError(
            "Expected the features of all old images with --head auto. Received: a run that keeps "
            f"{state.recalled.extent} of them. Name a head, or give the images with --old-data."
        )


def _examination(config: ExtendConfig, plan: _Plan, choice: Choice) -> Examination:
    """Tested on what is held out; old classes that are not keep what the rounds before suggest."""
    parent, solution = plan.state.parent, choice.solution
    learned = {*parent.memory.ledger, *plan.state.given.collected.ledger}
    return Examination(
        choice.answers,
        config.test,
        config.images.columns,
        learned,
        parent.round.number + 1,
        None if plan.old_too else parent.suggests(solution.head, solution.moments),
        parent.head.temperature if plan.strategy.keeps_temperature else None,
    )


def _draft(
    config: ExtendConfig, plan: _Plan, choice: Choice, examined: Examined, remembered: Memory
) -> Draft:
    return Draft(
        command="extend-classes",
        strategy=plan.strategy_name,
        examined=examined,
        memory=remembered,
        anew=plan.strategy.exact,
        config=config,
        intake=plan.state.given.intake,
        choice=choice.table,
        usual=_usual(plan, choice.solution),
    )


def _usual(plan: _Plan, solution: Solution) -> Usual | None:
    """What the round goes by in place of old images."""
    sample = plan.state.sample
    if plan.origin is None and sample is None:
        return None
    count = 0 if sample is None else len(sample)
    taken = claimed(solution.fit, solution.evidence)
    return Usual(plan.origin or "--sample", count, taken)


def _require_no_regression(limit: float | None, validation: Validation | None) -> None:
    """Refuse a round that is worse on the old classes than its parent by more than the limit."""
    if limit is None:
        return
    before, now = _old_accuracies(validation)
    if before - now > limit + 1e-9:
        raise GateFailed(
            f"Expected the accuracy on old classes to fall by at most {limit:g}. Received: "
            f"{before:.4f} before, {now:.4f} after. Nothing was published; look at the new images, "
            "or raise --max-regression."
        )


def _old_accuracies(validation: Validation | None) -> tuple[float, float]:
    """On the classes of the parent: its accuracy, and that of the new round."""
    if validation is not None:
        before, now = validation.old_accuracy_before, validation.old_accuracy
        if before is not None and now is not None:
            return before, now
    raise GateFailed(
        "Expected images of every old class to hold --max-regression against. Received: some "
        "have none. Complete --test; nothing was published."
    )


def _remember(config: ExtendConfig, state: _State) -> Memory:
    """The memory after this round."""
    parent, given, recalled = state.parent, state.given, state.recalled
    sources = recalled.files | {image.sha256: image for image in given.found.images}
    pixels = pixels_of(sources, parent.extractor.square, parent.memory)
    old, recalled = rebuilt(parent, recalled, state.before)
    setting, per_class = next_setting(config.keeping, old)
    old = old.changed(setting, per_class, recalled.examples, pixels, state.before)
    total = state.total if old.keeps.moments else None
    remembered = old.learned(given.found.examples, total, parent.extractor.kind, pixels)
    return replace(
        remembered,
        ledger={**remembered.ledger, **given.collected.ledger},
        groups={**remembered.groups, **given.collected.groups},
        kinds=remembered.kinds | given.collected.kinds,
        exact=remembered.exact and given.collected.exact,
    )
