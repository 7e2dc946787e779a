"""Which devices share the steps of a training: the table.

A step is a function of the whole batch: each replica has a slice of it, gradients are summed, and
every replica makes the same step. Of several processes one, the chief, writes.
"""

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tlcli import backbones
from tlcli.errors import ClusterUnavailable, UsageError, WorkerGone, require_choice
from tlcli.training.checkpoint import Arrays, Checkpoints, TrainingHistory
from tlcli.training.gathering import gather, killable
from tlcli.training.image_source import Check
from tlcli.training.members import Members, members_of_environment
from tlcli.training.steps import Parts, Step, on_one_device, on_replicas

log = logging.getLogger(__name__)

GATHERING_SECONDS = 300.0
"""Workers that have not come by then are missing."""

Logits = Callable[[Any, Check], NDArray[np.float32]]
"""Of the images of a source, (n, C)."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Distribution:
    """One device, on which everything is as it is."""

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return True

    @property
    def identity(self) -> Mapping[str, Any]:
        """What a training state must have been made with, as JSON values."""
        return {}

    def scope(self) -> AbstractContextManager[Any]:
        """Where the variables of a training come about, and nothing is computed."""
        return nullcontext()

    def compiled(self, parts: Parts) -> Step:
        """The step of a learner."""
        return on_one_device(parts)

    def collected(self, model: Any, load: Callable[[], Any]) -> Any:
        """A trained model as one that knows of no devices; `load` gives another one like it."""
        return model

    def logits(self, logits_of: Logits, source: Any, check: Check) -> Float32:
        """What `logits_of` says of all images."""
        return logits_of(source, check)

    def agreed(self, signal: int) -> int:
        """The number of a signal that any process has received; 0 without one."""
        return signal

    def require_agreement(self, content: Mapping[str, Any]) -> None:
        """Raise UsageError where a process trains something else, by its JSON values."""

    def checkpoints(self, folder: Path, identity: Mapping[str, Any]) -> Checkpoints:
        """Where the state of a training is kept."""
        return Checkpoints(folder, {**identity, **self.identity})

    @contextmanager
    def until_published(self) -> Iterator[None]:
        """At the end of the block all wait for the chief."""
        yield


ALONE = Distribution()


@dataclass(frozen=True, eq=False)
class _Mirrored(Distribution):
    """All devices of this machine."""

    strategy: Any
    """`tf.distribute.Strategy`, which is in scope only where variables are made."""

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"replicas": self.strategy.num_replicas_in_sync}

    def scope(self) -> AbstractContextManager[Any]:
        return self.strategy.scope()  # type: ignore[no-any-return]

    def compiled(self, parts: Parts) -> Step:
        return on_replicas(parts, self.strategy)

    def collected(self, model: Any, load: Callable[[], Any]) -> Any:
        plain = load()
        plain.set_weights(model.get_weights())
        return plain


@dataclass(frozen=True)
class _ReadCheckpoints(Checkpoints):
    """The state that another process writes."""

    def save(self, history: TrainingHistory, variables: Arrays, best: Arrays, fresh: bool) -> None:
        """Leave that to the chief."""

    def discard(self) -> None:
        """Leave that to the chief."""


@dataclass(frozen=True, eq=False)
class _Cluster(_Mirrored):
    """The devices of several processes, wherever they run."""

    members: Members

    @property
    def leads(self) -> bool:
        return self.members.here == 0

    @property
    def identity(self) -> Mapping[str, Any]:
        return {**super().identity, "workers": len(self.members.addresses)}

    def compiled(self, parts: Parts) -> Step:
        step = super().compiled(parts)

        def together(*given: Any) -> tuple[float, float]:
            with self._together():
                return step(*given)

        return together

    def logits(self, logits_of: Logits, source: Any, check: Check) -> Float32:
        """Each worker computes its share; a check is a question to all, so that there is one."""
        check()
        mine = np.arange(self.members.here, len(source), len(self.members.addresses))
        found = logits_of(source.only(mine if len(mine) else np.array([0])), lambda: None)
        whole = np.zeros((len(source), found.shape[1]), np.float32)
        whole[mine] = found[: len(mine)]
        return self._sum(whole)

    def agreed(self, signal: int) -> int:
        return int(self._each([signal]).max())

    def require_agreement(self, content: Mapping[str, Any]) -> None:
        own = json.dumps(content, sort_keys=True).encode()
        longest = int(_interruptibly(lambda: self._each([len(own)])).max())
        padded = np.frombuffer(own.ljust(longest), np.uint8)
        told = [json.loads(row.astype(np.uint8).tobytes()) for row in self._each(padded)]
        for place, other in enumerate(told):
            if differing := [name for name in content if other.get(name) != told[0].get(name)]:
                name = differing[0]
                raise UsageError(
                    "Expected the same command, images and run for every worker. Received: "
                    f"{name}={other.get(name)!r} of {self.members.addresses[place]} and "
                    f"{told[0].get(name)!r} of the chief. Start all with the same."
                )

    def checkpoints(self, folder: Path, identity: Mapping[str, Any]) -> Checkpoints:
        whole = {**identity, **self.identity}
        return Checkpoints(folder, whole) if self.leads else _ReadCheckpoints(folder, whole)

    @contextmanager
    def until_published(self) -> Iterator[None]:
        yield
        try:
            _interruptibly(lambda: self._each([0]))
        except WorkerGone as gone:
            if not self.leads:
                raise
            log.info("the round is there; %s", gone)

    def _each(self, values: Any) -> Float32:
        """The values (n,) of each worker, (workers, n); all call this at the same time."""
        own = np.asarray(values, np.float32)
        table = np.zeros((len(self.members.addresses), len(own)), np.float32)
        table[self.members.here] = own
        return self._sum(table)

    def _sum(self, array: Float32) -> Float32:
        """The sum of the arrays of all workers; exact where but one of them is not zero."""
        import tensorflow as tf

        with self._together():
            return np.asarray(self._total(tf.constant(array)).numpy())

    @cached_property
    def _total(self) -> Callable[[Any], Any]:
        """`_sum` of a tensor, traced once for each shape: it is asked before every step."""
        import tensorflow as tf

        replicas = self.strategy.num_replicas_in_sync // len(self.members.addresses)

        @tf.function  # type: ignore[untyped-decorator]
        def total(own: Any) -> Any:
            def replica() -> Any:
                context = tf.distribute.get_replica_context()
                first = context.replica_id_in_sync_group % replicas == 0
                given = tf.where(first, own, tf.zeros_like(own))
                return context.all_reduce(tf.distribute.ReduceOp.SUM, given)

            return self.strategy.experimental_local_results(self.strategy.run(replica))[0]

        return total  # type: ignore[no-any-return]

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Turn what TensorFlow raises when a worker goes into a clear error."""
        import tensorflow as tf

        errors = tf.errors
        try:
            yield
        except (
            *(errors.UnavailableError, errors.AbortedError, errors.CancelledError),
            *(errors.DeadlineExceededError, errors.FailedPreconditionError, errors.InternalError),
        ) as error:
            raise WorkerGone(
                f"Expected all {len(self.members.addresses)} workers to go on. Received: one has "
                f"gone{_reason(error)}. Start all of them again, with --resume."
            ) from error


