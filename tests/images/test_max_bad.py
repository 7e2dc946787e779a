"""The limit of bad images."""

import pytest

from tlcli.errors import DataError
from tlcli.images import Skipped, reject_bad


def test_the_share_of_bad_images_has_a_limit() -> None:
    bad = [Skipped("x/a.png", "the file is empty"), Skipped("b.png", "?")]
    reject_bad(200, bad, 0.01)
    reject_bad(0, [], 0.0)
    with pytest.raises(DataError) as caught:
        reject_bad(199, bad, 0.01)
    for part in ("2 of 199", "1.01%", "1.00%", "x/a.png: the file is empty", "--max-bad SHARE"):
        assert part in str(caught.value)
    with pytest.raises(DataError):
        reject_bad(2, bad, 0.99)
