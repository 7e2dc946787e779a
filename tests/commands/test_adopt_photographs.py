"""tlcli adopt on classifiers that plain Keras scripts have trained on photographs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CommandLine
from tests.support.runtimes import RUNTIMES
from tests.support.scripts import SCRIPTS, SIZE, Script, probabilities
from tlcli import backbones
from tlcli.formats import FORMATS

SHARED = Path(__file__).parents[3] / "shared"
CALTECH, WEIGHTS = SHARED / "data" / "caltech51", SHARED / "weights"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CALTECH.is_dir(), reason="the photographs are not beside the checkout"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file"),
]

OLD, NEW = ("pizza", "watch", "butterfly"), "lotus"
LEARNED, ASKED = 30, 200


@dataclass(frozen=True, eq=False)
class Photographs:
    """Of the size of the networks, so that nobody draws them otherwise."""

    folder: Path

    def of(self, name: str) -> list[Path]:
        return sorted((self.folder / name).glob("*.png"))

    @property
    def asked(self) -> list[Path]:
        """Of classes that are learned and of others."""
        return sorted(self.folder.rglob("*.png"))[:ASKED]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    folder = tmp_path_factory.mktemp("photographs")
    for name in (*OLD, NEW, "panda", "stop_sign"):
        (folder / name).mkdir()
        for path in sorted((CALTECH / name).iterdir())[:50]:
            with Image.open(path) as image:
                drawn = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            drawn.save(folder / name / f"{path.stem}.png")
    return Photographs(folder)


def pixels_of(paths: Sequence[Path]) -> Any:
    return np.stack([np.asarray(Image.open(path), np.float32) for path in paths])


def answers(tlcli: CommandLine, run: Path, paths: Sequence[Path]) -> tuple[Any, list[str]]:
    """Probabilities in the order of the registry, and labels."""
    names = tlcli.json("rounds", "show", run)["classes"]
    order = [entry["name"] for entry in names]
    lines = tlcli("predict", run, *paths, "--json", "--top", len(order)).splitlines()
    found = {entry["path"]: entry for entry in map(json.loads, lines)}
    tops = [{one["label"]: one["probability"] for one in found[str(p)]["top"]} for p in paths]
    return np.array([[top[name] for name in order] for top in tops]), [
        found[str(path)]["label"] for path in paths
    ]


def trained(script: Script, photographs: Photographs, path: Path) -> Any:
    backbones.keras_module().utils.set_random_seed(1)
    learned = [photographs.of(name)[:LEARNED] for name in OLD[: script.classes]]
    numbers = np.repeat(np.arange(len(learned)), [len(paths) for paths in learned])
    images = pixels_of([each for paths in learned for each in paths])
    order = np.random.default_rng(0).permutation(len(images))
    model = script.train(images[order], numbers[order], WEIGHTS)
    model.save(path)
    return model


def sample_of(photographs: Photographs, names: Sequence[str], tmp_path: Path) -> Path:
    """Some photographs of the old kinds, without labels, that the script has not learned."""
    folder = tmp_path / "usual"
    folder.mkdir()
    for name in names:
        for each in photographs.of(name)[LEARNED:]:
            (folder / f"{name} {each.name}").write_bytes(each.read_bytes())
    return folder


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_goes_on_as_a_run(
    tlcli: CommandLine, photographs: Photographs, tmp_path: Path, name: str
) -> None:
    script, run = SCRIPTS[name], tmp_path / "run"
    path = tmp_path / f"model{script.suffix}"
    model = trained(script, photographs, path)
    names = OLD[: script.classes]
    (tmp_path / "names.txt").write_text("\n".join(names))
    given = ("--classes", tmp_path / "names.txt")
    scaling = () if script.scaling is None else ("--scaling", script.scaling)
    adopted = tlcli.json("adopt", path, *given, *scaling, "--out", run)
    assert adopted["classes"] == [*names]

    asked = photographs.asked
    assert len(asked) == ASKED
    expected = probabilities(script, model, pixels_of(asked))
    received, labels = answers(tlcli, run, asked)
    np.testing.assert_allclose(received, expected, atol=1e-4)
    assert labels == [names[column] for column in expected.argmax(axis=1)]

    more = tmp_path / "more" / NEW
    more.mkdir(parents=True)
    for each in photographs.of(NEW)[:20]:
        (more / each.name).write_bytes(each.read_bytes())
    usual: tuple[object, ...] = ()
    if not script.tells:
        assert "--sample DIR" in tlcli.error(2, "extend-classes", run, more.parent)
        usual = ("--sample", sample_of(photographs, names, tmp_path))
    grown = tlcli.json("extend-classes", run, more.parent, *usual)
    assert (grown["strategy"], grown["classes"]) == ("freeze-old", [*names, NEW])
    after, _ = answers(tlcli, run, asked)
    kept = after[:, : len(names)] / after[:, : len(names)].sum(axis=1, keepdims=True)
    sure = after[:, : len(names)].sum(axis=1) > 1e-3
    np.testing.assert_allclose(kept[sure], received[sure], atol=1e-3)

    few = asked[:: len(asked) // 8][:8]
    for format_name, row in FORMATS.items():
        exported = tmp_path / f"exported{row.suffix}"
        tlcli("export", run, "--format", format_name, "--out", exported)
        found, classes = RUNTIMES[format_name](exported, pixels_of(few))
        assert classes == [*names, NEW]
        rows = [asked.index(each) for each in few]
        np.testing.assert_allclose(found, after[rows], atol=1e-3)
