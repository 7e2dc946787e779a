"""The kind of a feature: what gave its last bits, besides the backbone and the image."""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Kind:
    """Features of one kind may be mixed: together they are what one machine would compute."""

    arithmetic: str
    """See `tlcli.arithmetic`."""
    decoder: str
    """See `images.DECODER`."""


UNKNOWN_DECODER = "unknown"
"""Of features that were written before decoders were."""


@dataclass(frozen=True)
class Differences:
    """In what kinds differ, for a message."""

    arithmetic: tuple[str, ...]
    decoder: tuple[str, ...]

    @staticmethod
    def of(kinds: Collection[Kind]) -> "Differences":
        """In order of their names."""
        return Differences(
            tuple(sorted({kind.arithmetic for kind in kinds})),
            tuple(sorted({kind.decoder for kind in kinds})),
        )

    @property
    def counted(self) -> str:
        """Like "2 kinds of arithmetic (keras 0 and openvino 0)"."""
        named = ((self.arithmetic, "kinds of arithmetic"), (self.decoder, "decoders"))
        several = [(names, what) for names, what in named if len(names) > 1]
        return " and ".join(f"{len(names)} {what} ({_listed(names)})" for names, what in several)


def another(kinds: Collection[Kind], here: Kind) -> str:
    """How kinds differ from the one that is used here, like "another decoder (pillow 1)"."""
    arithmetic = {kind.arithmetic for kind in kinds} - {here.arithmetic}
    decoders = {kind.decoder for kind in kinds} - {here.decoder}
    named = ((arithmetic, "another arithmetic"), (decoders, "another decoder"))
    return " and ".join(f"{what} ({_listed(names)})" for names, what in named if names)


def _listed(names: Collection[str]) -> str:
    return " and ".join(sorted(names))
