"""Every figure against scikit-learn or a calculation by hand; what was not measured is None."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from tests.support.arrays import Doubles, Floats
from tlcli import evaluation, images, moments, strategies
from tlcli.evaluation import Limits, RoundHead
from tlcli.features import Examples, Vectors
from tlcli.heads import Evidence, Fit, LinearHead, Recipe
from tlcli.heads.evidence import Refit
from tlcli.images import Skipped, folds, holdout
from tlcli.manifest import RegisteredClass

BITS = 12


def telling(classes: Sequence[str]) -> LinearHead:
    """A head whose logits are the features themselves."""
    return LinearHead(
        tuple(classes), np.eye(len(classes), dtype=np.float32), np.zeros(len(classes), np.float32)
    )


def saying(classes: Sequence[str], names: Sequence[str]) -> tuple[LinearHead, Floats]:
    """A round's head and vectors for which it predicts `names`."""
    vectors = np.array([[5.0 * (name == other) for other in classes] for name in names])
    return telling(classes), vectors.astype(np.float32).reshape(-1, len(classes))


def rounds_saying(*rounds: tuple[Sequence[str], Sequence[str]]) -> list[RoundHead]:
    """(classes, predicted names) of each round, oldest first."""
    return [RoundHead(number, *saying(*entry)) for number, entry in enumerate(rounds, 1)]


def registry(**introduced: int) -> list[RegisteredClass]:
    return [RegisteredClass(name, number) for name, number in introduced.items()]


def measure(
    introduced: list[RegisteredClass], rounds: list[RoundHead], labels: Sequence[str]
) -> evaluation.Report:
    return evaluation.evaluate("run", introduced, rounds, list(labels), ())


def gates_of(
    introduced: list[RegisteredClass], rounds: list[RoundHead], labels: str, **limits: Any
) -> tuple[evaluation.Gate, ...]:
    report = measure(introduced, rounds, labels)
    return evaluation.with_gates(report, rounds, list(labels), Limits(**limits)).gates


CLASSES = tuple("abcdefgh")
LOGITS = np.random.default_rng(0).normal(0, 2, (400, 8)).astype(np.float32)
LABELS = np.random.default_rng(1).choice(list("abcdefg"), 400, p=[0.4, *[0.1] * 6]).tolist()
ALL_AT_ONCE = [RegisteredClass(name, 1) for name in CLASSES]


@pytest.fixture(scope="module")
def report() -> evaluation.Report:
    """Eight classes, the last of which the test does not hold."""
    one = RoundHead(1, telling(CLASSES), LOGITS)
    return evaluation.evaluate("run", ALL_AT_ONCE, [one], LABELS, (Skipped("bad.png", "why"),))


def softmax(logits: Floats) -> Doubles:
    powers: Doubles = np.exp(logits.astype(np.float64))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def test_accuracies_are_those_of_scikit_learn(report: evaluation.Report) -> None:
    predicted = np.array(CLASSES)[LOGITS.argmax(axis=1)]
    assert report.figures.accuracy == pytest.approx(metrics.accuracy_score(LABELS, predicted))
    recall = metrics.recall_score(LABELS, predicted, labels=list("abcdefg"), average="macro")
    assert report.figures.mean_class_accuracy == pytest.approx(recall)
    assert report.figures.mean_class_accuracy != pytest.approx(report.figures.accuracy)
    top = metrics.top_k_accuracy_score(LABELS, LOGITS, k=5, labels=list(CLASSES))
    assert report.figures.top5_accuracy == pytest.approx(top)
    assert report.images == 400


def test_log_loss_is_that_of_scikit_learn(report: evaluation.Report) -> None:
    expected = metrics.log_loss(LABELS, softmax(LOGITS), labels=list(CLASSES))
    assert report.figures.log_loss == pytest.approx(expected, rel=1e-6)


def test_each_class_has_the_figures_of_scikit_learn(report: evaluation.Report) -> None:
    predicted = np.array(CLASSES)[LOGITS.argmax(axis=1)]
    expected = metrics.classification_report(LABELS, predicted, output_dict=True, zero_division=0)
    assert [entry.name for entry in report.per_class] == list(CLASSES)
    for entry in report.per_class[:-1]:
        figures = expected[entry.name]
        assert entry.images == figures["support"]
        assert entry.accuracy == pytest.approx(figures["recall"])
        assert entry.precision == pytest.approx(figures["precision"])
        assert entry.f1 == pytest.approx(figures["f1-score"])


