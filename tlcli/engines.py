"""Engines: the frozen forward pass of a stored backbone, from raw images to feature vectors."""

import logging
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from tlcli import arithmetic, backbones, images
from tlcli.backbones import StoredBackbone
from tlcli.errors import EngineUnavailable, UsageError, require_choice
from tlcli.images import ImageFile, Tones

ENGINES = ("auto", "keras", "openvino")
"""What `--engine` can be. `auto` is Keras where there is a GPU, else OpenVINO where it runs."""

KERAS_BATCH = 32

log = logging.getLogger(__name__)

T = TypeVar("T")

Image = NDArray[np.uint8] | NDArray[np.float32]
Images = Iterable[Image]
Vectors = Generator[NDArray[np.float32], None, None]


class Engine(Protocol):
    """Turns a stream of raw images into a stream of feature vectors."""

    def features(self, images: Images) -> Vectors:
        """Yield the vector (D,) of each image (S, S, 3), in input order.

        An image's vector has the same bits whatever comes before and after it. A bounded number
        of images is read ahead of the vectors that are yielded. Threads may call it side by side.
        """
        ...


@dataclass(frozen=True)
class KerasEngine:
    """The reference: the backbone run by Keras on whatever device TensorFlow finds."""

    predict: Callable[[NDArray[np.float32]], Any]

    @classmethod
    def of(cls, model: Any) -> Self:
        """What runs a `keras.Model` as in prediction."""
        import tensorflow

        @tensorflow.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
        def predict(batch: Any) -> Any:
            return model(batch, training=False)

        return cls(predict)

    def features(self, images: Images) -> Vectors:
        """See `Engine`. Batches are always full: a short one would change the last bits."""
        backbones.require_own_threads()
        for batch in _batches(images):
            padded = np.zeros((KERAS_BATCH, *batch[0].shape), np.float32)
            padded[: len(batch)] = batch
            yield from np.asarray(self.predict(padded), np.float32)[: len(batch)]


def _batches(images: Images) -> Iterator[list[Image]]:
    batch: list[Image] = []
    for image in images:
        batch.append(image)
        if len(batch) == KERAS_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


@dataclass(frozen=True)
class OpenVINOEngine:
    """The backbone run by OpenVINO on CPUs, an image a stream, without TensorFlow."""

    network: Any
    """`openvino.CompiledModel`, which many threads may use."""
    most: int
    """Images of one call that are computed at once: twice as many as there are streams, so that no
    stream waits for work."""
    _idle: deque[Any] = field(default_factory=deque)
    """Requests that no call uses; taken and given back in one step each."""

    def features(self, images: Images) -> Vectors:
        """See `Engine`. A request belongs to one call until its answer was copied."""
        backbones.require_own_threads()
        running: deque[tuple[Any, Image]] = deque()
        try:
            for image in images:
                if len(running) == self.most:
                    yield self._answer(running)
                request = self._request()
                # The image is kept beside the request, which reads it where it lies.
                request.start_async({0: image[None]}, share_inputs=True)
                running.append((request, image))
            while running:
                yield self._answer(running)
        finally:
            for request, _ in running:
                request.wait()
                self._idle.append(request)

    def _request(self) -> Any:
        try:
            return self._idle.pop()
        except IndexError:
            return self.network.create_infer_request()

    def _answer(self, running: deque[tuple[Any, Image]]) -> NDArray[np.float32]:
        """The vector of the image that was begun first."""
        request, _ = running[0]
        request.wait()
        vector = np.array(request.get_output_tensor().data[0], np.float32)
        running.popleft()
        self._idle.append(request)
        return vector


@dataclass(frozen=True, eq=False)
class Computed:
    """What came of some files."""

    hashes: tuple[str, ...]
    """Content hashes of the images that could be read."""
    vectors: NDArray[np.float32]
    """(n, D) their features."""
    unread: tuple[tuple[str, str], ...]
    """Content hash of each of the others, and why."""
    tones: Tones = field(default_factory=Tones)

    @staticmethod
    def refusing(sha256: str, reason: str) -> "Computed":
        """Of one image that could not be read."""
        return Computed((), np.zeros((0, 0), np.float32), ((sha256, reason),))


Files = Callable[[Sequence[ImageFile]], Generator[Computed, None, None]]
"""From image files to what came of them, in any order."""


@dataclass(frozen=True)
class Choice:
    """An engine that may be used."""

    name: str
    """`keras` or `openvino`."""
    open: Callable[[], Engine]
    """Open it, the first time it is called.

    Raises:
        RunError: the backbone's files are damaged.
        EngineUnavailable: it cannot run the backbone on this machine.
    """
    arithmetic: Callable[[], str]
    """The kind of arithmetic that it computes with, see `arithmetic.measured`: part of the key of
    its features. Raises as `open` does."""
    files: Files | None = None
    """Computes the features of files elsewhere; None: here, by what `open` gives."""

    @staticmethod
    def of(
        name: str, stored: StoredBackbone, libraries: tuple[str, ...], run: Callable[[], Engine]
    ) -> "Choice":
        """An engine that is opened, and measured, when it is wanted, and once."""
        opened = once(run)
        kind = once(lambda: arithmetic.measured(stored, name, libraries, lambda: opened().features))
        return Choice(name, opened, kind)


