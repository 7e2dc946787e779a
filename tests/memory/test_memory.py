"""What a memory holds after images were learned and forgotten, and after its dial was turned."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.arrays import Floats, Pixels
from tlcli import memory, moments
from tlcli.errors import DataError, UsageError
from tlcli.features import Examples, Kind, Vectors
from tlcli.memory import SETTINGS, herd
from tlcli.memory.herding import normalised

KERAS, OPENVINO = Kind("keras", "pillow 0"), Kind("openvino", "pillow 0")
WIDTH = 4
SIZE = 2
CLASSES = ("red panda", "Cat", "キツネ")
KEEPING = ("features", "exemplars")


def key(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


NUMBERS = {key(number): number for number in range(200)}


def label(number: int) -> str:
    return CLASSES[number % 3]


def vector(number: int) -> Floats:
    return np.random.default_rng(number).normal(number % 3, 1, WIDTH).astype(np.float32)


def picture(number: int) -> Pixels:
    return np.random.default_rng(number).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def examples(numbers: Sequence[int]) -> Examples:
    rows = np.array([vector(number) for number in numbers]).reshape(-1, WIDTH)
    return Examples(
        tuple(map(key, numbers)), tuple(map(label, numbers)), Vectors.of(rows.astype(np.float32))
    )


def moments_of(found: Examples) -> moments.Moments:
    return moments.of(found.vectors, found.labels, "f" * 64, 10)


Decode = Callable[[Sequence[str]], Pixels]


class Decoder:
    """Gives the pixels of images, and remembers which were asked for."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, hashes: Sequence[str]) -> Pixels:
        self.calls.append([NUMBERS[name] for name in hashes])
        return pictures(hashes)


def pictures(hashes: Sequence[str]) -> Pixels:
    return np.array([picture(NUMBERS[name]) for name in hashes], np.uint8)


def nothing_decoded(hashes: Sequence[str]) -> NoReturn:
    raise AssertionError(f"decoded {hashes}")


def nothing(setting: str, per_class: int | None = 2) -> memory.Memory:
    start = None if setting == "none" else moments.empty("f" * 64, 10, WIDTH)
    return memory.empty(setting, per_class, start, WIDTH)


def learn(state: memory.Memory, numbers: Sequence[int], decode: Decode = pictures) -> memory.Memory:
    """The memory after these images, as a command does it."""
    new = examples(numbers)
    total = state.moments and moments.add(state.moments, moments_of(new))
    return state.learned(new, total, KERAS, decode)


def forget(state: memory.Memory, numbers: Sequence[int], **options: Any) -> memory.Memory:
    gone = examples([number for number in numbers if key(number) in state.ledger])
    total = state.moments and moments.subtract(state.moments, moments_of(gone))
    return state.forgetting([key(number) for number in numbers], total, True, **options)


def kept_of(state: memory.Memory) -> Examples:
    """Its features or exemplars."""
    assert state.kept is not None
    return state.kept


def numbers_of(found: Examples) -> list[int]:
    return [NUMBERS[name] for name in found.hashes]


def by_class(found: Examples) -> dict[str, list[int]]:
    """Class → the numbers of its images, in their order."""
    classes: dict[str, list[int]] = {}
    for name, number in zip(found.labels, numbers_of(found), strict=True):
        classes.setdefault(name, []).append(number)
    return classes


def herded(numbers: list[int], k: int, towards: list[int] | None = None) -> list[int]:
    """The exemplars of a class from images in any order, towards the mean of some of them."""
    rows = sorted(numbers, key=key)
    target = None if towards is None else normalised(examples(towards).vectors[:]).mean(axis=0)
    return [rows[place] for place in herd(examples(rows).vectors[:], target, k)]


def members(numbers: Iterable[int], name: str) -> list[int]:
    return [number for number in numbers if label(number) == name]


def assert_whole(state: memory.Memory) -> None:
    """What is kept belongs together, and its rows are those of its images."""
    assert set(kept_of(state).hashes) <= set(state.ledger)
    numbers = numbers_of(kept_of(state))
    assert kept_of(state).labels == tuple(map(label, numbers))
    np.testing.assert_array_equal(kept_of(state).vectors[:], examples(numbers).vectors[:])
    if state.setting == "exemplars":
        np.testing.assert_array_equal(
            state.pixels_of(kept_of(state).hashes),
            pictures(kept_of(state).hashes).reshape(-1, 2, 2, 3)
            if numbers
            else np.empty((0, 0, 0, 3), np.uint8),
        )


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_memory_of_no_image(setting: str) -> None:
    state = nothing(setting)
    assert (state.setting, state.ledger, state.exact, state.kinds) == (
        setting,
        {},
        True,
        frozenset(),
    )
    assert (state.digest is None) == (setting == "none")
    assert (state.kept is None) == (setting not in KEEPING)
    assert state.exemplars_per_class == (2 if setting == "exemplars" else None)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_ledger_and_the_moments_know_every_image(setting: str) -> None:
    state = learn(learn(nothing(setting), range(5)), range(5, 12))
    assert state.ledger == {key(number): label(number) for number in range(12)}
    assert state.kinds == {KERAS}
    assert state.learned(examples([]), state.moments, OPENVINO, nothing_decoded).kinds == {KERAS}
    if setting != "none":
        assert state.digest == moments_of(examples(range(12))).digest


