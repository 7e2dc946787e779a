"""The table of memories: what a run can keep of its images, beside the ledger."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """A row of the table."""

    says: str
    """As the help of `--memory` has it."""
    moments: bool = True
    """Whether it keeps the moments."""
    every_feature: bool = False
    """Whether it keeps the features of every image."""
    exemplars: bool = False
    """Whether it keeps features and pixels of some images of each class."""

    @property
    def rows(self) -> bool:
        """Whether it keeps features of single images."""
        return self.every_feature or self.exemplars


SETTINGS = {
    "none": Setting("nothing", moments=False),
    "moments": Setting("sums and products of features"),
    "features": Setting("moments and the features of every image", every_feature=True),
    "exemplars": Setting("moments and some images of each class", exemplars=True),
}
