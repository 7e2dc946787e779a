"""The content of `round.json`: what a round is, and the hash of each of its files."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tlcli import files, strict
from tlcli.config import WIDEST
from tlcli.errors import RunError
from tlcli.strict import Malformed

FORMAT = 1

MOST_BYTES = 2**25
"""Of `round.json`: hundreds of thousands of classes."""

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
    decoder: tuple[str, ...]
    """The decoders that gave the pixels, see `images.DECODER`."""
    exact: bool
    config: dict[str, Any]
    versions: dict[str, str]
    created: str
    """UTC, ISO 8601."""
    drawing: dict[str, Any] = field(default_factory=dict)
    """How images are drawn to the square that the backbone takes, see `images.Square`."""
    learned_projection: str | None = None
    """Fingerprint of the projection that descriptors may use, see `features.learned`."""
    files: dict[str, str] = field(default_factory=dict)
    """Name of each file of the round → its SHA-256."""
    format: int = FORMAT

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in registry order."""
        return tuple(entry.name for entry in self.classes)

    @property
    def renames(self) -> dict[str, str]:
        """Class of the parent → its new name, of those that the round renamed."""
        return dict(self.config.get("renames", {}))


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
        content = strict.at_least(format=_WHOLE)(
            strict.json_of(strict.content_of(path, MOST_BYTES))
        )
        _refuse_newer(path, content["format"])
        if content.pop("sha256", None) != _digest(content):
            raise Malformed("its checksum does not match")
        return _consistent(
            _MANIFEST({"decoder": [], "learned_projection": None, **content}), folder
        )
    except (OSError, ValueError) as error:
        files.require_resources(error, path)
        raise RunError(
            f"Expected the manifest of a round. Received: {path} is damaged ({error}). "
            f"Run `tlcli rounds verify {folder.parent.parent}` to see what else is."
        ) from error


def _file_name(value: Any) -> str:
    """The name of a file that lies in the folder of the round itself."""
    name = strict.NAME(value)
    if Path(name).name != name or name in ("..", MANIFEST):
        raise Malformed(f"{strict.shown(name)} is no file of a round")
    return name


_WHOLE = strict.whole(1, 2**31)

_TEXT = strict.text()

_MANIFEST = strict.record(
    Manifest,
    round=_WHOLE,
    parent=strict.optional(_WHOLE),
    command=strict.NAME,
    strategy=strict.optional(strict.NAME),
    head=strict.NAME,
    head_options=strict.mapping(strict.NAME, strict.NAME),
    backbone=strict.NAME,
    backbone_fingerprint=strict.HEX_DIGEST,
    projection=strict.optional(
        strict.table(
            width=strict.whole(1, WIDEST),
            bits=strict.whole(-999, 999),
            seed=strict.whole(0, 2**32 - 1),
        )
    ),
    classes=strict.listing(
        strict.record(
            RegisteredClass, name=strict.NAME, introduced_in_round=_WHOLE, identifier=strict.NAME
        )
    ),
    memory=strict.NAME,
    memory_sha256=strict.optional(strict.HEX_DIGEST),
    arithmetic=strict.listing(strict.NAME, 1000),
    decoder=strict.listing(strict.NAME, 1000),
    exact=strict.truth,
    config=strict.mapping(_TEXT, strict.anything),
    versions=strict.mapping(strict.NAME, _TEXT),
    created=strict.NAME,
    drawing=strict.mapping(strict.NAME, strict.anything),
    learned_projection=strict.optional(strict.HEX_DIGEST),
    files=strict.mapping(_file_name, strict.HEX_DIGEST),
    format=_WHOLE,
)


def _consistent(manifest: Manifest, folder: Path) -> Manifest:
    """It, unless it is of another round, or contradicts itself."""
    number = manifest.round
    if round_name(number) != folder.name:
        raise Malformed(f"it is of round {number}")
    if manifest.parent is not None and manifest.parent >= number:
        raise Malformed(f"its parent is round {manifest.parent}")
    strict.unique(manifest.class_names, "classes")
    if later := [entry for entry in manifest.classes if entry.introduced_in_round > number]:
        raise Malformed(f"it is older than its class {strict.shown(later[0].name)}")
    return manifest


def _refuse_newer(path: Path, found: int) -> None:
    if found > FORMAT:
        raise RunError(
            f"Expected round format {FORMAT} or older. Received: {path} has format {found}. "
            "Upgrade tlcli; the run was left untouched."
        )


def _digest(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()
