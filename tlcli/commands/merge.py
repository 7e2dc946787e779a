"""merge: two runs on one backbone become one."""

from collections.abc import Mapping, Set
from pathlib import Path

from tlcli import backbones, evaluation, files, heads, memory, moments, runs, strategies
from tlcli.config import MergeConfig, Progress, no_progress
from tlcli.errors import DataError, RunError, UsageError
from tlcli.extractor import Extractor, warn_of_projection
from tlcli.heads import Recipe
from tlcli.manifest import RegisteredClass
from tlcli.memory import Memory
from tlcli.rounds.intake import Intake
from tlcli.rounds.names import warn_of_former
from tlcli.rounds.parent import Parent, require_projection
from tlcli.rounds.publication import Draft, publish
from tlcli.rounds.recall import recall, with_same_bits
from tlcli.rounds.result import Phases, RoundResult, options_of, unchanged
from tlcli.rounds.solution import Examination, Problem, Solution, evidence_of, scheme_for
from tlcli.runs import Round, Writer


def merge(config: MergeConfig, progress: Progress = no_progress) -> RoundResult:
    """Commit round 1 of a new run that has learned the images of both runs.

    Nothing, if that is what the run began with.

    Raises:
        TlcliError: see errors.py; nothing is left behind.
    """
    phases = Phases(progress)
    first, second = (
        Parent.of(runs.open_run(path), config.runs_on) for path in (config.run_a, config.run_b)
    )
    _require_same_space(config, first, second)
    runs.require_available(config.out, config.wait)
    for parent in (first, second):
        warn_of_projection(parent.extractor)
    _warn_of_former(first, second)
    recipe = Recipe.of(config.solver, first.recipe)
    require_projection(recipe, first.extractor)
    with phases.phase("features"):
        united = _united(config, first, second, progress)
    _require_features(recipe, united)
    with runs.creating(config.out, config.wait) as writer:
        if writer.run.numbers():
            return _same_again(config, writer, recipe, united, phases)
        extractor = _take_backbone(config, first, writer, phases)
        with phases.phase("head"):
            solution = _solution(recipe, extractor, united, _registry(first, second))
        with phases.phase("validation"):
            how = _examination(config, first, second, united, solution)
            examined = solution.examined(how, progress)
        taken = Intake(len(united.ledger), len(united.ledger), 0, 0, ())
        draft = Draft("merge", None, examined, united, True, config, taken)
        return publish(writer, draft, phases)


def _warn_of_former(first: Parent, second: Parent) -> None:
    """Say where a class of one run has the name that a class of the other had before."""
    for mine, theirs in ((first, second), (second, first)):
        warn_of_former(set(theirs.round.classes) - set(mine.round.classes), mine.former)


def _require_features(recipe: Recipe, united: Memory) -> None:
    """Refuse a head that is fitted to images where their features are not kept."""
    if not recipe.from_moments and not united.keeps.every_feature:
        raise UsageError(
            f"Expected runs with --memory features for the head {recipe.head}. Received: memory="
            f"{united.setting!r}. Add --head lda."
        )


def _solution(
    recipe: Recipe, extractor: Extractor, united: Memory, registry: tuple[RegisteredClass, ...]
) -> Solution:
    """The head of what both runs remember, without a temperature."""
    evidence = evidence_of(extractor, united.moments, old=united.kept)
    return Problem(extractor, recipe, strategies.first(recipe), evidence, registry).solved()


def _examination(
    config: MergeConfig, first: Parent, second: Parent, united: Memory, solution: Solution
) -> Examination:
    """Tested on kept features; else with the temperature that both runs suggest."""
    scheme = scheme_for(solution.extractor, evaluation.scheme_for(solution.recipe))
    held_out = solution.held_out(scheme, united.keeps.every_feature)
    carried = None if len(held_out.true) else _carried(first, second, solution)
    return Examination(held_out, config.test, config.images.columns, united.ledger, 1, carried)


def _require_same_space(config: MergeConfig, first: Parent, second: Parent) -> None:
    """Refuse runs without moments, or with moments that cannot be added."""
    _require_moments(config.run_a, first)
    _require_moments(config.run_b, second)
    _require_drawn_alike(config, first, second)
    try:
        moments.require_same_space(
            first.extractor.empty_moments(), second.extractor.empty_moments()
        )
    except RunError as error:
        raise RunError(f"{config.run_b}: {error}") from error


def _require_moments(path: Path, parent: Parent) -> None:
    if parent.memory.moments is None:
        raise UsageError(
            f"Expected runs with moments. Received: {path} with --memory none, which "
            "remembers too little to be merged."
        )


