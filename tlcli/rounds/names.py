"""What the classes of earlier rounds are called by now."""

import logging
import re
from collections.abc import Collection, Mapping, Sequence

from tlcli.errors import nearest
from tlcli.runs import Round

log = logging.getLogger(__name__)


def by_now(way: Sequence[Round]) -> list[dict[str, str]]:
    """For each round of a way, class → its name in the last one, of those that were renamed."""
    found: list[dict[str, str]] = []
    names: dict[str, str] = {}
    for entry in reversed(way):
        found.append(names)
        earlier = {old: names.get(new, new) for old, new in entry.manifest.renames.items()}
        names = {**names, **earlier}
    return found[::-1]


def former(way: Sequence[Round]) -> dict[str, str]:
    """Names that no class has any more → what the class that had them last is called now."""
    known = set(way[-1].classes)
    return {
        old: new
        for names in by_now(way)
        for old, new in names.items()
        if old not in known and new in known
    }


def said_of(names: Collection[str], renamed: Mapping[str, str]) -> str:
    """A sentence for a message on those of the names that classes had before; may be empty."""
    told = [
        f"{name!r} is called {renamed[name]!r} now" for name in sorted(names) if name in renamed
    ]
    return f"{', '.join(told)}. " if told else ""


MOST_QUESTIONS = 3
"""Names in a message that are compared with those that are known."""


def perhaps(unknown: Collection[str], known: Collection[str]) -> str:
    """Questions for a message on names that are nearly those of known classes; may be empty."""
    near = [(name, nearest(name, known)) for name in sorted(unknown)[:MOST_QUESTIONS]]
    return "".join(f"Did you mean {meant!r} for {name!r}? " for name, meant in near if meant)


def warn_of_alike(new: Collection[str], known: Collection[str]) -> None:
    """Say of new classes that their name is that of a known one but for case, spaces and signs."""
    by_letters = {_letters(name): name for name in known}
    for name in sorted(new):
        if meant := by_letters.get(_letters(name)):
            log.warning(
                "%r is a new class beside %r. Where they are the same, unite them with `tlcli "
                "rename-classes`",
                name,
                meant,
            )


def _letters(name: str) -> str:
    """A name without what people write in one way and another; all of it where nothing is left."""
    return re.sub(r"[\W_]", "", name).casefold() or name


def warn_of_former(new: Collection[str], renamed: Mapping[str, str]) -> None:
    """Say of new classes that another class had their name before."""
    for name in sorted(set(new) & renamed.keys()):
        log.warning(
            "%r is a new class: the one that had this name is called %r now. Where they are the "
            "same, unite them with `tlcli rename-classes`",
            name,
            renamed[name],
        )
