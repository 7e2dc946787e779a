"""What a network that was trained elsewhere wants its pixels to look like: the table."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tlcli.backbones import preparing
from tlcli.errors import require_choice


@dataclass(frozen=True)
class Scaling:
    """A row of the table."""

    says: str
    """As the help of `--scaling` has it."""
    prepare: Callable[[Any], Any]
    """From raw RGB (n, S, S, 3) to what the network wants."""
    coloured: bool = False
    """Whether it treats the channels differently, so that it is for networks of three."""


SCALINGS: dict[str, Scaling] = {
    "none": Scaling("0 to 255 as they are", preparing.raw),
    "0-1": Scaling("divided by 255", preparing.to_unit),
    "-1-1": Scaling("divided by 127.5, less 1", preparing.tf),
    "caffe": Scaling("BGR less the ImageNet mean", preparing.caffe, coloured=True),
    "torch": Scaling(
        "0 to 1, less the ImageNet mean, by its deviation", preparing.torch, coloured=True
    ),
}

OWN = "none"
"""The scaling in front of a network that scales pixels itself."""


def scaling_named(name: str) -> Scaling:
    """The row of a name.

    Raises:
        UsageError: there is none.
    """
    require_choice("a scaling", name, SCALINGS)
    return SCALINGS[name]
