"""How much of the range from black to white images use: few levels are seldom meant."""

from dataclasses import dataclass

from tlcli.urls import Place

FEW_LEVELS = 32
"""Of 256. Photographs of every kind use more; 12 bits in a file of 16 use 16."""


@dataclass
class Tones:
    """A count of images with few levels, as they come."""

    images: int = 0
    """That were looked at."""
    few: int = 0
    """With fewer than `FEW_LEVELS` from their darkest value to their brightest."""
    flat: int = 0
    """Of one colour throughout."""
    first: Place | None = None
    """An example of few levels."""

    def add(self, path: Place, levels: int) -> None:
        """Look at an image.

        Args:
            path: its file.
            levels: from its darkest value to its brightest, as `Drawn.levels`.
        """
        self.images += 1
        self.flat += levels == 0
        if levels < FEW_LEVELS:
            self.few += 1
            self.first = self.first or path

    def join(self, other: "Tones") -> None:
        """Count those that somebody else has looked at."""
        self.images += other.images
        self.few += other.few
        self.flat += other.flat
        self.first = self.first or other.first

    @property
    def warning(self) -> str | None:
        """A sentence, where there are such images."""
        if not self.few:
            return None
        flat = f", {self.flat} of them have one colour" if self.flat else ""
        return (
            f"{self.few} of {self.images} images that were decoded use fewer than {FEW_LEVELS} of "
            f"256 levels from dark to bright{flat}, the first is {self.first}: little can be told "
            "from them (`tlcli data check` counts them; --white-level of `tlcli pretrain` is for "
            "16-bit grey that ends below 65535)"
        )