def once(make: Callable[[], T]) -> Callable[[], T]:
    """What is made when it is first wanted, by one thread while the others wait."""
    lock = Lock()
    made: list[T] = []

    def get() -> T:
        with lock:
            if not made:
                made.append(make())
            return made[0]

    return get


def choices(stored: StoredBackbone, wanted: str, threads: int = images.PROCESSORS) -> list[Choice]:
    """The engines that may run a stored backbone, the best first.

    Args:
        stored: the backbone.
        wanted: one of `ENGINES`.
        threads: on which OpenVINO computes.

    Raises:
        UsageError: there is no such engine, or it cannot run this backbone.
    """
    require_known(wanted)
    keras = Choice.of("keras", stored, ("keras", "tensorflow"), lambda: _open_keras(stored))
    openvino = Choice.of("openvino", stored, ("openvino",), lambda: _open_openvino(stored, threads))
    if not stored.in_float32:
        if wanted == "keras":
            raise UsageError(
                f"Expected --engine openvino for a run in {stored.precision}. Received: "
                "engine=keras. Leave --engine out."
            )
        return [openvino]
    if wanted == "openvino":
        if stored.openvino_deviation is None:
            raise EngineUnavailable(
                f"Expected a backbone that OpenVINO can run. Received: {stored.name}, which was "
                "stored without it. Leave --engine out."
            )
        return [openvino]
    if wanted == "keras" or stored.openvino_deviation is None or _has_gpu():
        return [keras]
    return [openvino, keras]


def of_model(model: Any, wanted: str) -> Engine:
    """What runs a `keras.Model` that is in memory: images (S, S, 3) float32 → vectors.

    Args:
        model: as it is now; it may have moved since it was stored, and is not to move any more.
        wanted: the name of the engine that the backbone's features come from.
    """
    if wanted == "openvino":
        try:
            network = backbones.compiled_model(model, images.PROCESSORS)
            return OpenVINOEngine(network, 2 * images.PROCESSORS)
        except EngineUnavailable as error:
            log.info("%s: Keras runs it", error)
    return KerasEngine.of(model)


def require_known(name: str) -> None:
    """Raise UsageError, listing the engines, unless `name` is one of `ENGINES`."""
    require_choice("an engine", name, ENGINES)


def available() -> list[dict[str, Any]]:
    """Each engine with its devices, or why it does not run here; imports both."""
    return [_examined("openvino", _openvino_devices), _examined("keras", _keras_devices)]


def kernels(stored: StoredBackbone) -> str:
    """The kernels that OpenVINO runs most of a backbone's convolutions with on this machine."""
    network = backbones.compiled(stored.folder, stored.image_size, stored.precision, 1)
    facts = [op.get_rt_info() for op in network.get_runtime_model().get_ops()]
    used = Counter(
        str(told["primitiveType"].astype(str))
        for told in facts
        if "Convolution" in told["layerType"].astype(str)
    )
    return used.most_common(1)[0][0] if used else "no convolution"


def _examined(name: str, devices: Callable[[], dict[str, str]]) -> dict[str, Any]:
    try:
        return {"name": name, "devices": devices(), "error": None}
    except (ImportError, OSError, RuntimeError) as error:
        return {"name": name, "devices": {}, "error": str(error)}


def _openvino_devices() -> dict[str, str]:
    core = backbones.openvino_core()
    return {name: core.get_property(name, "FULL_DEVICE_NAME") for name in core.available_devices}


def _keras_devices() -> dict[str, str]:
    with backbones.silenced():
        backbones.keras_module()
        import tensorflow

        return {
            device.name.removeprefix("/physical_device:"): device.device_type
            for device in tensorflow.config.list_physical_devices()
        }


def _has_gpu() -> bool:
    """Whether TensorFlow has a GPU; it is only asked where the system shows one."""
    if not arithmetic.gpus():
        return False
    backbones.keras_module()
    import tensorflow

    return bool(tensorflow.config.list_physical_devices("GPU"))


def _open_openvino(stored: StoredBackbone, streams: int) -> Engine:
    for name in backbones.OPENVINO_FILES:
        stored.file(name)
    network = backbones.compiled(stored.folder, stored.image_size, stored.precision, streams)
    return OpenVINOEngine(network, 2 * streams)


def _open_keras(stored: StoredBackbone) -> Engine:
    stored.file(backbones.MODEL)
    return KerasEngine.of(backbones.load_model(stored))
