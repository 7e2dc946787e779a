"""compare: which classes come in which round."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlcli.commands.compare.schedule import schedule_of, sizes_of
from tlcli.config import CompareConfig
from tlcli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "count", "sizes"),
    [
        ("5+1+1", 7, [5, 1, 1]),
        ("7", 7, [7]),
        (" 5+2 ", 7, [5, 2]),
        ("5+1…", 8, [5, 1, 1, 1]),
        ("5+1...", 8, [5, 1, 1, 1]),
        ("10+5...", 22, [10, 5, 5, 2]),
        ("4+3+1...", 9, [4, 3, 1, 1]),
        ("3...", 7, [3, 3, 1]),
        ("5+2...", 7, [5, 2]),
    ],
)
def test_the_grammar(text: str, count: int, sizes: list[int]) -> None:
    assert sizes_of(text, count) == sizes


@pytest.mark.parametrize(
    "text", ["", "5+", "+5", "5++2", "5-2", "-5+12", "5+1..", "…", "5…+2", "5 + 2", "5+2.0"]
)
def test_what_is_not_of_the_form(text: str) -> None:
    with pytest.raises(UsageError, match=r"5\+1\+1"):
        sizes_of(text, 7)


@pytest.mark.parametrize("text", ["5+1", "5+3", "8...", "5+3..."])
def test_numbers_that_do_not_add_up(text: str) -> None:
    with pytest.raises(UsageError, match="7 classes together"):
        sizes_of(text, 7)


@given(st.integers(2, 200))
def test_the_default_uses_every_class_once(count: int) -> None:
    names = [f"{number:03}" for number in range(count)]
    division = schedule_of(names, CompareConfig("data"))
    assert [name for part in division for name in part] == names
    sizes = [len(part) for part in division]
    assert sizes[0] == max(2, (count + 1) // 2)
    assert len(sizes) <= 6 and min(sizes) >= 1
    assert max(sizes[1:], default=0) - min(sizes[1:], default=0) <= 1


def test_a_seed_shuffles_the_classes_once_and_for_all() -> None:
    names = list("abcdefgh")
    shuffled = schedule_of(names, CompareConfig("data", rounds="4+4", class_order=5))
    assert shuffled == schedule_of(names, CompareConfig("data", rounds="4+4", class_order=5))
    assert shuffled != schedule_of(names, CompareConfig("data", rounds="4+4", class_order=6))
    assert shuffled == (tuple("bceh"), tuple("adfg"))
    assert schedule_of(names, CompareConfig("data", rounds="4+4")) == (tuple("abcd"), tuple("efgh"))
