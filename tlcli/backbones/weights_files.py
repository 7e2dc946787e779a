"""Weights for a backbone: ImageNet's, or those of a file, checked before they are used."""

import contextlib
import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from tlcli.backbones import archives, hdf5_layers, lite, table
from tlcli.backbones.runtime import first_line, keras_module, loading_errors
from tlcli.backbones.table import Architecture, weights_file
from tlcli.errors import UsageError, WeightsUnavailable

SUFFIXES = (".weights.h5", ".h5", ".keras")


def check_path(path: Path) -> None:
    """Raise UsageError unless the path is a file with a suffix that can be read."""
    if not path.name.endswith(SUFFIXES):
        raise UsageError(
            f"Expected imagenet, none or a file ending in {', '.join(SUFFIXES)}. "
            f"Received: weights={path}."
        )
    if not path.is_file():
        raise UsageError(f"Expected a file with weights. Received: weights={path}, no such file.")


def load_imagenet(model: Any, row: Architecture) -> None:
    """Give a backbone its ImageNet weights, from the package, Keras' cache or its download.

    Raises:
        WeightsUnavailable: they are not here and cannot be downloaded.
    """
    if row.builder:
        _load_application(model, row)
        return
    for name, values in lite.imagenet_weights(row, packaged(row)).items():
        model.get_layer(name).set_weights(values)


def packaged(row: Architecture) -> Path:
    """Return the weights of a backbone in its package.

    Raises:
        WeightsUnavailable: it is not installed.
    """
    path = weights_file(row)
    if not path.is_file():
        raise WeightsUnavailable(
            f"Expected the installed weights of {row.name}. Received: {path}, no such "
            f"file. Install {row.install}, or use --weights none."
        )
    return path


def _load_application(model: Any, row: Architecture) -> None:
    options = {"include_top": False, "pooling": "avg", "input_shape": model.input_shape[1:]}
    _copy_application(model, row, options, "--weights FILE or --weights none")


def load_whole_application(model: Any, row: Architecture) -> None:
    """Give a Keras application with its top its ImageNet weights.

    Raises:
        WeightsUnavailable: they are not here and cannot be downloaded.
    """
    _copy_application(model, row, {"include_top": True}, "or --weights FILE of the whole network")


def _copy_application(model: Any, row: Architecture, options: dict[str, Any], way_out: str) -> None:
    """Build the application with Keras' own weights and copy them.

    Keras decides which file fits the image size, where it comes from and what its
    checksum is. EfficientNetB0 to B7 come with a layer more than without weights.
    """
    silent = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(silent), _Download(row, way_out):
        warnings.simplefilter("ignore")  # "weights for 224 pixels will be loaded"
        constructor = getattr(keras_module().applications, row.builder)
        source = constructor(weights="imagenet", **options)
    model.set_weights(source.get_weights())
    _fold_imagenet_deviation(model)


class _Download:
    """Turns what Keras raises for a failed download into WeightsUnavailable.

    Keras raises a bare `Exception` from the network's error, and ValueError for a file
    whose checksum is wrong.
    """

    def __init__(self, row: Architecture, way_out: str) -> None:
        self._row, self._way_out = row, way_out

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            return
        if isinstance(error, OSError | ValueError) or isinstance(error.__context__, OSError):
            raise WeightsUnavailable(
                f"Expected ImageNet weights for {self._row.name} in Keras' cache or by "
                f"download. Received: {first_line(error)}. Use --backbone EfficientNetLite0 "
                f"(its weights are installed), {self._way_out}."
            ) from error


def load_file(model: Any, path: Path, hint: str = hdf5_layers.NO_TOP) -> None:
    """Give a backbone the weights of a file, in the format that its suffix names.

    Args:
        model: the backbone, with any weights.
        path: `.h5` or `.weights.h5` of the backbone without its top; `.keras` of a model
            whose first weights are those of the backbone, a classifier for example.
        hint: which file to use instead of one that does not fit.

    Raises:
        UsageError: the file is damaged, unsafe, or does not fit.
    """
    if path.name.endswith(".keras"):
        _load_keras_archive(model, path)
    else:
        _load_hdf5(model, path, hint)
    _check_finite(model, path)
    _fold_imagenet_deviation(model)


def _check_finite(model: Any, path: Path) -> None:
    for variable in model.weights:
        if not np.isfinite(variable.numpy()).all():
            raise UsageError(
                f"Expected finite weights. Received: weights={path}, "
                f"{variable.path} has NaN or infinite values. Use another file."
            )