def _reason(error: Exception) -> str:
    """What a collective operation says of its end, where it does."""
    found = re.search(r"Collective ops is aborted by: (.*)", str(error))
    return f" ({found[1].strip().rstrip('.')})" if found else ""


def _alone() -> Distribution:
    return ALONE


def _mirrored() -> Distribution:
    backbones.keras_module()
    import tensorflow as tf

    config = tf.config
    found = config.list_logical_devices("GPU") or config.list_logical_devices("CPU")
    if len(found) < 2:
        log.warning("there is one device here, %s: it trains alone", found[0].name)
    return _Mirrored(tf.distribute.MirroredStrategy([device.name for device in found]))


def _cluster() -> Distribution:
    members = members_of_environment()
    tensorflow = backbones.tensorflow_module()
    gather(members, GATHERING_SECONDS)
    try:
        with killable(), backbones.silenced():
            strategy = tensorflow.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise UsageError(
            "Expected a process in which TensorFlow has computed nothing yet. Received: "
            f"{backbones.first_line(error)}. Start each worker as a process of its own."
        ) from error
    except tensorflow.errors.OpError as error:
        raise ClusterUnavailable(
            f"Expected to be reached at {members.addresses[members.here]}. Received: "
            f"{backbones.first_line(error)}. End what else is there, or use other ports."
        ) from error
    return _Cluster(strategy, members)


def _interruptibly(call: Callable[[], Any]) -> Any:
    """What a call gives that may wait long in foreign code; signals are heard meanwhile."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


@dataclass(frozen=True)
class Sharing:
    """A row of the table."""

    says: str
    """As the help of `--distribute` has it."""
    begin: Callable[[], Distribution]
    """Called before anything else is asked of TensorFlow."""
    statistics: bool = False
    """Whether BatchNormalization can learn: each replica sees a part of the batch."""


DISTRIBUTIONS = {
    "none": Sharing("one device", _alone, statistics=True),
    "mirrored": Sharing("all GPUs of this machine", _mirrored),
    "multiworker": Sharing("the processes that TF_CONFIG names, one or more machines", _cluster),
}


def begin(name: str, statistics: bool) -> Distribution:
    """The devices that a row means; before anything else is asked of TensorFlow.

    Args:
        name: of the row.
        statistics: whether BatchNormalization is to learn.

    Raises:
        UsageError: there is no such row, it cannot learn so, or its processes are not told.
        ClusterUnavailable: this process cannot be one of them.
        WorkerGone: not all of them come.
    """
    require_choice("a distribution", name, DISTRIBUTIONS, "distribute")
    row = DISTRIBUTIONS[name]
    if statistics and not row.statistics:
        raise UsageError(
            "Expected BatchNormalization to stay as it is on several devices, which see other "
            f"images each. Received: --train-batch-norm with --distribute {name}. "
            "Leave one of them out."
        )
    return row.begin()
