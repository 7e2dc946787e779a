"""Every image goes through the backbone once, and results never depend on the cache."""

import errno
import hashlib
import io
import logging
import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import h5py
import numpy as np
import platformdirs
import pytest
from PIL import Image

from tests.support.disk import on_disk
from tlcli import cache as storage
from tlcli import features, files
from tlcli.config import Progress, no_progress
from tlcli.engines import Images, Vectors
from tlcli.errors import Stopped
from tlcli.features import Kind, Space, Store, feature_cache
from tlcli.images import DECODER, LabelledImage, Square

Draw = Callable[..., list[LabelledImage]]

KIND = Kind("keras 0", DECODER)
SPACE = Space("f" * 64, 3, "MeanColour", KIND, Square(8))
VECTOR_BYTES = 3 * 4


class MeanColour:
    """An engine whose feature vector is the mean colour; counts what it was given."""

    def __init__(self) -> None:
        self.images = 0

    def features(self, images: Images) -> Vectors:
        for image in images:
            assert image.shape in ((8, 8, 3), (16, 16, 3))
            assert image.dtype == np.uint8
            self.images += 1
            yield image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)


class ReadingAhead(MeanColour):
    """Answers only after it has taken in up to nine images, as a pipeline would."""

    def features(self, images: Images) -> Vectors:
        waiting = []
        for vector in super().features(images):
            waiting.append(vector)
            if len(waiting) == 9:
                yield waiting.pop(0)
        yield from waiting


class OneBuffer(MeanColour):
    """Answers every image with the same array, overwritten."""

    def features(self, images: Images) -> Vectors:
        buffer = np.zeros(3, np.float32)
        for vector in super().features(images):
            buffer[:] = vector
            yield buffer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the caches."""
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def colour(number: int) -> tuple[int, int, int]:
    return (number % 200 + 1, number // 200 + 1, 7)


def listed(path: Path, label: str = "cat") -> LabelledImage:
    return LabelledImage(path, hashlib.sha256(path.read_bytes()).hexdigest(), label=label)


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Make images of one colour each, numbered from `first`."""

    def make(count: int, first: int = 0) -> list[LabelledImage]:
        paths = [tmp_path / f"{number}.png" for number in range(first, first + count)]
        for number, path in enumerate(paths, first):
            Image.new("RGB", (8, 8), colour(number)).save(path)
        return [listed(path) for path in paths]

    return make


def extract(
    wanted: list[LabelledImage],
    engine: MeanColour | None = None,
    space: Space = SPACE,
    progress: Progress = no_progress,
) -> tuple[features.Features[LabelledImage], MeanColour]:
    engine = engine or MeanColour()
    found = features.extract(wanted, Store(space), lambda: engine, progress)
    return found, engine


def assert_right(found: features.Features[Any], wanted: list[LabelledImage]) -> None:
    assert found.images == tuple(wanted)
    assert found.vectors[:].dtype == np.float32
    expected = [colour(int(image.path.stem)) for image in wanted]
    np.testing.assert_allclose(found.vectors[:], np.reshape(expected, (-1, 3)), atol=1e-3)


