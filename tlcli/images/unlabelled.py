"""Images without labels."""

from tlcli import images
from tlcli.config import Progress
from tlcli.errors import BadImage, DataError
from tlcli.images import LabelledImage, Listing, Skipped
from tlcli.images.sources import exists_as_folder
from tlcli.urls import place


def unlabelled(data: str, progress: Progress) -> Listing:
    """The images of a folder, at any depth, each content once; labels are not looked at.

    Raises:
        UsageError: there is no such folder.
        DataError: it holds fewer than two images.
    """
    if data != "-":
        exists_as_folder(place(data))
    paths = list(images.find_images([data]))
    distinct: dict[str, LabelledImage] = {}
    skipped = []
    for path, key in zip(paths, images.content_hashes(paths), strict=True):
        if isinstance(key, BadImage):
            skipped.append(Skipped(str(path), str(key)))
        else:
            distinct.setdefault(key, LabelledImage(path, key, label=""))
    progress("reading", len(paths), len(paths))
    if len(distinct) < 2:
        raise DataError(
            f"Expected images to learn from. Received: {len(distinct)} in {data}. "
            "Give a folder of images."
        )
    copies = len(paths) - len(skipped) - len(distinct)
    return Listing(tuple(distinct.values()), tuple(skipped), copies)
