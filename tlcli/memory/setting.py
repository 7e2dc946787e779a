"""What a run is asked to remember, and what it remembers next."""

from tlcli.config import MemoryOptions
from tlcli.errors import UsageError
from tlcli.memory.state import Memory, require_known

DEFAULT_EXEMPLARS = 20


def require_memory(asked: MemoryOptions) -> None:
    """Refuse, before any image is read, a memory that does not exist.

    Raises:
        UsageError: there is no such setting, or it has no exemplars.
    """
    if asked.memory is not None:
        require_known(asked.memory)
    if asked.exemplars_per_class is not None and asked.memory in ("none", "moments"):
        raise UsageError(
            f"Expected --memory exemplars or features with --exemplars-per-class. "
            f"Received: memory={asked.memory!r}. Leave one of them out."
        )


def turns(asked: MemoryOptions, current: Memory) -> bool:
    """Whether the memory is asked to become another one."""
    return next_setting(asked, current) != (current.setting, current.exemplars_per_class)


def next_setting(asked: MemoryOptions, current: Memory) -> tuple[str, int | None]:
    """Setting and exemplars per class of the next round."""
    setting = asked.memory
    if setting is None:
        kept = asked.exemplars_per_class is None or current.setting == "features"
        setting = current.setting if kept else "exemplars"
    if setting != "exemplars":
        return setting, None
    return setting, exemplars_per_class(asked, current)


def exemplars_per_class(asked: MemoryOptions, current: Memory) -> int:
    """How many images of a class are rehearsed, and kept where the memory keeps them."""
    chosen = asked.exemplars_per_class or current.exemplars_per_class
    return chosen or DEFAULT_EXEMPLARS