def segments(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.h5"))


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full segments hold ten vectors."""
    monkeypatch.setattr(feature_cache, "SEGMENT_BYTES", 10 * VECTOR_BYTES)


@pytest.mark.parametrize("engine", [MeanColour, ReadingAhead, OneBuffer])
@pytest.mark.parametrize("count", [1, 8, 9, 10, 11, 43])
@pytest.mark.usefixtures("small_segments")
def test_vectors_are_in_the_order_of_the_images(
    draw: Draw, count: int, engine: type[MeanColour]
) -> None:
    wanted = draw(count)
    found, _ = extract(wanted, engine())
    assert_right(found, wanted)
    assert found.from_cache == 0
    again = features.extract(wanted[::-1], Store(SPACE), pytest.fail, no_progress)
    assert_right(again, wanted[::-1])


def test_no_image_is_computed_twice(draw: Draw) -> None:
    wanted = draw(5)
    extract(wanted)
    found = features.extract(wanted, Store(SPACE), pytest.fail, no_progress)
    assert_right(found, wanted)
    assert found.from_cache == 5


def test_only_what_is_missing_is_computed(draw: Draw) -> None:
    extract(draw(4))
    wanted = draw(7)
    found, engine = extract(wanted)
    assert_right(found, wanted)
    assert (found.from_cache, engine.images) == (4, 3)


def test_a_renamed_image_is_the_same_image(draw: Draw, tmp_path: Path) -> None:
    (image,) = draw(1)
    extract([image])
    moved = listed(on_disk(image).rename(tmp_path / "moved.png"), "dog")
    found = features.extract([moved], Store(SPACE), pytest.fail, no_progress)
    assert found.labels == ("dog",)
    np.testing.assert_allclose(found.vectors[:], [colour(0)])


def test_an_image_that_changed_is_computed_again(draw: Draw) -> None:
    (image,) = draw(1)
    extract([image])
    path = on_disk(image)
    path.write_bytes(path.read_bytes() + b"x")
    _, engine = extract([listed(path)])
    assert engine.images == 1


def test_an_image_that_changes_after_it_was_listed_does_not_spoil_the_cache(draw: Draw) -> None:
    (image,) = draw(1)
    path = on_disk(image)
    before = path.read_bytes()
    Image.new("RGB", (8, 8), (90, 90, 90)).save(path)
    extract([image])
    path.write_bytes(before)
    assert_right(extract([image])[0], [image])


def test_labels_and_hashes_are_those_of_the_images(draw: Draw) -> None:
    wanted = [replace(image, label=label) for image, label in zip(draw(2), "ab", strict=True)]
    found, _ = extract(wanted)
    assert found.labels == ("a", "b")
    assert found.hashes == tuple(image.sha256 for image in wanted)
    second = found.examples.where(np.array([False, True]))
    assert second.labels == ("b",)
    np.testing.assert_array_equal(second.vectors[:], found.vectors[1:])


def test_images_that_do_not_decode_are_skipped_and_named(draw: Draw) -> None:
    wanted = draw(40)
    for image in (wanted[0], wanted[3], wanted[39]):
        on_disk(image).write_bytes(b"not an image")
    on_disk(wanted[5]).unlink()
    wanted = [listed(p) if (p := on_disk(image)).exists() else image for image in wanted]
    bad = [wanted[0], wanted[3], wanted[5], wanted[39]]
    found, _ = extract(wanted)
    assert_right(found, [image for image in wanted if image not in bad])
    assert [entry.path for entry in found.skipped] == [str(image.path) for image in bad]
    assert all(entry.reason for entry in found.skipped)
    again, engine = extract(wanted)
    assert len(again.skipped) == 4
    assert engine.images == 0


def test_nothing_but_bad_images_gives_no_vectors(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"not an image")
    found, engine = extract([listed(tmp_path / "bad.png")])
    assert found.images == ()
    assert found.vectors.shape == (0, 3)
    assert len(found.skipped) == 1
    assert engine.images == 0


def test_no_image_gives_no_vectors(cache: Path) -> None:
    found: features.Features[LabelledImage] = features.extract(
        [], Store(SPACE), pytest.fail, no_progress
    )
    assert found.vectors.shape == (0, 3)
    assert not cache.exists()


def test_progress_is_told_from_nothing_to_all(draw: Draw) -> None:
    told = []
    extract(draw(3), progress=lambda *step: told.append(step))
    assert told[0] == ("features", 0, 3)
    assert told[-1] == ("features", 3, 3)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stopped(15), ValueError])
def test_what_was_computed_before_an_interruption_is_saved(
    draw: Draw, error: Stopped | type[BaseException]
) -> None:
    class Dying(MeanColour):
        def features(self, images: Images) -> Vectors:
            for number, vector in enumerate(super().features(images)):
                if number == 7:
                    raise error
                yield vector

    wanted = draw(12)
    with pytest.raises(type(error) if isinstance(error, Stopped) else error):
        extract(wanted, Dying())
    found, engine = extract(wanted)
    assert_right(found, wanted)
    assert (found.from_cache, engine.images) == (7, 5)


def test_a_full_segment_is_saved_while_others_are_computed(
    draw: Draw, cache: Path, small_segments: None
) -> None:
    counts = []

    class Looking(MeanColour):
        def features(self, images: Images) -> Vectors:
            for vector in super().features(images):
                yield vector
                counts.append(len(segments(cache)))

    extract(draw(25), Looking())
    assert counts == [0] * 9 + [1] * 10 + [2] * 6
    assert len(segments(cache)) == 3


def test_a_segment_is_saved_when_the_last_one_is_long_ago(
    draw: Draw, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the engine is, a kill costs no more than this."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    counts = []

    class Slow(MeanColour):
        def features(self, images: Images) -> Vectors:
            for vector in super().features(images):
                now[0] += 14
                yield vector
                counts.append(len(segments(cache)))

    assert feature_cache.SEGMENT_SECONDS == 30
    extract(draw(7), Slow())
    assert counts == [0, 0, 1, 1, 1, 2, 2]


def test_an_engine_that_loses_images_is_a_bug(draw: Draw) -> None:
    class Losing(MeanColour):
        def features(self, images: Images) -> Vectors:
            yield from list(super().features(images))[:-1]

    with pytest.raises(AssertionError, match="1 image"):
        extract(draw(3), Losing())


class Adding(MeanColour):
    """Answers once too often."""

    def features(self, images: Images) -> Vectors:
        vectors = list(super().features(images))
        yield from (*vectors, vectors[0])


class Skipping(MeanColour):
    """Leaves out the first of the images."""

    def features(self, images: Images) -> Vectors:
        yield from list(super().features(images))[1:]


@pytest.mark.parametrize("engine", [Adding, Skipping])
@pytest.mark.parametrize("seconds", [0, 1000])
def test_nothing_of_an_engine_that_counts_wrongly_is_kept(
    draw: Draw,
    cache: Path,
    engine: type[Adding | Skipping],
    seconds: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not what was saved before it was noticed either: the vectors may be of other images."""
    monkeypatch.setattr("tlcli.features.feature_cache.SEGMENT_SECONDS", seconds)
    wanted = draw(3)
    with pytest.raises(AssertionError, match="the engine"):
        extract(wanted, engine())
    assert not list(cache.rglob("*.h5"))
    assert_right(extract(wanted)[0], wanted)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def other_number(path: Path) -> None:
    damaged = path.read_bytes().replace(np.float32(7).tobytes(), np.float32(8).tobytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)


def renamed(path: Path) -> None:
    """Intact bytes under the name of others."""
    path.write_bytes(files.pack_arrays({"keys": KEYS, "vectors": np.ones((3, 3), "f4")}, {}))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [
    truncate,
    empty,
    garbage,
    other_number,
    renamed,
    folder,
]

KEYS = np.zeros((3, 32), np.uint8)
FOREIGN = {
    "no vectors": {"keys": KEYS},
    "no keys": {"vectors": np.ones((3, 3), np.float32)},
    "other width": {"keys": KEYS, "vectors": np.ones((3, 4), np.float32)},
    "other number": {"keys": KEYS, "vectors": np.ones((2, 3), np.float32)},
    "other numbers": {"keys": KEYS, "vectors": np.ones((3, 3), np.int32)},
    "other byte order": {"keys": KEYS, "vectors": np.ones((3, 3), ">f4")},
    "short keys": {"keys": KEYS[:, :31], "vectors": np.ones((3, 3), np.float32)},
    "flat keys": {"keys": KEYS[0], "vectors": np.ones((32, 3), np.float32)},
    "scalars": {"keys": np.uint8(0), "vectors": np.float32(0)},
    "nothing": {"keys": KEYS[:0], "vectors": np.ones((0, 3), np.float32)},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_segment_is_warned_of_and_its_vectors_are_computed_again(
    draw: Draw, cache: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    wanted = draw(3)
    extract(wanted)
    (segment,) = segments(cache)
    damage(segment)
    with caplog.at_level(logging.WARNING, "tlcli"):
        found, engine = extract(wanted)
    assert_right(found, wanted)
    assert engine.images == 3
    (warning,) = caplog.messages
    assert str(segment) in warning


@pytest.mark.parametrize("arrays", FOREIGN.values(), ids=FOREIGN)
def test_a_segment_of_another_kind_is_warned_of_and_deleted(
    draw: Draw, cache: Path, caplog: pytest.LogCaptureFixture, arrays: dict[str, Any]
) -> None:
    """Its checksum is right: another program, or another version, has written it."""
    content = files.pack_arrays(arrays, {})
    place = cache / "features" / SPACE.cache_key / f"{hashlib.sha256(content).hexdigest()}.h5"
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    wanted = draw(3)
    assert_right(extract(wanted)[0], wanted)
    (warning,) = caplog.messages
    assert str(place) in warning
    assert not place.exists()


@pytest.mark.parametrize("chunks", [{"chunks": (2, 3)}, {"chunks": (2, 3), "compression": "gzip"}])
def test_vectors_that_do_not_lie_in_a_row_are_not_read(
    draw: Draw,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    chunks: dict[str, str | tuple[int, int]],
) -> None:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_dataset("keys", data=KEYS)
        file.create_dataset("vectors", data=np.ones((3, 3), np.float32), **chunks)
    name = hashlib.sha256(stream.getvalue()).hexdigest()
    place = cache / "features" / SPACE.cache_key / f"{name}.h5"
    place.parent.mkdir(parents=True)
    place.write_bytes(stream.getvalue())
    wanted = draw(3)
    assert_right(extract(wanted)[0], wanted)
    assert len(caplog.messages) == 1


def test_a_segment_that_may_not_be_read_is_done_without_and_left_alone(
    draw: Draw, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another user's: simulated, because the superuser may read everything."""
    wanted = draw(3)
    extract(wanted)
    (segment,) = segments(cache)
    real = os.open

    def refusing(path: Path, *arguments: Any, **options: Any) -> int:
        if path == segment:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *arguments, **options)

    before = segment.stat()
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing)
        found, engine = extract(wanted[:2])
    assert_right(found, wanted[:2])
    assert engine.images == 2
    (warning,) = caplog.messages
    assert str(segment) in warning
    assert "Permission denied" in warning
    assert segment.stat() == before


@pytest.mark.parametrize("damage", [truncate, empty, garbage, other_number])
def test_a_damaged_segment_is_replaced(
    draw: Draw, cache: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    wanted = draw(3)
    extract(wanted)
    damage(segments(cache)[0])
    extract(wanted)
    caplog.clear()
    assert features.extract(wanted, Store(SPACE), pytest.fail, no_progress).from_cache == 3
    assert not caplog.records


# Flips bits of a segment in a process that can be given up, and prints what went wrong.
FLIPPER = """
    import logging, sys
    from pathlib import Path
    from tlcli import images
    from tlcli.features import Kind, Space
    from tlcli.features.feature_cache import Index, Store

    def load():
        index = Index(keys, 3)
        kind = Kind("keras 0", images.DECODER)
        Store(Space("f" * 64, 3, "MeanColour", kind, images.Square(8))).load(index)
        return index.known, index.vectors()[:]

    logging.disable()
    segment, *keys = Path(sys.argv[1]), *sys.argv[2:]
    whole = segment.read_bytes()
    known, before = load()
    assert known.all() and len(before) == 2
    for place in range(0, len(whole), 4):
        for bit in (0, 7):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            segment.write_bytes(damaged)
            known, vectors = load()
            assert vectors.tobytes() == before[known].tobytes(), (place, bit)
"""


def test_no_flipped_bit_of_a_segment_does_harm(draw: Draw, cache: Path) -> None:
    wanted = draw(2)
    extract(wanted)
    keys = [image.sha256 for image in wanted]
    command = [sys.executable, "-c", textwrap.dedent(FLIPPER), str(segments(cache)[0]), *keys]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=15)
    except subprocess.TimeoutExpired:
        pytest.fail("hangs")
    assert (done.returncode, done.stderr) == (0, "")


def at_the_top(cache: Path) -> None:
    cache.write_text("in the way")


def in_the_middle(cache: Path) -> None:
    cache.mkdir()
    (cache / "features").write_text("in the way")


def at_the_end(cache: Path) -> None:
    (cache / "features").mkdir(parents=True)
    (cache / "features" / SPACE.cache_key).write_text("in the way")


@pytest.mark.parametrize(
    "block",
    [
        at_the_top,
        in_the_middle,
        at_the_end,
    ],
)
def test_a_cache_that_cannot_be_written_is_warned_of_once_and_done_without(
    draw: Draw,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    block: Callable[[Path], None],
) -> None:
    monkeypatch.setattr(feature_cache, "SEGMENT_BYTES", VECTOR_BYTES)
    block(cache)
    wanted = draw(3)
    with caplog.at_level(logging.WARNING, "tlcli"):
        found, _ = extract(wanted)
    assert_right(found, wanted)
    assert len(caplog.records) == 1
    assert str(cache) in caplog.text


def test_a_cache_that_is_cleared_meanwhile_is_done_without(draw: Draw, cache: Path) -> None:
    written = files.written

    def cleared_first(path: Path) -> AbstractContextManager[Any]:
        shutil.rmtree(cache)
        return written(path)

    wanted = draw(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "written", cleared_first)
        found, _ = extract(wanted)
    assert_right(found, wanted)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EINVAL)


@pytest.mark.parametrize("number", FULL, ids=errno.errorcode.get)
def test_a_disk_that_takes_nothing_is_warned_of_once_and_done_without(
    draw: Draw,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    monkeypatch.setattr(feature_cache, "SEGMENT_BYTES", VECTOR_BYTES)
    monkeypatch.setattr(os, "fsync", failing(OSError(number, os.strerror(number))))
    wanted = draw(3)
    found, _ = extract(wanted)
    assert_right(found, wanted)
    (warning,) = caplog.messages
    assert os.strerror(number) in warning
    assert not [path for path in cache.rglob("*") if path.is_file()]


def failing(error: OSError) -> Callable[..., NoReturn]:
    def fail(*arguments: object, **options: object) -> NoReturn:
        raise error

    return fail


OTHERS = [
    replace(SPACE, fingerprint="e" * 64),
    replace(SPACE, square=Square(16)),
    replace(SPACE, kind=replace(KIND, arithmetic="openvino 0")),
    replace(SPACE, kind=replace(KIND, decoder="pillow 2")),
]


@pytest.mark.parametrize("other", OTHERS, ids=["fingerprint", "size", "arithmetic", "decoder"])
def test_each_space_has_a_cache_of_its_own(draw: Draw, cache: Path, other: Space) -> None:
    wanted = draw(2)
    extract(wanted)
    _, engine = extract(wanted, space=other)
    assert engine.images == 2
    assert len({path.parent for path in segments(cache)}) == 2


def test_the_cache_is_where_the_environment_says(
    draw: Draw, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(draw(1))
    assert segments(cache)
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "other"))
    assert storage.folder() == tmp_path / "other"
    assert extract(draw(1))[1].images == 1
    assert segments(tmp_path / "other")
    monkeypatch.delenv("TLCLI_CACHE_DIR")
    assert storage.folder() == Path(platformdirs.user_cache_dir("tlcli"))
