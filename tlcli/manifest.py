"""The content of `round.json`: what a round is, and the hash of each of its files."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tlcli import files
from tlcli.errors import RunError

FORMAT = 1
MANIFEST = "round.json"


@dataclass(frozen=True)
class RegisteredClass:
    """A class of the registry, which is append-only."""

    name: str
    introduced_in_round: int
    identifier: str = ""
    """What it is called elsewhere: a WordNet identifier for a class of ImageNet."""

    def to_json(self) -> dict[str, Any]:
        """Its entry in `round.json`; an identifier only where there is one."""
        return {key: value for key, value in asdict(self).items() if value != ""}


@dataclass(frozen=True)
class Manifest:
    """The content of `round.json`."""

    round: int
    parent: int | None
    command: str
    strategy: str | None
    head: str
    head_options: dict[str, str]
    backbone: str
    backbone_fingerprint: str
    projection: dict[str, int] | None
    """Width and seed of the random projection of the features, where there is one."""
    classes: tuple[RegisteredClass, ...]
    memory: str
    memory_sha256: str | None
    """Digest of the moments; None where none are kept."""
    arithmetic: tuple[str, ...]
    """The kinds of arithmetic that gave the features, see `tlcli.arithmetic`."""
    exact: bool
    config: dict[str, Any]
    versions: dict[str, str]
    created: str
    """UTC, ISO 8601."""
    files: dict[str, str] = field(default_factory=dict)
    """Name of each file of the round → its SHA-256."""
    format: int = FORMAT

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in registry order."""
        return tuple(entry.name for entry in self.classes)


def round_name(number: int) -> str:
    """The name of a round's folder."""
    return f"{number:04d}"


def write_manifest(manifest: Manifest, folder: Path) -> None:
    """Write `round.json`, with a checksum of its own, into the folder of a round.

    Raises:
        StorageError: it cannot be saved.
    """
    classes = [entry.to_json() for entry in manifest.classes]
    content = json.loads(json.dumps(asdict(manifest) | {"classes": classes}))
    files.write_json(folder / MANIFEST, {**content, "sha256": _digest(content)})


def read_manifest(folder: Path) -> Manifest:
    """The manifest in the folder of a round.

    Raises:
        RunError: it is damaged, newer than this program, or of another round.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text("utf-8"))
        _refuse_newer(path, content)
        if content.pop("sha256") != _digest(content):
            raise ValueError("its checksum does not match")
        if round_name(content["round"]) != folder.name:
            raise ValueError(f"it is of round {content['round']}")
        if foreign := [
            name for name in content["files"] if Path(name).name != name or name == ".."
        ]:
            raise ValueError(f"it names {foreign[0]!r}, which is no file of a round")
        classes = tuple(RegisteredClass(**entry) for entry in content.pop("classes"))
        kinds = tuple(content.pop("arithmetic"))
        return Manifest(classes=classes, arithmetic=kinds, **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        files.require_resources(error, path)
        raise RunError(
            f"Expected the manifest of a round. Received: {path} is damaged ({error}). "
            f"Run `tlcli rounds verify {folder.parent.parent}` to see what else is."
        ) from error


def _refuse_newer(path: Path, content: dict[str, Any]) -> None:
    if content["format"] > FORMAT:
        raise RunError(
            f"Expected round format {FORMAT} or older. Received: {path} has format "
            f"{content['format']}. Upgrade tlcli; the run was left untouched."
        )


def _digest(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