def test_features_of_all_images_are_kept_in_the_order_of_their_hashes() -> None:
    state = learn(learn(nothing("features"), range(5)), range(5, 12))
    assert kept_of(state).hashes == tuple(sorted(state.ledger))
    assert_whole(state)


def test_exemplars_are_herded_class_by_class() -> None:
    decode = Decoder()
    state = learn(nothing("exemplars", 2), range(15), decode)
    expected = {name: herded(members(range(15), name), 2) for name in sorted(CLASSES)}
    assert by_class(kept_of(state)) == expected
    assert list(by_class(kept_of(state))) == sorted(CLASSES)
    assert decode.calls == [numbers_of(kept_of(state))]
    assert_whole(state)


@given(st.permutations(range(15)))
def test_exemplars_do_not_depend_on_the_order_of_the_images(order: list[int]) -> None:
    ordered, shuffled = (learn(nothing("exemplars", 3), rows) for rows in (range(15), order))
    assert kept_of(ordered).hashes == kept_of(shuffled).hashes


@given(st.permutations(range(12)), st.integers(0, 12))
def test_moments_and_ledger_do_not_depend_on_rounds(order: list[int], cut: int) -> None:
    state = learn(learn(nothing("moments"), order[:cut]), order[cut:])
    joint = learn(nothing("moments"), range(12))
    assert (state.digest, state.ledger) == (joint.digest, joint.ledger)


def test_a_class_that_returns_is_herded_towards_the_mean_of_all_its_images() -> None:
    first, second = [0, 3, 6, 9, 12], [15, 18, 21]
    before = learn(nothing("exemplars", 2), first)
    decode = Decoder()
    after = learn(before, second, decode)
    present = numbers_of(kept_of(before))
    expected = herded(present + second, 2, towards=first + second)
    assert numbers_of(kept_of(after)) == expected
    assert expected != herded(present + second, 2)
    assert decode.calls == [sorted(set(expected) - set(present), key=expected.index)]
    assert_whole(after)


def test_other_classes_keep_their_exemplars() -> None:
    before = learn(nothing("exemplars", 2), range(12))
    after = learn(before, [15])
    for name in CLASSES[1:]:
        assert by_class(kept_of(after))[name] == by_class(kept_of(before))[name]
    assert list(by_class(kept_of(after))) == sorted(CLASSES)
    assert_whole(after)


def test_nothing_is_decoded_when_no_exemplar_is_new() -> None:
    state = learn(nothing("exemplars", 2), [0, 3])
    again = learn(state, [1, 4])
    learn(again, [], nothing_decoded)
    for setting in ("none", "moments", "features"):
        learn(nothing(setting), range(5), nothing_decoded)


def test_pixels_of_dropped_exemplars_are_dropped() -> None:
    state = learn(nothing("exemplars", 1), [0, 3, 6])
    for number in range(9, 60, 3):
        state = learn(state, [number])
    assert set(state.sources.fresh) == set(kept_of(state).hashes)


def test_classes_with_too_few_images_keep_all_and_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        state = learn(nothing("exemplars", 3), [0, 3, 1, 4, 7, 2])
    assert by_class(kept_of(state)) == {
        "Cat": herded([1, 4, 7], 3),
        "red panda": herded([0, 3], 2),
        "キツネ": [2],
    }
    (record,) = caplog.records
    assert "2 of 3 classes have fewer than 3 images" in record.message


def test_enough_images_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    learn(nothing("exemplars", 2), range(6))
    assert not caplog.records


@pytest.mark.parametrize("setting", SETTINGS)
def test_forgotten_images_are_nowhere(setting: str) -> None:
    state = learn(nothing(setting), range(12))
    gone = [0, 4, 5, 7, 99]
    left = forget(state, gone)
    assert left.ledger == {
        name: value for name, value in state.ledger.items() if NUMBERS[name] not in gone
    }
    if setting != "none":
        remaining = [number for number in range(12) if number not in gone]
        assert left.digest == moments_of(examples(remaining)).digest
    if setting in KEEPING:
        before = numbers_of(kept_of(state))
        assert numbers_of(kept_of(left)) == [number for number in before if number not in gone]
        assert set(left.sources.fresh) <= set(kept_of(left).hashes)
        assert_whole(left)


