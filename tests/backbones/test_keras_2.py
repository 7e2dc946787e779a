"""Models that Keras 2 saved, in each of its three formats; see tests/support/keras_2.py."""

import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.conftest import CommandLine
from tests.support import keras_2
from tlcli import backbones
from tlcli.backbones.keras_2 import otherwise, upgraded
from tlcli.errors import UsageError

METADATA = "keras_metadata.pb"

Saved = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """The files, and what the models in them answer."""
    folder = tmp_path_factory.mktemp("keras_2")
    return folder, keras_2.unpacked(folder)


@pytest.fixture
def copy(saved: Saved, tmp_path: Path) -> Path:
    """A folder of Keras 2, to be damaged."""
    return shutil.copytree(saved[0] / "nested", tmp_path / "nested")


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(UsageError) as caught:
        backbones.read_classifier(path)
    message = str(caught.value)
    assert message.startswith("Expected ")
    assert "\n" not in message
    assert [part for part in (str(path), *parts) if part not in message] == []


@pytest.mark.parametrize("suffix", keras_2.SUFFIXES)
@pytest.mark.parametrize("name", ["nested", "plain"])
def test_what_keras_2_saved_answers_as_it_did(saved: Saved, name: str, suffix: str) -> None:
    folder, answers = saved
    model = backbones.read_classifier(folder / f"{name}{suffix}").model
    found = model.predict(keras_2.images(), verbose=0)
    np.testing.assert_allclose(found, answers[name], atol=1e-6)


@pytest.mark.parametrize("suffix", keras_2.SUFFIXES)
def test_code_in_it_is_refused_by_name(saved: Saved, suffix: str) -> None:
    refused(saved[0] / f"code{suffix}", "layer lambda", "without code of its own")


def test_a_folder_becomes_a_run(tlcli: CommandLine, saved: Saved, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    words = ("adopt", saved[0] / "nested", "--classes", tmp_path / "names.txt", "--out")
    found = tlcli.json(*words, tmp_path / "run")
    assert found["classes"] == ["cat", "dog"]
    assert found["adoption"]["deviation"] < 1e-5
    assert found["adoption"]["scaled_by"] is not None
    assert len(found["adoption"]["sha256"]) == 64
    assert "nothing to do" in tlcli(*words, tmp_path / "run")


def test_a_folder_is_known_by_all_that_is_read_of_it(copy: Path) -> None:
    before = backbones.classifier_digest(copy)
    (copy / "saved_model.pb").write_bytes(b"a graph")
    assert backbones.classifier_digest(copy) == before
    weights = next((copy / "variables").glob("*.data-*"))
    weights.write_bytes(weights.read_bytes()[::-1])
    assert backbones.classifier_digest(copy) != before


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_damaged_metadata_are_refused(copy: Path, size: int) -> None:
    content = (copy / METADATA).read_bytes()
    (copy / METADATA).write_bytes(content[:size])
    refused(copy, "model.save('model.keras')")


def test_weights_of_another_model_are_refused(saved: Saved, copy: Path) -> None:
    shutil.rmtree(copy / "variables")
    refused(copy, "model.save('model.keras')")
    shutil.copytree(saved[0] / "plain" / "variables", copy / "variables")
    refused(copy, "model.save('model.keras')")


def test_a_weight_of_another_shape_is_refused(copy: Path) -> None:
    content = (copy / METADATA).read_bytes()
    assert b'"filters": 5' in content
    (copy / METADATA).write_bytes(content.replace(b'"filters": 5', b'"filters": 6'))
    refused(copy, "of shape")


def layer(kind: str, module: str | None = None, **config: Any) -> dict[str, Any]:
    found = {"class_name": kind, "config": config}
    return found if module is None else found | {"module": module}


def test_what_a_layer_no_longer_knows_goes_where_it_said_nothing() -> None:
    idle = upgraded(layer("DepthwiseConv2D", kernel_size=3, groups=1))
    assert idle["config"] == {"kernel_size": 3}
    assert upgraded(layer("DepthwiseConv2D", groups=2))["config"] == {"groups": 2}
    assert upgraded(layer("BatchNormalization", axis=[3]))["config"] == {"axis": 3}
    assert upgraded(layer("BatchNormalization", axis=[1, 2]))["config"] == {"axis": [1, 2]}
    assert upgraded(layer("LSTM", time_major=True))["config"] == {"time_major": True}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("SpatialDropout2D", {"rate": 0.3, "noise_shape": None, "seed": None, "trainable": False}),
        ("Conv2DTranspose", {"filters": 2, "kernel_size": 3, "groups": 1}),
        ("GRU", {"units": 2, "time_major": False, "implementation": 2}),
    ],
)
def test_a_layer_is_built_of_what_keras_2_said(kind: str, config: dict[str, Any]) -> None:
    built = backbones.keras_module().layers.deserialize(upgraded(layer(kind, **config)))
    assert type(built).__name__ == kind


@pytest.mark.parametrize("activation", ["hard_sigmoid", {"config": "hard_sigmoid"}])
def test_what_answers_otherwise_is_found_in_models_within_models(activation: Any) -> None:
    inner = layer("Sequential", name="in", layers=[layer("LSTM", recurrent_activation=activation)])
    crop = layer("RandomCrop", name="crop", height=8, width=8)
    mine = layer("RandomCrop", "mine.layers", name="own")
    found = otherwise(layer("Sequential", name="out", layers=[crop, mine, inner]))
    assert [what for _, what, _ in found] == ["RandomCrop", "hard_sigmoid"]


