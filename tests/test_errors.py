"""What is said of a name that no table has."""

import pytest

from tlcli.errors import UsageError, require_choice

TABLE = {"lda": 1, "ridge": 2, "NCM": 3}


@pytest.mark.parametrize("name", TABLE)
def test_a_known_name_is_fine(name: str) -> None:
    require_choice("a head", name, TABLE)


@pytest.mark.parametrize(
    ("given", "nearest"),
    [("rigde", "Did you mean ridge? "), ("ncm", "Did you mean NCM? "), ("", "")],
)
def test_an_unknown_name_gets_the_list_and_the_nearest(given: str, nearest: str) -> None:
    with pytest.raises(UsageError) as caught:
        require_choice("a head", given, TABLE)
    assert str(caught.value) == (
        f"Expected a head: lda, ridge, NCM. Received: head={given!r}. {nearest}Choose one of these."
    )


def test_an_option_may_have_another_name_than_what_is_chosen() -> None:
    with pytest.raises(
        UsageError, match=r"^Expected an augmentation: none\. Received: augment='x'"
    ):
        require_choice("an augmentation", "x", ("none",), "augment")