@pytest.mark.parametrize("exact", [True, False])
def test_whether_the_moments_are_exact_is_what_the_command_says(exact: bool) -> None:
    state = learn(nothing("moments"), range(3))
    assert state.forgetting([key(0)], state.moments, exact).exact is exact


def centre(state: memory.Memory, name: str) -> tuple[int, list[int]]:
    found = state.centres[name]
    return found.count, found.total.tolist()


def test_a_forgotten_class_leaves_no_centre() -> None:
    state = forget(learn(nothing("exemplars"), range(12)), members(range(12), "Cat"))
    assert set(state.centres) == {"red panda", "キツネ"}
    returned = learn(state, [1, 4, 7, 10, 13])
    assert by_class(kept_of(returned))["Cat"] == herded([1, 4, 7, 10, 13], 2)


def test_forgetting_takes_what_is_known_out_of_the_centres() -> None:
    state = learn(nothing("exemplars"), range(12))
    gone = [0, 3, 6, 1]
    left = forget(state, gone, features=examples([3, 6, 1, 0, 50]))
    joint = learn(nothing("exemplars"), [number for number in range(12) if number not in gone])
    for name in CLASSES:
        assert centre(left, name) == centre(joint, name)


def test_forgotten_exemplars_leave_the_centres_by_themselves() -> None:
    state = learn(nothing("exemplars"), range(12))
    gone = by_class(kept_of(state))["Cat"]
    joint = learn(nothing("exemplars"), [number for number in range(12) if number not in gone])
    assert centre(forget(state, gone), "Cat") == centre(joint, "Cat")


def test_the_mean_stays_where_forgotten_images_are_not_known() -> None:
    state = learn(nothing("exemplars"), range(30))
    unknown = [
        number for number in members(range(30), "Cat") if key(number) not in kept_of(state).hashes
    ]
    left = forget(state, unknown[:4])
    assert left.centres["Cat"].count == 6
    np.testing.assert_allclose(left.centres["Cat"].mean, state.centres["Cat"].mean, atol=1e-9)
    assert centre(left, "キツネ") == centre(state, "キツネ")


def test_centres_do_not_depend_on_rounds() -> None:
    joint = learn(nothing("exemplars"), range(30))
    rounds = learn(learn(learn(nothing("exemplars"), range(20, 30)), range(7)), range(7, 20))
    for name in CLASSES:
        assert centre(rounds, name) == centre(joint, name)


@pytest.mark.parametrize("setting", ["moments", *KEEPING])
def test_two_runs_together_remember_what_both_have_learned(setting: str) -> None:
    first, second = learn(nothing(setting), range(9)), learn(nothing(setting), range(9, 20))
    both = first.merged(replace(second, exact=False, kinds=frozenset({OPENVINO})))
    assert (both.exact, both.kinds) == (False, frozenset({KERAS, OPENVINO}))
    is_like(both, second.merged(first))
    joint = learn(nothing(setting), range(20))
    assert (both.setting, both.ledger, both.digest) == (setting, joint.ledger, joint.digest)
    for name in joint.centres:
        assert centre(both, name) == centre(joint, name)
    if setting == "features":
        assert kept_of(both).hashes == kept_of(joint).hashes
    if setting == "exemplars":
        for name in CLASSES:
            present = by_class(kept_of(first))[name] + by_class(kept_of(second))[name]
            assert by_class(kept_of(both))[name] == herded(present, 2, members(range(20), name))


def test_the_smaller_number_of_exemplars_is_that_of_both() -> None:
    first, second = (learn(nothing("exemplars", k), rows) for k, rows in ((3, [0, 3]), (1, [1, 4])))
    both = second.merged(first)
    assert both.exemplars_per_class == 1
    assert by_class(kept_of(both)) == {"Cat": herded([1, 4], 1), "red panda": herded([0, 3], 1)}


def test_runs_that_keep_different_things_have_their_moments_together() -> None:
    for first, second in (("features", "exemplars"), ("moments", "features")):
        both = learn(nothing(first), range(9)).merged(learn(nothing(second), range(9, 20)))
        is_like(both, learn(nothing("moments"), range(20)))


def change(
    state: memory.Memory,
    setting: str,
    per_class: int | None = None,
    known: Sequence[int] = (),
    decode: Decode = nothing_decoded,
    total: moments.Moments | None = None,
) -> memory.Memory:
    return state.changed(setting, per_class, examples(known), decode, total)


def is_like(state: memory.Memory, other: memory.Memory) -> None:
    assert (state.setting, state.ledger, state.digest) == (
        other.setting,
        other.ledger,
        other.digest,
    )
    assert state.exemplars_per_class == other.exemplars_per_class
    assert (state.kept is None) == (other.kept is None)
    if other.kept is not None:
        assert kept_of(state).hashes == kept_of(other).hashes
        assert_whole(state)
    assert set(state.centres) == set(other.centres)
    for name in other.centres:
        assert centre(state, name) == centre(other, name)