@pytest.mark.parametrize("version", ["2.15.0", None])
def test_a_model_that_answers_otherwise_is_refused(
    saved: Saved, tmp_path: Path, version: str | None
) -> None:
    path = Path(shutil.copy(saved[0] / "plain.h5", tmp_path / "old.h5"))
    with h5py.File(path, "r+") as file:
        said = file.attrs["model_config"]
        file.attrs["model_config"] = said.replace('"relu"', '"hard_sigmoid"')
        del file.attrs["keras_version"]
        if version is not None:
            file.attrs["keras_version"] = version
    refused(path, "hard_sigmoid in the layer conv2d", "Rescaling(0.2, 0.5) and ReLU(1.0)")


@pytest.mark.parametrize("suffix", ["", ".h5"])
def test_a_layer_may_have_a_name_with_a_slash(saved: Saved, tmp_path: Path, suffix: str) -> None:
    folder, answers = saved
    path = tmp_path / f"nested{suffix}"
    if suffix:
        with h5py.File(shutil.copy(folder / path.name, path), "r+") as file:
            said = file.attrs["model_config"]
            file.attrs["model_config"] = said.replace("separable_conv2d", "separable/conv2d")
    else:
        said = shutil.copytree(folder / "nested", path) / METADATA
        said.write_bytes(said.read_bytes().replace(b"separable_conv2d", b"separable/conv2d"))
    model = backbones.read_classifier(path).model
    found = model.predict(keras_2.images(), verbose=0)
    np.testing.assert_allclose(found, answers["nested"], atol=1e-6)


def test_a_file_that_does_not_say_its_version_is_read(saved: Saved, tmp_path: Path) -> None:
    folder, answers = saved
    path = Path(shutil.copy(folder / "nested.h5", tmp_path / "old.h5"))
    with h5py.File(path, "r+") as file:
        del file.attrs["keras_version"]
    found = backbones.read_classifier(path).model.predict(keras_2.images(), verbose=0)
    np.testing.assert_allclose(found, answers["nested"], atol=1e-6)


def test_the_innermost_error_is_told(saved: Saved, tmp_path: Path) -> None:
    path = Path(shutil.copy(saved[0] / "plain.h5", tmp_path / "old.h5"))
    with h5py.File(path, "r+") as file:
        said = file.attrs["model_config"]
        file.attrs["model_config"] = said.replace('"filters": 4', '"filters": 4, "odd": 1')
    refused(path, "{'odd': 1}", "set_weights")


@pytest.mark.parametrize("module", ["mine.layers", "__main__"])
def test_a_class_of_somebody_else_stays_one(module: str) -> None:
    assert upgraded(layer("Dense", module, units=3))["module"] == module
    own = layer("Dense", "keras.layers", units=3) | {"registered_name": "Mine>Dense"}
    assert upgraded(own)["registered_name"] == "Mine>Dense"


def operation(function: str, **arguments: Any) -> dict[str, Any]:
    inbound = [["image", 0, 0, arguments]]
    return layer("TFOpLambda", function=function) | {"name": "op", "inbound_nodes": inbound}


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("math.truediv", 2.5),
        ("math.divide", 2.5),
        ("math.multiply", 40),
        ("math.subtract", 6),
        ("math.add", 14),
        ("__operators__.add", 14),
    ],
)
def test_arithmetic_with_a_number_is_a_rescaling(function: str, expected: float) -> None:
    found = upgraded(operation(function, y=4, name=None))
    assert found["class_name"] == "Rescaling"
    assert 10 * found["config"]["scale"] + found["config"]["offset"] == expected
    assert found["inbound_nodes"] == [[["image", 0, 0, {}]]]


@pytest.mark.parametrize(
    "given",
    [
        operation("math.truediv", y=0),
        operation("math.truediv", y=[1, 2]),
        operation("math.truediv"),
        operation("math.pow", y=2),
        operation("math.subtract", y=1) | {"inbound_nodes": [["_CONSTANT_VALUE", -1, 1.0, {}]]},
        operation("math.subtract", y=1) | {"inbound_nodes": []},
    ],
)
def test_other_operations_stay_what_they_are(given: dict[str, Any]) -> None:
    assert upgraded(json.loads(json.dumps(given)))["class_name"] == "TFOpLambda"


def test_a_sequential_model_whose_first_layer_says_the_shape_has_an_input() -> None:
    first = layer("Rescaling", scale=2.0, offset=0.0, batch_input_shape=[None, 8, 8, 3])
    found = upgraded(layer("Sequential", name="old", layers=[first]))
    model = backbones.keras_module().models.model_from_json(json.dumps(found))
    assert model.input_shape == (None, 8, 8, 3)


@pytest.mark.parametrize("old", [1, 0])
def test_a_model_within_a_model_is_called_as_often_as_it_is(old: int) -> None:
    """Keras 2 counts a call of the inner model by itself; Keras 3 does not."""
    image = layer("InputLayer", batch_input_shape=[None, 8, 8, 3], name="image")
    twice = layer("Rescaling", scale=2.0, offset=0.0, name="twice")
    inner = layer("Sequential", name="inner", layers=[image, twice])
    layers = [
        image | {"name": "image", "inbound_nodes": []},
        inner | {"name": "inner", "inbound_nodes": [[["image", 0, 0, {}]]]},
    ]
    whole = layer("Functional", name="whole", layers=layers)
    whole["config"] |= {"input_layers": [["image", 0, 0]], "output_layers": [["inner", old, 0]]}
    found = upgraded(whole)
    model = backbones.keras_module().models.model_from_json(json.dumps(found))
    assert float(model(np.ones((1, 8, 8, 3), np.float32))[0, 0, 0, 0]) == 2.0
