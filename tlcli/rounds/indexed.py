"""What the index of a run holds of classes that a round forgets or renames: no round changes it."""

import logging
import shlex
from collections.abc import Collection
from pathlib import Path

from tlcli import retrieval
from tlcli.errors import TlcliError
from tlcli.rounds.intake import named

log = logging.getLogger(__name__)


def warn_of_index(
    run: Path, names: Collection[str], hashes: Collection[str] = (), then: str = ""
) -> None:
    """Say that images are still found under classes, or contents, that a round is without.

    Args:
        run: its folder.
        names: of the classes.
        hashes: contents of images.
        then: what can be done once they are taken out; empty where that is all.
    """
    try:
        found = retrieval.held(run, names, hashes)
    except TlcliError as error:
        log.warning("whether the index holds any of these images is not known: %s", error)
        return
    if found:
        labels = {entry.label for entry in found}
        command = f"tlcli index remove {shlex.quote(str(run))}"
        command += f" {_words(labels)}" if labels <= set(names) else " --images PATH"
        log.warning(
            "the index still holds %d of these images, as %s: `%s` takes them out%s",
            len(found),
            named(labels),
            command,
            then,
        )


def _words(names: Collection[str]) -> str:
    """Class names as they are typed; `--` before such as would be options."""
    options = any(name.startswith("-") for name in names)
    return shlex.join([*["--"] * options, *sorted(names)])