def test_a_class_without_test_images_is_listed_without_figures(report: evaluation.Report) -> None:
    last = report.per_class[-1]
    assert (last.name, last.introduced_in_round, last.images) == ("h", 1, 0)
    assert (last.accuracy, last.precision, last.f1) == (None, None, None)


def test_a_class_that_is_never_predicted_has_figures_of_zero() -> None:
    found = measure(registry(a=1, b=1), rounds_saying(("ab", "aa")), "ab")
    never = found.per_class[1]
    assert (never.images, never.accuracy, never.precision, never.f1) == (1, 0.0, 0.0, 0.0)


def test_the_report_can_be_printed_as_json(report: evaluation.Report) -> None:
    named = replace(report, paths=tuple(f"{row}.png" for row in range(400)))
    content = json.loads(json.dumps(named.to_json()))
    assert content["skipped"] == [{"path": "bad.png", "reason": "why"}]
    assert set(content["per_class"][0]) == {
        *("class", "introduced_in_round", "images", "accuracy", "precision", "recall", "f1")
    }
    assert content["rounds"][0]["accuracy_by_introduction"] == {"1": report.figures.accuracy}
    assert content["gates"] == []


def test_fewer_than_five_classes_have_a_top_5_accuracy_of_1() -> None:
    found = measure(registry(a=1, b=1), rounds_saying(("ab", "bb")), "ab")
    assert (found.figures.accuracy, found.figures.top5_accuracy) == (0.5, 1.0)


def test_calibration_error_by_hand() -> None:
    """Confidence 0.7 with half of 4 right, and 0.95 with the other 4 all right."""
    confidence = np.array([0.7] * 4 + [0.95] * 4)
    logits = np.log(np.stack([confidence, 1 - confidence], axis=1)).astype(np.float32)
    one = RoundHead(1, telling("ab"), logits)
    found = measure(registry(a=1, b=1), [one], "aabbaaaa")
    assert found.figures.ece == pytest.approx(0.5 * 0.2 + 0.5 * 0.05, abs=1e-6)


def test_being_always_sure_and_right_is_perfectly_calibrated() -> None:
    one = RoundHead(1, telling("ab"), np.array([[90, 0], [0, 90]], np.float32))
    found = measure(registry(a=1, b=1), [one], "ab")
    assert found.figures.ece == pytest.approx(0, abs=1e-12)
    assert found.figures.log_loss == pytest.approx(0, abs=1e-12)


def test_being_sure_and_wrong_has_a_finite_log_loss() -> None:
    one = RoundHead(1, telling("ab"), np.array([[3e4, 0]], np.float32))
    assert 100 < measure(registry(a=1, b=1), [one], "b").figures.log_loss < 1e5


def test_many_classes_with_one_test_image_each_raise_no_warning() -> None:
    names = [f"class {number:02}" for number in range(40)]
    entries = [RegisteredClass(name, 1) for name in names]
    found = measure(entries, rounds_saying((names, names)), names)
    assert found.figures.accuracy == found.figures.mean_class_accuracy == 1.0


TRUE = "aaaabbbbccccdddd"
THREE = (
    (("ab", "aaaabbbbaaaaaaaa"), registry(a=1, b=1)),  # the first round knows a and b
    (("abc", "aaabbbbaccccaaaa"), registry(a=1, b=1, c=2)),
    (("abcd", "aabbbbaaccdddddd"), registry(a=1, b=1, c=2, d=3)),
)
ROUNDS = rounds_saying(*(entry for entry, _ in THREE))


def measured() -> evaluation.Report:
    return measure(THREE[2][1], ROUNDS, TRUE)


