"""The workers of a cluster for one backbone: it is sent to them, and they are given shards."""

import logging
import time
from collections import Counter, deque
from collections.abc import Collection, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from typing import Any

from tlcli import engines, images
from tlcli.backbones import StoredBackbone
from tlcli.backbones.stored import CLASSIFIER, MANIFEST
from tlcli.cluster.connection import Connection, connect
from tlcli.config import RunsOn
from tlcli.engines import Choice, Computed, Engine
from tlcli.errors import BadImage, ClusterUnavailable, DataError, EngineUnavailable, TlcliError
from tlcli.features import Kind
from tlcli.images import DECODER, ImageFile, Square

log = logging.getLogger(__name__)

SHARD = 64
"""Images that a worker is given at once: what is lost when it dies."""

RETRIES = 2
"""Of a shard that raised an error, where it may be the worker's."""

LOOK_SECONDS = 5.0
"""How often workers are counted while no shard ends."""

FETCH_SECONDS = 20.0
"""So long what a worker has computed may be on its way; it may have died with it."""

ALONE_SECONDS = 60.0
"""So long a cluster may be without a worker."""


def choices(stored: StoredBackbone, runs_on: RunsOn) -> list[Choice]:
    """The cluster as the one engine of a backbone.

    Raises:
        UsageError: the address or the engine is none, or the engine cannot run this backbone.
        ClusterUnavailable: see `connect`.
    """
    assert runs_on.cluster is not None
    local = engines.choices(stored, runs_on.engine)
    connection = connect(runs_on.cluster)
    crew = engines.once(lambda: Crew.of(connection, stored, runs_on.engine))

    return [
        Choice(
            f"the cluster {runs_on.cluster}",
            lambda: _as_the_workers(local, crew().kind),
            lambda: crew().kind.arithmetic,
            lambda wanted: crew().files(wanted),
        )
    ]


def _as_the_workers(local: Sequence[Choice], kind: Kind) -> Engine:
    """The engine of this machine, for pixels that are in no file, where it gives the same bits."""
    for choice in local:
        if choice.arithmetic() == kind.arithmetic:
            return choice.open()
    raise EngineUnavailable(
        f"this machine computes with another arithmetic than the workers ({kind.arithmetic}), and "
        "some pixels are in no file; leave --cluster out"
    )


@dataclass(frozen=True)
class _Part:
    """Images on their way through the cluster."""

    images: tuple[ImageFile, ...]
    allowed: frozenset[str] = frozenset()
    """Addresses of the workers that may have it; empty: all."""
    alone: bool = False
    """Whether nothing else may be on the way: who dies then dies of it."""


