"""What a run is asked to remember, and what it remembers next."""

from tlcli.config import MemoryOptions
from tlcli.errors import UsageError
from tlcli.memory.state import Memory, require_known
from tlcli.memory.table import SETTINGS, Setting

DEFAULT_EXEMPLARS = 20


def require_memory(asked: MemoryOptions) -> None:
    """Refuse, before any image is read, a memory that does not exist.

    Raises:
        UsageError: there is no such setting, or it has no exemplars.
    """
    if asked.memory is not None:
        require_known(asked.memory)
    if asked.exemplars_per_class is not None and not keeps_first(asked).rows:
        raise UsageError(
            f"Expected --memory exemplars or features with --exemplars-per-class. "
            f"Received: memory={asked.memory!r}. Leave one of them out."
        )


def first_setting(asked: MemoryOptions) -> tuple[str, int | None]:
    """Setting and exemplars per class of a run that begins."""
    per_class = asked.exemplars_per_class
    setting = asked.memory or ("moments" if per_class is None else "exemplars")
    if SETTINGS[setting].exemplars and per_class is None:
        per_class = DEFAULT_EXEMPLARS
    return setting, per_class


def keeps_first(asked: MemoryOptions) -> Setting:
    """What a run that begins will keep."""
    return SETTINGS[first_setting(asked)[0]]


def turns(asked: MemoryOptions, current: Memory) -> bool:
    """Whether the memory is asked to become another one."""
    return next_setting(asked, current) != (current.setting, current.exemplars_per_class)


def next_setting(asked: MemoryOptions, current: Memory) -> tuple[str, int | None]:
    """Setting and exemplars per class of the next round."""
    setting = asked.memory
    if setting is None:
        kept = asked.exemplars_per_class is None or current.keeps.every_feature
        setting = current.setting if kept else "exemplars"
    if not SETTINGS[setting].exemplars:
        return setting, None
    return setting, exemplars_per_class(asked, current)


def keeps_next(asked: MemoryOptions, current: Memory) -> Setting:
    """What the next round will keep."""
    return SETTINGS[next_setting(asked, current)[0]]


def exemplars_per_class(asked: MemoryOptions, current: Memory) -> int:
    """How many images of a class are rehearsed, and kept where the memory keeps them."""
    chosen = asked.exemplars_per_class or current.exemplars_per_class
    return chosen or DEFAULT_EXEMPLARS