def _require_drawn_alike(config: MergeConfig, first: Parent, second: Parent) -> None:
    mine, theirs = first.extractor.square, second.extractor.square
    if mine.choices != theirs.choices:
        raise RunError(
            f"{config.run_b}: Expected images drawn as in {config.run_a}: {mine.described}. "
            f"Received: {theirs.described}. Features of images that are drawn otherwise cannot be "
            "mixed."
        )


def _same_again(
    config: MergeConfig, writer: Writer, recipe: Recipe, united: Memory, phases: Phases
) -> RoundResult:
    """The run exists: fine if it began with what both runs remember, and these very options."""
    if 1 in writer.run.numbers():
        first = writer.run.round(1)
        if _began_so(config, first, recipe, united):
            return unchanged(config.out, first, Intake(0, 0, len(united.ledger), 0, ()), phases)
    raise UsageError(
        f"Expected a new folder for the run. Received: {config.out} is a run already, which began "
        "otherwise. Choose another --out."
    )


def _began_so(config: MergeConfig, first: Round, recipe: Recipe, united: Memory) -> bool:
    """Whether a round was made with these options, of the same memory; the runs may have moved."""
    manifest, began = first.manifest, memory.load(first)
    places = {name: manifest.config.get(name) for name in ("run_a", "run_b")}
    return (
        manifest.config == options_of(config) | places
        and (manifest.head, manifest.head_options) == (recipe.head, recipe.options())
        and (began.setting, began.digest) == (united.setting, united.digest)
        and began.ledger == united.ledger
    )


def _take_backbone(config: MergeConfig, first: Parent, writer: Writer, phases: Phases) -> Extractor:
    stored = first.extractor.stored
    with phases.phase("backbone"), files.saving(writer.run.path), writer.staging() as staged:
        stored.copy_into(staged)
        folder = writer.add_backbone(staged, stored.fingerprint)
    return Extractor.of(backbones.load_stored(folder), config.runs_on, first.extractor.projection)


def _carried(first: Parent, second: Parent, solution: Solution) -> tuple[float, int] | None:
    """The temperature that both runs suggest, in proportion to their images."""
    suggested = [run.suggests(solution.head, solution.moments) for run in (first, second)]
    known = [entry for entry in suggested if entry is not None]
    if len(known) < 2:
        return known[0] if known else None
    return heads.blend(known[0], known[1]), known[0][1] + known[1][1]


def _registry(first: Parent, second: Parent) -> tuple[RegisteredClass, ...]:
    """The classes of the first run, and behind them those that only the second knows."""
    names = dict.fromkeys((*first.round.classes, *second.round.classes))
    return tuple(RegisteredClass(name, 1) for name in names)


def _united(config: MergeConfig, first: Parent, second: Parent, progress: Progress) -> Memory:
    """What both runs remember; images that both have learned count once."""
    a, b = first.memory, second.memory
    common = a.ledger.keys() & b.ledger.keys()
    _require_same_classes(config, common, a.ledger, b.ledger)
    for whole, part in ((a, b), (b, a)):
        if common == part.ledger.keys():
            return whole
    if common:
        b = _without(config, second, common, progress)
    return a.merged(b)


def _require_same_classes(
    config: MergeConfig, common: Set[str], a: Mapping[str, str], b: Mapping[str, str]
) -> None:
    """Refuse an image that is of one class in the first run and of another in the second."""
    for key in sorted(common):
        if a[key] != b[key]:
            raise DataError(
                f"Expected one class for each image. Received: an image (content hash {key[:12]}…) "
                f"that is {a[key]!r} in {config.run_a} and {b[key]!r} in "
                f"{config.run_b}. Give the class one name with `tlcli rename-classes`, or "
                "remove the image from one of them with `tlcli remove-classes --images`."
            )


def _without(config: MergeConfig, second: Parent, common: set[str], progress: Progress) -> Memory:
    known = with_same_bits(second, recall(second, (), True, progress, common))
    if known.missing or second.memory.moments is None:
        raise DataError(
            f"Expected runs without common images, or known features of them. Received: "
            f"{len(known.missing)} of {len(common)} common images are neither kept in "
            f"{config.run_b} nor in the cache. Remove them from one run with "
            "`tlcli remove-classes --images`."
        )
    rest = moments.subtract(second.memory.moments, second.extractor.moments(known.examples))
    return second.memory.forgetting(common, rest, second.memory.exact, known.examples)