@dataclass(frozen=True, eq=False)
class Crew:
    """The workers of a cluster that know a backbone."""

    connection: Connection
    fingerprint: str
    square: Square
    """What the backbone's images are drawn to."""
    engine: str
    kind: Kind
    """Of the features that are wanted from them."""
    others: dict[str, Kind] = field(default_factory=dict)
    """Workers whose features are of another kind, by address."""

    @staticmethod
    def of(connection: Connection, stored: StoredBackbone, engine: str) -> "Crew":
        """Send a backbone to all workers, and ask them what they compute its features with.

        Raises:
            RunError: the backbone is damaged.
            ClusterUnavailable: a worker cannot compute its features, or none as this machine
                would decode images.
        """
        _send(connection, stored)
        kinds = _asked(connection, stored.fingerprint, engine)
        kind = _wanted(kinds, stored, engine)
        others = {address: found for address, found in kinds.items() if found != kind}
        square = Square.of(stored.image_size, stored.drawing)
        crew = Crew(connection, stored.fingerprint, square, engine, kind, others)
        if others:
            crew.warn_of_others()
        return crew

    def warn_of_others(self) -> None:
        """Say which workers get no images."""
        log.warning(
            "%d workers compute with another arithmetic or decoder and get no images, so that all "
            "features are of one kind (%s): %s",
            len(self.others),
            self.kind.arithmetic,
            ", ".join(f"{name} ({kind.arithmetic})" for name, kind in sorted(self.others.items())),
        )

    def files(self, wanted: Sequence[ImageFile]) -> Generator[Computed, None, None]:
        """Yield the features of images, a shard at a time, in any order.

        Closing it takes back what was not begun.

        Raises:
            DataError: a worker cannot read a file that this machine can.
            ClusterUnavailable: the scheduler has gone, or no worker is left.
        """
        starts = range(0, len(wanted), SHARD)
        waiting = deque(_Part(tuple(wanted[start : start + SHARD])) for start in starts)
        running: dict[Any, _Part] = {}
        try:
            while waiting or running:
                self._hand_out(waiting, running)
                for future in self._ended(waiting, running):
                    computed = self._taken(future, running.pop(future), waiting)
                    future.release()
                    if computed is not None:
                        yield computed
        finally:
            self._take_back(running)

    def _hand_out(self, waiting: deque[_Part], running: dict[Any, _Part]) -> None:
        """Keep every worker busy, and no more than that on the way."""
        threads = self._awaited()
        allowed = frozenset(threads.keys() - self.others.keys())
        most = 2 * sum(threads[address] for address in allowed) + 2
        while waiting and len(running) < most and not _must_wait(waiting[0], running):
            part = replace(waiting.popleft(), allowed=allowed if self.others else frozenset())
            running[self._submit(part)] = part

    def _submit(self, part: _Part) -> Any:
        from tlcli.cluster.worker import compute

        shard = [ImageFile(one.path.absolute(), one.sha256, one.content) for one in part.images]
        with self.connection.answering():
            return self.connection.client.submit(
                compute,
                self.fingerprint,
                self.engine,
                shard,
                workers=sorted(part.allowed) or None,
                retries=RETRIES,
                pure=False,
            )

    def _awaited(self) -> dict[str, int]:
        """The threads of each worker, at least one of which may have images.

        Raises:
            ClusterUnavailable: there has been none for a while.
        """
        since = time.monotonic()
        while not (threads := self.connection.threads()).keys() - self.others.keys():
            if time.monotonic() - since > ALONE_SECONDS:
                raise ClusterUnavailable(
                    f"Expected workers at {self.connection.address}. Received: none for "
                    f"{ALONE_SECONDS:.0f} seconds. Start some, and run the command again: what "
                    "was computed is cached."
                )
            time.sleep(0.2)
        return threads

    def _ended(self, waiting: deque[_Part], running: dict[Any, _Part]) -> list[Any]:
        """The shards that have ended, after at least one has, or workers were looked at."""
        import distributed

        with self.connection.answering():
            try:
                distributed.wait(list(running), LOOK_SECONDS, "FIRST_COMPLETED")
            except TimeoutError:
                self._free_stuck(waiting, running)
            except CancelledError:
                pass  # seen in the status
            if self.connection.client.status != "running":
                raise RuntimeError("the connection was closed")
        return [future for future in running if future.status != "pending"]

    def _free_stuck(self, waiting: deque[_Part], running: dict[Any, _Part]) -> None:
        """Hand out again what only workers may have that have gone."""
        alive = self.connection.threads().keys()
        for future, part in list(running.items()):
            if part.allowed and not part.allowed & alive:
                waiting.append(running.pop(future))
                future.cancel()

    def _taken(self, future: Any, part: _Part, waiting: deque[_Part]) -> Computed | None:
        """What came of a shard; None where it is to be handed out again."""
        if future.status == "finished":
            answer = self._answer(future)
            if answer is not None and answer[1] == self.kind:
                return self._confirmed(answer[2], part)
            if answer is not None:
                self.others[answer[0]] = answer[1]
                self.warn_of_others()
        elif future.status == "error":
            return self._failed(future.exception(), part, waiting)
        waiting.appendleft(part)
        return None

    def _answer(self, future: Any) -> tuple[str, Kind, Computed] | None:
        """What a worker answered; None where it has gone before that was fetched."""
        import distributed

        with self.connection.answering():
            try:
                return future.result(timeout=FETCH_SECONDS)  # type: ignore[no-any-return]
            except (CancelledError, TimeoutError, distributed.KilledWorker):
                return None

    def _failed(self, error: BaseException, part: _Part, waiting: deque[_Part]) -> Computed | None:
        """A shard that failed is tried image by image; an image that fails is left out.

        With a worker dies what waits there, too: an image is left out where it was there alone.
        """
        if isinstance(error, TlcliError):
            raise ClusterUnavailable(
                f"Expected workers that compute features. Received: one of "
                f"{self.connection.address} that cannot ({error})."
            ) from error
        if len(part.images) > 1:
            waiting.extend(_Part((image,)) for image in part.images)
            return None
        if _has_killed(error) and not part.alone:
            waiting.append(replace(part, alone=True))
            return None
        return Computed.refusing(part.images[0].sha256, _reason(error))

    def _confirmed(self, computed: Computed, part: _Part) -> Computed:
        """With the reasons that this machine has for leaving files out.

        Raises:
            DataError: a worker could not read a file that can be read here.
        """
        if not computed.unread:
            return computed
        by_hash = {image.sha256: image for image in part.images}
        unread = [by_hash[key] for key, _ in computed.unread]
        here = list(images.draw_many(unread, self.square))
        for (_, reason), image, drawn in zip(computed.unread, unread, here, strict=True):
            if not isinstance(drawn, BadImage):
                raise DataError(
                    f"Expected workers that can read {image.path.absolute()}, as this machine can. "
                    f"Received: {reason}, on a worker of {self.connection.address}. Give it the "
                    "same folders under the same names, and the same packages."
                )
        found = tuple((image.sha256, str(why)) for image, why in zip(unread, here, strict=True))
        return replace(computed, unread=found)

    def _take_back(self, running: Collection[Any]) -> None:
        if running:
            try:
                self.connection.client.cancel(list(running), force=True)
            except (OSError, RuntimeError, CancelledError):
                log.info("the cluster could not be told to stop")


