"""The backbone that a run begins with: built, or taken from another run."""

from pathlib import Path
from typing import Any

from tlcli import backbones, runs
from tlcli.backbones import StoredBackbone
from tlcli.config import PretrainConfig
from tlcli.errors import UsageError


def require_matching_backbone(config: PretrainConfig) -> None:
    """Refuse, before any image is read, a backbone that the weights cannot be of."""
    if config.backbone:
        backbones.architecture(config.backbone)
    if not Path(config.weights).is_dir():
        return
    stored = backbone_of_run(Path(config.weights))
    for option, wanted, given in (
        ("backbone", config.backbone, stored.name),
        ("image-size", config.image_size, stored.image_size),
        ("precision", config.precision, stored.precision),
    ):
        if wanted not in (None, given):
            raise UsageError(
                f"Expected the {option} of the run {config.weights}: {given}. "
                f"Received: {option}={wanted}. Leave --{option} out."
            )


def build(config: PretrainConfig) -> Any:
    """The backbone with the weights that were asked for."""
    source = Path(config.weights)
    if source.is_dir():
        return backbones.load_model(backbone_of_run(source))
    name, seed = name_of(config), config.training.seed
    return backbones.build(name, config.image_size, config.weights, seed)


def name_of(config: PretrainConfig) -> str:
    """The row of the backbone in the table."""
    if Path(config.weights).is_dir():
        return backbone_of_run(Path(config.weights)).name
    return config.backbone or backbones.DEFAULT_BACKBONE


def backbone_of_run(path: Path) -> StoredBackbone:
    """The backbone of the current round of a run."""
    run = runs.open_run(path)
    fingerprint = run.round().manifest.backbone_fingerprint
    return backbones.load_stored(run.backbone_folder(fingerprint))


def size_of(model: Any) -> int:
    """Side of the images that a backbone takes."""
    return int(model.input_shape[1])
