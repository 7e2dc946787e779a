"""A model's config in words that older releases of Keras know too."""

from typing import Any

OLDEST_KERAS = "3.4.0"
"""The oldest release that reads what is written here."""

DEFAULTS: dict[str, Any] = {
    "input_axes": None,
    "output_axes": None,
    "quantization_config": None,
    "renorm": False,
    "renorm_clipping": None,
    "renorm_momentum": 0.99,
}
"""Keys that came after `OLDEST_KERAS`, with what Keras takes where they are left out."""

UNNAMED = frozenset({"Flip", "Split"})
"""Operations that older releases give a name themselves; the layers around them do not use it."""


def portable(config: Any) -> Any:
    """The same config without what says nothing, and what older releases do not know."""
    if isinstance(config, list | tuple):
        return [portable(entry) for entry in config]
    if not isinstance(config, dict):
        return config
    written = {key: portable(value) for key, value in config.items() if _says(key, value)}
    kind, inner = config.get("class_name"), written.get("config")
    if isinstance(kind, str) and kind in UNNAMED and isinstance(inner, dict):
        inner.pop("name", None)
    return written


def _says(key: str, value: Any) -> bool:
    """Whether an entry says something else than its default."""
    return key not in DEFAULTS or value != DEFAULTS[key]