def test_each_round_is_measured_on_the_classes_that_it_knew() -> None:
    matrix = measured().rounds
    assert [entry.round for entry in matrix] == [1, 2, 3]
    assert matrix[0].accuracy_by_introduction == {1: 1.0}
    assert matrix[1].accuracy_by_introduction == {1: 0.75, 2: 1.0}
    assert matrix[2].accuracy_by_introduction == {1: 0.5, 2: 0.5, 3: 1.0}
    assert [entry.accuracy for entry in matrix] == [1.0, 10 / 12, 10 / 16]


def test_forgetting_and_average_incremental_accuracy_by_hand() -> None:
    found = measured()
    assert found.average_incremental_accuracy == pytest.approx((1 + 10 / 12 + 10 / 16) / 3)
    assert found.forgetting == pytest.approx(((1.0 - 0.5) + (1.0 - 0.5)) / 2)


def test_forgetting_is_measured_against_the_best_earlier_round() -> None:
    rounds = rounds_saying(("ab", "ab"), ("ab", "bb"), ("ab", "ab"), ("ab", "bb"))
    found = measure(registry(a=1, b=1), rounds, "ab")
    assert found.forgetting == pytest.approx(0.5)


def test_a_round_that_is_better_on_old_classes_forgets_less_than_nothing() -> None:
    rounds = rounds_saying(("ab", "bb"), ("ab", "ab"))
    assert measure(registry(a=1, b=1), rounds, "ab").forgetting == -0.5


def test_old_and_new_classes_are_told_apart_by_their_round() -> None:
    found = measured()
    assert found.figures.old_accuracy == pytest.approx(6 / 12)
    assert found.figures.new_accuracy == 1.0
    assert found.round == 3


def test_a_first_round_has_no_old_classes_and_forgets_nothing() -> None:
    two = registry(a=1, b=1)
    found = measure(two, rounds_saying(("ab", "ab")), "ab")
    assert (found.figures.old_accuracy, found.figures.new_accuracy, found.forgetting) == (
        None,
        1.0,
        None,
    )
    assert found.average_incremental_accuracy == 1.0


def test_introductions_without_test_images_are_unknown() -> None:
    found = measure(THREE[2][1], rounds_saying(*(e for e, _ in THREE)), TRUE)
    assert found.forgetting is not None
    only_new = [RoundHead(entry.number, entry.head, entry.vectors[12:]) for entry in ROUNDS]
    found = measure(THREE[2][1], only_new, TRUE[12:])
    assert (found.figures.old_accuracy, found.figures.new_accuracy, found.forgetting) == (
        None,
        1.0,
        None,
    )
    assert [entry.accuracy for entry in found.rounds] == [None, None, 1.0]
    assert found.rounds[2].accuracy_by_introduction == {1: None, 2: None, 3: 1.0}
    assert found.average_incremental_accuracy == 1.0


def test_an_earlier_round_may_know_a_class_that_was_removed() -> None:
    rounds = rounds_saying(("abc", "ab"), ("ab", "ab"))
    assert measure(registry(a=1, b=1), rounds, "ab").figures.accuracy == 1.0


def three_gates(
    fail_under: float | None = None, max_regression: float | None = None
) -> list[tuple[str, float, float | None, bool]]:
    found = gates_of(
        THREE[2][1], ROUNDS, TRUE, fail_under=fail_under, max_regression=max_regression
    )
    return [(entry.name, entry.limit, entry.value, entry.passed) for entry in found]


def test_without_limits_there_are_no_gates() -> None:
    assert three_gates() == []


@pytest.mark.parametrize(("limit", "passed"), [(0.625, True), (0.626, False), (0.0, True)])
def test_fail_under_passes_from_its_limit_on(limit: float, passed: bool) -> None:
    assert three_gates(fail_under=limit) == [("fail-under", limit, 0.625, passed)]


@pytest.mark.parametrize(("limit", "passed"), [(0.4, True), (0.3, False)])
def test_max_regression_compares_the_classes_of_the_previous_round(
    limit: float, passed: bool
) -> None:
    ((name, _, value, found),) = three_gates(max_regression=limit)
    assert (name, found) == ("max-regression", passed)
    assert value == pytest.approx(10 / 12 - 6 / 12)


def test_both_gates_are_measured_when_both_are_asked_for() -> None:
    assert [entry[0] for entry in three_gates(0.5, 0.5)] == ["fail-under", "max-regression"]