def _must_wait(part: _Part, running: dict[Any, _Part]) -> bool:
    return bool(running) and (part.alone or any(other.alone for other in running.values()))


def _has_killed(error: BaseException) -> bool:
    import distributed

    return isinstance(error, distributed.KilledWorker)


def _send(connection: Connection, stored: StoredBackbone) -> None:
    from tlcli.cluster.worker import Backbone

    names = [name for name in stored.files if name != CLASSIFIER]
    content = {name: stored.file(name).read_bytes() for name in names}
    content[MANIFEST] = (stored.folder / MANIFEST).read_bytes()
    try:
        connection.client.register_plugin(Backbone(stored.fingerprint, content))
    except Exception as error:
        raise ClusterUnavailable(
            f"Expected workers that take in a backbone. Received: one of {connection.address} that "
            f"cannot ({_named(error)}). Install there what is installed here."
        ) from error


def _asked(connection: Connection, fingerprint: str, engine: str) -> dict[str, Kind]:
    """The kind of the features of every worker, by its address.

    Raises:
        ClusterUnavailable: one cannot compute them.
    """
    from tlcli.cluster.worker import about

    asked = {
        address: connection.client.submit(
            about, fingerprint, engine, workers=[address], pure=False, retries=0
        )
        for address in connection.threads()
    }
    return dict(_answers(connection, asked))


def _answers(connection: Connection, asked: dict[str, Any]) -> Iterator[tuple[str, Kind]]:
    from tlcli.cluster.worker import versions

    for address, future in asked.items():
        try:
            found = future.result(timeout=ALONE_SECONDS)
        except Exception as error:
            raise ClusterUnavailable(
                f"Expected workers that compute features. Received: {address} of "
                f"{connection.address}, which cannot ({_named(error)}). Install there what is "
                "installed here, or take it out of the cluster."
            ) from error
        if found.versions != versions():
            raise ClusterUnavailable(
                f"Expected {versions()}, as here, on every worker. Received: {found.versions} at "
                f"{address}. Install one version everywhere."
            )
        yield address, found.kind


def _wanted(kinds: dict[str, Kind], stored: StoredBackbone, engine: str) -> Kind:
    """The kind that all workers have; where they differ, that of this machine, or of the most."""
    usable = [kind for kind in kinds.values() if kind.decoder == DECODER]
    if not usable:
        raise ClusterUnavailable(
            f"Expected workers that decode images as this machine does ({DECODER}). Received: "
            f"{', '.join(sorted({kind.decoder for kind in kinds.values()}))}. Install the same "
            "versions of Pillow and its libraries."
        )
    if len(set(usable)) > 1:
        here = {choice.arithmetic() for choice in engines.choices(stored, engine)[:1]}
        usable = [kind for kind in usable if kind.arithmetic in here] or sorted(usable)
    return Counter(usable).most_common(1)[0][0]


def _reason(error: BaseException) -> str:
    if _has_killed(error):
        return "the worker processes that were given it died"
    return f"the workers failed with it ({_named(error)})"


def _named(error: BaseException) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
