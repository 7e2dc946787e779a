"""Keras with the TensorFlow backend, and OpenVINO: imported once, late and quietly."""

import contextlib
import gc
import importlib
import importlib.metadata
import logging
import os
import sys
import threading
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from tlcli.errors import UsageError

_DEFAULT_ENVIRONMENT = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
_STANDARD_STREAMS = (1, 2)

_import_lock = threading.Lock()
_imported: list[ModuleType] = []
_cores: list[Any] = []
_processes: set[int] = set()
"""In which OpenVINO or TensorFlow may have threads."""


def keras_module() -> ModuleType:
    """Return `keras`; the first call imports it, which takes seconds and prints nothing.

    Raises:
        ImportError: when TensorFlow or Keras cannot be imported; the reason is kept.
    """
    with _import_lock:
        if not _imported:
            _imported.append(_import_keras())
        return _imported[0]


def tensorflow_module() -> ModuleType:
    """Return `tensorflow`, imported as quietly, which has computed nothing yet.

    Raises:
        ImportError: as `keras_module`.
    """
    with _import_lock, silenced():
        _set_up()
        return importlib.import_module("tensorflow")


def loading_errors() -> tuple[type[Exception], ...]:
    """Return what Keras raises for files that are damaged or made by hand: no narrower type is."""
    import tensorflow

    return (
        *(ArithmeticError, AttributeError, ImportError, LookupError, OSError),
        *(RuntimeError, TypeError, ValueError, zipfile.BadZipFile, zlib.error),
        tensorflow.errors.OpError,
    )


def first_line(error: BaseException) -> str:
    """Return what an error says first, of several in each other the innermost; or its name."""
    text = str(error).rpartition("Exception encountered: ")[2].strip()
    if not text or isinstance(error, KeyError):
        text = f"{type(error).__name__} {text}".strip()
    return text.splitlines()[0].rstrip(".")


def openvino_module() -> ModuleType:
    """Return `openvino`.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    with _import_lock:
        _set_up()
        return importlib.import_module("openvino")


def openvino_core() -> Any:
    """Return the one `openvino.Core` of this process; it lives as long as the process does.

    A core's CPU plugin sets the stack that signal handlers of its thread run on, and takes it away
    when it is destroyed. Of two cores in one thread the second puts the first's stack back, which
    may be gone by then: the next signal would be a segmentation fault.

    Raises:
        ImportError: OpenVINO is not installed.
    """
    require_own_threads()
    openvino = openvino_module()
    with _import_lock:
        if not _cores:
            _cores.append(openvino.Core())
        return _cores[0]


def require_own_threads() -> None:
    """Refuse to compute in the fork of a process that has begun to: it would wait for ever.

    Threads do not survive a fork, and OpenVINO and TensorFlow wait for theirs; nor does anybody
    release a lock that another thread held. Whoever asks begins to compute.

    Raises:
        UsageError: this is such a fork.
    """
    if _processes and os.getpid() not in _processes:
        raise UsageError(
            "Expected a process of its own. Received: the fork of one that has computed features "
            "already, whose threads are gone. Fork before the first image, or start processes with "
            'multiprocessing.get_context("spawn").'
        )
    _processes.add(os.getpid())


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Return the versions of libraries by name; those that are not installed are left out."""
    found = {}
    for name in libraries:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Send file descriptors 1 and 2 of the process to the null device for the block.

    Native code writes there directly, past `sys.stdout` and `sys.stderr`. Both are restored
    however the block ends; exceptions pass through.
    """
    with contextlib.ExitStack() as restore:
        null = os.open(os.devnull, os.O_WRONLY)
        restore.callback(os.close, null)
        _flush()
        for descriptor in _STANDARD_STREAMS:
            with contextlib.suppress(OSError):  # a closed descriptor has nothing to silence
                saved = os.dup(descriptor)
                restore.callback(os.close, saved)
                restore.callback(os.dup2, saved, descriptor)
                os.dup2(null, descriptor)
        restore.callback(_flush)
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """`silenced`, and Python's warnings too: for converters that remark on their own code."""
    with warnings.catch_warnings(), silenced():
        warnings.simplefilter("ignore")
        yield


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):  # a broken pipe, a closed stream
                stream.flush()


def _set_up() -> None:
    """What is to hold before any of the libraries is imported.

    OpenVINO's converter, which Keras imports by itself too, reports to its makers over the network
    unless the user has declined, and leaves files in the home folder. It does without when the
    reporting module cannot be imported.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    for name, value in _DEFAULT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextlib.contextmanager
def _keeping_garbage() -> Iterator[None]:
    """For the block, no search for garbage: what an import makes stays.

    It would be gone through again and again, a quarter of the time that TensorFlow's import takes.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _import_keras() -> ModuleType:
    _set_up()
    with silenced(), _keeping_garbage():
        import tensorflow
        from absl import logging as absl_logging

        keras = importlib.import_module("keras")
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        absl_logging.set_verbosity(absl_logging.ERROR)
        # The first device operation and the first compiled function each print a line.
        tensorflow.function(lambda x: x + 1)(tensorflow.constant(0)).numpy()
        _processes.add(os.getpid())
    return keras