DOWN = [
    ("features", "moments"),
    ("features", "none"),
    ("exemplars", "moments"),
    ("exemplars", "none"),
    ("moments", "none"),
]


@pytest.mark.parametrize(("start", "end"), DOWN)
def test_less_needs_nothing(start: str, end: str) -> None:
    state = change(learn(nothing(start), range(12)), end)
    is_like(state, learn(nothing(end), range(12)))
    assert not state.sources.parts and not state.sources.fresh


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_same_setting_changes_nothing(setting: str) -> None:
    state = learn(nothing(setting), range(12))
    assert change(state, setting, 2) is state


def test_fewer_exemplars_are_the_first_ones() -> None:
    many, few = (learn(nothing("exemplars", k), range(30)) for k in (5, 2))
    state = change(many, "exemplars", 2)
    is_like(state, few)
    assert set(state.sources.fresh) == set(kept_of(state).hashes)


UP = [
    ("none", "features"),
    ("none", "exemplars"),
    ("moments", "features"),
    ("moments", "exemplars"),
    ("features", "exemplars"),
    ("exemplars", "features"),
]


@pytest.mark.parametrize(("start", "end"), UP)
def test_more_is_what_would_have_been_kept(start: str, end: str) -> None:
    total = moments_of(examples(range(12)))
    decode = Decoder()
    before = learn(nothing(start), range(12))
    state = change(before, end, 2, [*range(12), 50], decode, total)
    is_like(state, learn(nothing(end), range(12)))
    assert decode.calls == ([numbers_of(kept_of(state))] if end == "exemplars" else [])


def test_more_exemplars_are_chosen_among_all_images_and_only_new_ones_decoded() -> None:
    decode = Decoder()
    before = learn(nothing("exemplars", 1), range(30))
    state = change(before, "exemplars", 4, range(30), decode)
    is_like(state, learn(nothing("exemplars", 4), range(30)))
    (decoded,) = decode.calls
    assert set(decoded) == set(numbers_of(kept_of(state))) - set(numbers_of(kept_of(before)))


def test_what_is_kept_needs_not_be_known() -> None:
    state = learn(nothing("features"), range(12))
    is_like(change(state, "exemplars", 2, (), pictures), learn(nothing("exemplars"), range(12)))
    state = learn(nothing("exemplars", 2), [0, 3])
    is_like(change(state, "exemplars", 9), learn(nothing("exemplars", 9), [0, 3]))
    state = learn(nothing("exemplars", 2), range(12))
    others = [number for number in range(12) if number not in numbers_of(kept_of(state))]
    is_like(change(state, "features", known=others), learn(nothing("features"), range(12)))


@pytest.mark.parametrize("setting", KEEPING)
def test_more_without_all_images_says_how_many_are_missing(setting: str) -> None:
    state = learn(nothing("moments"), range(12))
    with pytest.raises(DataError, match=r"all 12 .* 3 of 12 are missing.*--old-data"):
        change(state, setting, 2, [*range(9), 50])


def test_images_are_of_the_class_they_were_learned_as() -> None:
    known = replace(examples(range(6)), labels=("other",) * 6)
    state = learn(nothing("moments"), range(6)).changed("features", None, known, pictures)
    assert_whole(state)


@pytest.mark.parametrize("setting", ["moments", *KEEPING])
def test_moments_cannot_come_from_none(setting: str) -> None:
    state = learn(nothing("none"), range(6))
    with pytest.raises(UsageError, match=r"--memory none.*--old-data"):
        change(state, setting, 2, range(6))


def test_none_turned_up_has_the_moments_that_it_is_given() -> None:
    state = replace(learn(nothing("none"), range(6)), exact=False)
    found = change(state, "moments", total=moments_of(examples(range(6))))
    is_like(found, learn(nothing("moments"), range(6)))
    assert found.exact


def test_moments_that_are_there_stay() -> None:
    state = replace(learn(nothing("moments"), range(6)), exact=False)
    found = change(state, "features", known=range(6), total=moments_of(examples(range(2))))
    assert (found.digest, found.exact) == (state.digest, False)


@pytest.mark.parametrize("per_class", [None, 0, -1])
def test_exemplars_have_a_number(per_class: int | None) -> None:
    with pytest.raises(UsageError, match="exemplars_per_class"):
        nothing("exemplars", per_class)
    with pytest.raises(UsageError, match="exemplars_per_class"):
        change(learn(nothing("moments"), range(3)), "exemplars", per_class)


def test_an_unknown_setting_is_refused_with_the_known_ones() -> None:
    for attempt in (memory.require_known, nothing, lambda name: change(nothing("none"), name)):
        with pytest.raises(UsageError, match=r"none, moments, features, exemplars.*'all'"):
            attempt("all")