def test_a_first_round_cannot_regress() -> None:
    (only,) = gates_of(registry(a=1, b=1), rounds_saying(("ab", "ab")), "ab", max_regression=0.0)
    assert (only.value, only.passed) == (0.0, True)


def test_a_regression_that_cannot_be_measured_does_not_pass() -> None:
    only_new = [RoundHead(entry.number, entry.head, entry.vectors[12:]) for entry in ROUNDS]
    (only,) = gates_of(THREE[2][1], only_new, TRUE[12:], max_regression=1.0)
    assert (only.value, only.passed) == (None, False)
    assert only.to_text() == "max-regression is unknown, limit 1"


def test_a_fall_of_exactly_the_limit_passes() -> None:
    rounds = rounds_saying(("ab", "aaaaaaaabb"), ("ab", "aaaaaaabbb"))
    (only,) = gates_of(registry(a=1, b=1), rounds, "a" * 10, max_regression=0.1)
    assert only.passed


def sha(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def features_of(labels: Sequence[str], seed: int = 0, width: int = 6) -> Examples:
    """Overlapping Gaussians, so that neither all nor no predictions are right."""
    rng = np.random.default_rng(seed)
    centres = {name: rng.normal(0, 1, width) for name in "abcdefgh"}
    vectors = [centres[name] + rng.normal(0, 1, width) for name in labels]
    hashes = tuple(sha(1000 * seed + number) for number in range(len(labels)))
    rows = np.array(vectors, np.float32).reshape(-1, width)
    return Examples(hashes, tuple(labels), Vectors.of(rows))


def moments_of(examples: Examples) -> moments.Moments:
    return moments.of(examples.vectors, examples.labels, "backbone-a", BITS)


def solved_by(name: str) -> Fit:
    return strategies.first(Recipe(name))


def refitted(total: moments.Moments | None, kept: Examples) -> LinearHead:
    assert total is not None
    return Recipe("lda").solve(total)


LDA, SOFTMAX = solved_by("lda"), solved_by("softmax")


def known_of(
    new: Examples,
    old: Examples | None = None,
    parent: LinearHead | None = None,
    refit: Refit | None = None,
) -> Evidence:
    """What is known of new images when the features of `old` were kept."""
    kept = new.take([]) if old is None else old
    return Evidence(moments_of(kept.joined(new)), new, kept, parent, refit)


def cross_validate(
    known: Evidence, classes: str, old: str = "", old_too: bool = False
) -> evaluation.Validation:
    return evaluation.cross_validate(LDA, known, tuple(classes), old_too).validation(list(old))


def hold_out(known: Evidence, classes: str, fit: Fit = LDA) -> evaluation.Validation:
    return evaluation.hold_out(fit, known, tuple(classes), False).validation([])


def on_test(labels: str, predicted: str) -> evaluation.Validation:
    """Judge predictions for classes a, b (old) and c."""
    head, vectors = saying("abc", predicted)
    test = Examples(tuple(map(sha, range(len(labels)))), tuple(labels), Vectors.of(vectors))
    return evaluation.on_test(head, None, test).validation("ab")


def test_subtracting_a_fold_equals_refitting_without_it() -> None:
    examples = features_of("abc" * 20)
    found = cross_validate(known_of(examples), "abc")
    assigned = folds(examples.hashes, examples.labels, evaluation.FOLDS)
    correct = np.zeros(60, bool)
    for fold in range(evaluation.FOLDS):
        rest, tested = examples.where(assigned != fold), examples.where(assigned == fold)
        predicted = Recipe("lda").solve(moments_of(rest)).predict(tested.vectors)
        correct[assigned == fold] = predicted == np.array(tested.labels, object)
    assert found.accuracy == correct.mean()
    assert found.accuracy is not None and 0.4 < found.accuracy < 1
    assert found.accuracy == found.new_accuracy
    assert (found.old_accuracy, found.images, found.method) == (
        None,
        60,
        "cross-validation",
    )


def test_an_image_is_never_validated_by_a_head_that_has_seen_it() -> None:
    """Labels that say nothing about the features cannot be predicted better than by chance."""
    rng = np.random.default_rng(0)
    examples = features_of(["a"] * 200, width=100)
    examples = replace(examples, labels=tuple(rng.permutation(["a", "b"] * 100)))
    known = known_of(examples)
    for validated in (cross_validate(known, "ab"), hold_out(known, "ab")):
        assert validated.accuracy is not None and validated.accuracy < 0.65
    assert (LDA(known).predict(examples.vectors) == examples.labels).mean() > 0.8


def test_a_round_without_old_images_says_nothing_about_old_classes() -> None:
    first, second = features_of("ab" * 20), features_of("c" * 20, seed=1)
    known = replace(known_of(second), moments=moments_of(first.joined(second)))
    found = cross_validate(known, "abc", "ab")
    assert (found.accuracy, found.old_accuracy) == (None, None)
    assert found.new_accuracy is not None
    assert found.images == 20


def test_kept_features_test_the_old_classes_before_and_after() -> None:
    first, second = features_of("ab" * 20), features_of("c" * 20, seed=1)
    parent = Recipe("lda").solve(moments_of(first))
    known = known_of(second, first, parent, refitted)
    found = cross_validate(known, "abc", "ab", old_too=True)
    assert found.images == 60
    assert found.old_accuracy_before == cross_validate(known_of(first), "ab").accuracy
    assigned = folds(first.hashes, first.labels, evaluation.FOLDS)
    new_folds = folds(second.hashes, second.labels, evaluation.FOLDS)
    correct = np.zeros(40, bool)
    for fold in range(evaluation.FOLDS):
        rest = first.where(assigned != fold).joined(second.where(new_folds != fold))
        tested = first.where(assigned == fold)
        predicted = Recipe("lda").solve(moments_of(rest)).predict(tested.vectors)
        correct[assigned == fold] = predicted == np.array(tested.labels, object)
    assert found.old_accuracy == correct.mean()


def test_old_accuracy_needs_every_old_class() -> None:
    first, second = features_of("ab" * 20), features_of("a" * 10 + "c" * 10, seed=1)
    known = replace(known_of(second), moments=moments_of(first.joined(second)))
    found = cross_validate(known, "abc", "ab")
    assert (found.accuracy, found.old_accuracy) == (None, None)
    both = features_of("a" * 10 + "b" * 10 + "c" * 10, seed=1)
    known = replace(known_of(both), moments=moments_of(first.joined(both)))
    found = cross_validate(known, "abc", "ab")
    assert None not in (
        found.accuracy,
        found.old_accuracy,
        found.new_accuracy,
    )


def test_a_class_of_one_image_is_left_out_of_cross_validation() -> None:
    found = cross_validate(known_of(features_of("a" * 20 + "b" * 20 + "c")), "abc")
    assert found.images == 40
    assert found.accuracy is not None


def test_one_more_image_of_a_known_class_is_tested() -> None:
    first, second = features_of("ab" * 20), features_of("a", seed=1)
    known = replace(known_of(second), moments=moments_of(first.joined(second)))
    assert cross_validate(known, "ab", "ab").images == 1


def test_one_image_of_every_class_cannot_be_cross_validated() -> None:
    found = cross_validate(known_of(features_of("abc")), "abc")
    assert (found.accuracy, found.images) == (None, 0)


def test_holdout_tests_the_held_out_share_on_a_fit_of_the_rest() -> None:
    examples = features_of("abc" * 40)
    found = hold_out(known_of(examples), "abc", SOFTMAX)
    held = holdout(examples.hashes, examples.labels, images.HELD_OUT)
    rest, tested = examples.where(~held), examples.where(held)
    predicted = Recipe("softmax").fit(rest).predict(tested.vectors)
    assert found.accuracy == (predicted == np.array(tested.labels, object)).mean()
    assert (found.images, found.method) == (held.sum(), "holdout")


def test_too_few_images_to_hold_one_out_leave_the_figures_unknown() -> None:
    found = hold_out(known_of(features_of("ab")), "ab", SOFTMAX)
    assert (found.accuracy, found.old_accuracy, found.new_accuracy) == (
        None,
        None,
        None,
    )
    assert found.images == 0


def test_a_test_set_judges_the_round_s_own_head() -> None:
    found = on_test("abbbca", "aabbcc")
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.old_accuracy == pytest.approx(3 / 5)
    assert found.new_accuracy == 1.0
    assert (found.images, found.method) == (6, "test")


def test_a_test_set_without_one_old_class_leaves_old_accuracy_unknown() -> None:
    found = on_test("acc", "acc")
    assert (found.accuracy, found.old_accuracy, found.new_accuracy) == (
        None,
        None,
        1.0,
    )


def test_a_class_of_which_no_image_is_left_does_not_pass() -> None:
    rounds = rounds_saying(("abc", "aabb"))
    found = measure(registry(a=1, b=1, c=1), rounds, "aabb")
    limits = Limits(min_class_accuracy=0.5)
    (passed,) = evaluation.with_gates(found, rounds, list("aabb"), limits).gates
    assert passed.passed
    (only,) = evaluation.with_gates(found, rounds, list("aabb"), limits, unmeasured={"c"}).gates
    assert (only.label, only.value, only.passed) == ("c", None, False)
    assert only.to_text() == "min-class-accuracy of 'c' is unknown, limit 0.5"


# --- groups


def bursts(labels: str, seed: int = 0, each: int = 4) -> Examples:
    """Each image four times with hardly any noise, which is a group."""
    plain = features_of(labels, seed)
    rng = np.random.default_rng(seed)
    rows = [row for row in plain.vectors[:] for _ in range(each)]
    noisy = np.array(rows, np.float32) + rng.normal(0, 0.01, (len(rows), 6)).astype(np.float32)
    names = tuple(name for name in labels for _ in range(each))
    hashes = tuple(sha(10**6 * (seed + 1) + number) for number in range(len(rows)))
    groups = tuple(sha(-1000 * (seed + 1) - number // each) for number in range(len(rows)))
    return Examples(hashes, names, Vectors.of(noisy), groups)


Scheme = Callable[..., evaluation.HeldOutPredictions]


@pytest.mark.parametrize("scheme", [evaluation.cross_validate, evaluation.hold_out])
def test_no_group_is_learned_and_tested(scheme: Scheme) -> None:
    examples = bursts("abc" * 20)
    seen = []

    def fit(known: Evidence) -> LinearHead:
        seen.append(set(known.new.groups))
        return LDA(known)

    answers = scheme(fit, known_of(examples), ("a", "b", "c"), False)
    assert len(answers.true)
    for groups in seen:
        tested = [g for g in examples.groups if g not in groups]
        assert tested
        kept = [g for g in examples.groups if g in groups]
        assert len(kept) == 4 * len(set(kept))


@pytest.mark.parametrize("scheme", [evaluation.cross_validate, evaluation.hold_out])
def test_groups_span_the_new_and_the_old_images(scheme: Scheme) -> None:
    """With the old images to be tested too, as with those that stay."""
    both = bursts("ab" * 20)
    rows = np.arange(len(both)) % 2 == 0
    new, old = both.where(rows), both.where(~rows)
    parent = Recipe("lda").solve(moments_of(old))
    known = known_of(new, old, parent, refitted)
    left_out = []

    def fit(rest: Evidence) -> LinearHead:
        assert not set(rest.new.groups) ^ set(rest.old.groups)
        left_out.append(len(new) - len(rest.new))
        return LDA(rest)

    scheme(fit, known, ("a", "b"), True)
    assert sum(left_out) > 0
    answers = scheme(fit, known, ("a", "b"), False)
    assert len(answers.true) == 0


def test_what_was_learned_of_a_group_keeps_the_rest_from_being_tested() -> None:
    examples = bursts("ab" * 20)
    gone = frozenset(examples.groups[:40])
    known = replace(known_of(examples), learned_groups=gone)
    answers = evaluation.cross_validate(LDA, known, ("a", "b"), False)
    assert len(answers.true) == len(examples) - 40


def test_a_class_of_one_group_is_not_tested() -> None:
    examples = bursts("a" * 10 + "b" * 10 + "c")
    answers = evaluation.cross_validate(LDA, known_of(examples), ("a", "b", "c"), False)
    assert answers.untestable == ("c",)
    assert "c" not in answers.true
    assert answers.validation([]).accuracy is not None