def _fold_imagenet_deviation(model: Any) -> None:
    """Make EfficientNetB0 to B7 with ImageNet's statistics compute what Keras' do.

    Those weights hold the standard deviation where the layer expects the variance, and
    Keras makes up for it with another division by sqrt(deviation), which it adds for
    weights="imagenet" but not for a file (keras/src/applications/efficientnet.py). Here
    the variance becomes deviation² instead. It is left alone where that was done before,
    and in networks trained from scratch, whose mean is 0.
    """
    for layer in model.layers:
        if not isinstance(layer, keras_module().layers.Normalization) or not layer.weights:
            continue
        mean, variance, count = layer.get_weights()
        deviation = np.array(table.IMAGENET_DEVIATION, np.float32)
        folded = np.allclose(variance, deviation**2, atol=1e-3)
        if np.allclose(mean, table.IMAGENET_MEAN, atol=1e-2) and not folded:
            layer.set_weights([mean, variance * deviation, count])
        layer.finalize_state()  # the layer computes with copies of its weights


def _load_hdf5(model: Any, path: Path, hint: str) -> None:
    with _reading(path):
        with h5py.File(path, "r") as file:
            hdf5_layers.require_own(file, path.stat().st_size)
            if hdf5_layers.is_whole_model(file):
                _take_leading(model, hdf5_layers.legacy_values(file), path)
                return
            if path.name.endswith(".weights.h5"):
                found, wanted = hdf5_layers.found_by_path(file, model)
            else:
                found, wanted = (
                    hdf5_layers.legacy_layers(file),
                    hdf5_layers.model_layers(model.layers),
                )
        hdf5_layers.check_layers(found, wanted, path, hint)
        model.load_weights(str(path))


def _reading(path: Path) -> AbstractContextManager[None]:
    advice = "The file is damaged or is no such file: get it again."
    return reading_errors("weights that Keras can read", f"weights={path}", advice)


@contextlib.contextmanager
def reading_errors(expected: str, received: object, advice: str) -> Iterator[None]:
    """Turn what reading a damaged or hostile file raises into a UsageError."""
    try:
        yield
    except loading_errors() as error:
        raise UsageError(
            f"Expected {expected}. Received: {received}, {first_line(error)}. {advice}"
        ) from error


def _load_keras_archive(model: Any, path: Path) -> None:
    """Copy the leading weights of a Keras model into the backbone."""
    with _reading(path):
        check_archive(path)
        source = keras_module().saving.load_model(path, compile=False, safe_mode=True)
        variables = list(source.weights)
    _take_leading(model, variables, path)


def _take_leading(model: Any, found: list[Any], path: Path) -> None:
    """Give a backbone the weights that a whole model begins with.

    Args:
        model: the backbone.
        found: variables, or what is like one in its path, shape and values.
        path: of the file.

    Raises:
        UsageError: it begins with another network.
    """
    orders = _orders(model)
    wanted = next((order for order in orders if _fits(found, order)), orders[0])
    _check_leading(found, wanted, path)
    for variable, saved in zip(wanted, found, strict=False):
        variable.assign(saved.numpy())


def _orders(model: Any) -> tuple[list[Any], ...]:
    """The orders in which files have a model's weights.

    As Keras has them; with those that are trained before the others, of the whole network, or of
    each layer.
    """
    return (
        list(model.weights),
        [*model.trainable_weights, *model.non_trainable_weights],
        [
            variable
            for layer in model.layers
            for variable in (*layer.trainable_weights, *layer.non_trainable_weights)
        ],
    )


def _fits(found: list[Any], wanted: list[Any]) -> bool:
    pairs = zip(found, wanted, strict=False)
    return len(found) >= len(wanted) and all(_same(saved, variable) for saved, variable in pairs)


def _same(saved: Any, variable: Any) -> bool:
    shapes = tuple(saved.shape) == tuple(variable.shape)
    return shapes and hdf5_layers.role(saved) == hdf5_layers.role(variable)


def check_archive(path: Path) -> None:
    """Raise an error that `reading_errors` knows for a damaged archive or one with links."""
    with zipfile.ZipFile(path) as archive:
        archives.require_bounded(archive, path.stat().st_size)
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"its part {damaged} is damaged")
        for name in archive.namelist():
            if name.endswith(".h5"):
                content = archive.read(name)
                with h5py.File(io.BytesIO(content), "r") as file:
                    hdf5_layers.require_own(file, len(content))


def _check_leading(found: list[Any], wanted: list[Any], path: Path) -> None:
    for saved, variable in zip(found, wanted, strict=False):
        if not _same(saved, variable):
            raise UsageError(
                f"Expected {variable.path} of shape {tuple(variable.shape)}. Received: "
                f"weights={path} with {saved.path} of shape {tuple(saved.shape)} in its "
                f"place. Use a model that begins with this backbone."
            )
    if len(found) < len(wanted):
        raise UsageError(
            f"Expected at least {len(wanted)} weights. Received: weights={path} with "
            f"{len(found)}. Use a model that begins with this backbone."
        )
