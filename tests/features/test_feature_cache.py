"""Segments come and go under several processes; no vector is lost, and none fills the memory."""

import errno
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.arrays import Floats
from tlcli import cache, evaluation, features, files, images, moments, strategies
from tlcli.config import no_progress
from tlcli.engines import Images, Vectors
from tlcli.errors import UsageError
from tlcli.features import Kind, Space, feature_cache, segments
from tlcli.features.feature_cache import Index, Store
from tlcli.heads import Evidence, Recipe
from tlcli.images import DECODER, Drawn, LabelledImage, Square

Listed = Callable[[int], list[LabelledImage]]

WIDTH = 4
SPACE = Space("f" * 64, WIDTH, "Fake", Kind("keras 0", DECODER), Square(8))
FULL = 10


@pytest.fixture(autouse=True)
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache whose full segments hold ten vectors, and which merges at more than four."""
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(feature_cache, "SEGMENT_BYTES", FULL * 4 * WIDTH)
    monkeypatch.setattr(feature_cache, "MOST_SMALL", 4)
    # HDF5's own bytes are more than ten vectors: a segment is small by its vectors alone here.
    monkeypatch.setattr(
        feature_cache,
        "_is_small",
        lambda entry: features.images_in(entry.bytes, WIDTH) < FULL / 2,
    )


def key(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def vector(number: int | np.int64) -> Floats:
    return np.full(WIDTH, number, np.float32) + np.arange(WIDTH, dtype=np.float32) / np.float32(8)


def kept(numbers: Sequence[int], space: Space = SPACE) -> Index:
    """Keep the vectors of images, and give them back in their order."""
    index = Index([key(number) for number in numbers], space.width)
    Store(space).store(index, ((key(number), vector(number)) for number in numbers))
    return index


def loaded(numbers: Sequence[int], space: Space = SPACE) -> Index:
    index = Index([key(number) for number in numbers], space.width)
    Store(space).load(index)
    return index


def assert_whole(index: Index, numbers: Sequence[int]) -> None:
    assert index.known.all()
    expected = [vector(number) for number in numbers]
    np.testing.assert_array_equal(index.vectors()[:], np.reshape(expected, (-1, WIDTH)))


def segment_paths() -> list[Path]:
    return sorted(Store(SPACE).folder.glob("*.h5"))


def sizes() -> list[int]:
    return sorted(features.images_in(path.stat().st_size, WIDTH) for path in segment_paths())


def write(numbers: Sequence[int]) -> None:
    """One segment, as another process would write it."""
    rows = np.array([vector(number) for number in numbers])
    content = segments.pack(segments.keys_of([key(number) for number in numbers]), rows)
    folder = Store(SPACE).folder
    folder.mkdir(parents=True, exist_ok=True)
    with files.written(folder / segments.name_of(content)) as stream:
        stream.write(content)


@pytest.mark.parametrize("width", [1, 3, 256, 1280])
@pytest.mark.parametrize("count", [1, 2, 33, 500])
def test_the_number_of_vectors_follows_from_a_segment_s_size(width: int, count: int) -> None:
    hashes = [key(number) for number in range(count)]
    content = segments.pack(segments.keys_of(hashes), np.zeros((count, width), np.float32))
    assert features.images_in(len(content), width) == count


def test_keys_that_end_in_zeros_are_kept_apart(tmp_path: Path) -> None:
    hashes = ["ab" * 31 + "00", "ab" * 30 + "0000", "00" * 32, "00" * 31 + "ab", "ab" * 32]
    rows = np.arange(5 * WIDTH, dtype=np.float32).reshape(5, WIDTH)
    content = segments.pack(segments.keys_of(hashes), rows)
    path = tmp_path / segments.name_of(content)
    path.write_bytes(content)
    segment = segments.opened(path, WIDTH)
    for order in (hashes, hashes[::-1], hashes[2:4]):
        index = Index(order, WIDTH)
        assert index.add(segment.keys, segment.rows)
        expected = [rows[hashes.index(name)] for name in order]
        np.testing.assert_array_equal(index.vectors()[:], expected)


def test_too_many_small_segments_are_merged_into_full_ones() -> None:
    for number in range(0, 12, 3):
        kept(range(number, number + 3))
    assert sizes() == [3, 3, 3, 3]
    index = kept(range(12, 15))
    assert sizes() == [5, 10]
    assert_whole(index, range(12, 15))
    assert_whole(loaded(range(15)), range(15))


def test_merging_keeps_each_vector_once_and_does_not_depend_on_who_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [range(3), range(1, 4), range(2, 5), range(4, 6), range(6, 9)]
    names: list[list[str]] = []
    for order in (pieces, pieces[::-1]):
        monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / f"cache {len(names)}"))
        for piece in order:
            write(piece)
        kept([1])
        assert sum(sizes()) == 9
        names.append([path.name for path in segment_paths()])
    assert names[0] == names[1]


def test_a_merge_whose_result_is_one_of_its_sources_keeps_it() -> None:
    ordered = sorted(range(4), key=key)
    for numbers in (ordered, ordered[:1], ordered[1:2], ordered[2:3], ordered[3:]):
        write(numbers)
    kept([ordered[0]])
    assert sizes() == [4]
    assert_whole(loaded(range(4)), range(4))


def test_a_long_extraction_holds_few_files_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_cache, "SEGMENT_SECONDS", 0.0)
    before = len(list(Path("/proc/self/fd").iterdir()))
    keeper, index = Store(SPACE), Index([key(number) for number in range(60)], WIDTH)
    keeper.store(index, ((key(number), vector(number)) for number in range(60)))
    most = 60 / (FULL / 2) + feature_cache.MOST_SMALL
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= most
    assert_whole(index, range(60))
    assert len(segment_paths()) <= most


def test_a_segment_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when it is deleted meanwhile."""
    kept(range(5))
    keeper = Store(SPACE)
    for _ in range(2):
        index = Index([key(number) for number in range(5)], WIDTH)
        keeper.load(index)
        assert_whole(index, range(5))
        monkeypatch.setattr(segments, "opened", pytest.fail)
        for path in segment_paths():
            path.unlink()


def test_a_merge_that_cannot_be_written_loses_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        write([number])
    real = files.written
    calls = []

    def full(path: Path) -> AbstractContextManager[Any]:
        calls.append(path)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path)

    monkeypatch.setattr(files, "written", full)
    found = kept([5])
    assert_whole(found, [5])
    assert_whole(loaded(range(6)), range(6))
    assert sizes() == [1] * 6
    assert len(caplog.messages) == 1


def test_a_reader_finds_what_was_merged_behind_its_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has listed the small segments, and they are gone when it comes to open them."""
    for number in range(0, 12, 3):
        write(range(number, number + 3))
    real = segments.opened
    merged: list[Path] = []

    def opened(path: Path, width: int) -> segments.Segment:
        if not merged:
            merged.append(path)
            kept(range(12, 15))
            assert not path.exists()
        return real(path, width)

    monkeypatch.setattr(segments, "opened", opened)
    assert_whole(loaded(range(12)), range(12))
    assert merged
    assert not caplog.messages


def test_readers_and_writers_at_once_lose_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Threads stand for processes: a store shares nothing but the folder."""
    numbers = range(300)
    kept(numbers[:3])
    failures = []

    def writer(start: int) -> None:
        for number in range(start, 300, 3):
            write([number])
            kept([number])

    def reader() -> None:
        for _ in range(30):
            try:
                assert_whole(loaded(numbers[:3]), numbers[:3])
            except AssertionError as error:
                failures.append(error)

    threads = [threading.Thread(target=writer, args=(start,)) for start in range(3)]
    threads += [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert_whole(loaded(numbers), numbers)
    assert not caplog.messages


class Hesitant(dict[Path, Any]):
    """Lets other threads in between a question and what follows from its answer."""

    def __contains__(self, wanted: object) -> bool:
        answer = super().__contains__(wanted)
        time.sleep(1e-5)
        return answer


def test_threads_share_a_store(caplog: pytest.LogCaptureFixture) -> None:
    """Each writes vectors of its own, and finds those of the others, while segments are merged."""
    shared = Store(SPACE, Hesitant())

    def work(first: int) -> None:
        for number in range(first, 160, 8):
            own = Index([key(number)], WIDTH)
            shared.store(own, iter([(key(number), vector(number))]))
            assert_whole(own, [number])
            everything = Index([key(number) for number in range(160)], WIDTH)
            shared.load(everything)
            found = np.flatnonzero(everything.known)
            assert number in found
            expected = [vector(known) for known in found]
            np.testing.assert_array_equal(everything.vectors()[:], expected)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert_whole(loaded(range(160)), range(160))
    assert not caplog.messages


def test_vectors_outlive_their_segments() -> None:
    index = kept(range(25))
    fresh = loaded(range(25))
    for path in segment_paths():
        path.unlink()
    assert_whole(index, range(25))
    assert_whole(fresh, range(25))


def test_a_killed_writer_s_files_are_swept_and_a_running_one_s_are_not() -> None:
    kept([1])
    folder = segment_paths()[0].parent
    left = [folder / f".{'a' * 64}.h5.{number}" for number in (1, 2)]
    for path, age in zip(left, (4000, 3000), strict=True):
        path.touch()
        os.utime(path, (time.time() - age,) * 2)
    kept([2])
    assert [path.exists() for path in left] == [False, True]


def test_the_folder_says_what_it_is_for() -> None:
    kept([1])
    description = segment_paths()[0].parent / features.DESCRIPTION
    content = json.loads(description.read_text())
    assert content == {
        "fingerprint": "f" * 64,
        "image_size": 8,
        "width": WIDTH,
        "backbone": "Fake",
        "arithmetic": "keras 0",
        "decoder": DECODER,
    }
    before = description.stat()
    kept([2])
    assert description.stat() == before


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"\xff"), None])
def test_the_description_never_matters(
    damage: Callable[..., Any] | None, caplog: pytest.LogCaptureFixture
) -> None:
    kept([1])
    description = segment_paths()[0].parent / features.DESCRIPTION
    if damage:
        damage(description)
    else:
        description.unlink()
        description.mkdir()
    assert_whole(loaded([1]), [1])
    kept([2])
    assert_whole(loaded([1, 2]), [1, 2])
    assert not caplog.messages


def test_the_name_of_the_backbone_is_no_part_of_the_key() -> None:
    kept([1])
    renamed = Space("f" * 64, WIDTH, "Other", Kind("keras 0", DECODER), Square(8))
    assert_whole(loaded([1], renamed), [1])


def test_use_is_remembered_for_the_segments_that_were_useful() -> None:
    kept([1])
    kept([2])
    for path in segment_paths():
        os.utime(path, (1000, 1000))
    loaded([1])
    assert sorted(path.stat().st_mtime > 1000 for path in segment_paths()) == [False, True]


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Listed:
    """Images that need no file: image `number` decodes to its number."""

    def make(count: int) -> list[LabelledImage]:
        return [
            LabelledImage(Path(str(number)), key(number), label=f"class {number % 5}")
            for number in range(count)
        ]

    def draw_many(wanted: list[LabelledImage], square: Square, workers: int) -> Iterator[Drawn]:
        for image in wanted:
            yield Drawn(np.full((1, 1, 3), int(image.path.name) % 251, np.uint8), 255)

    monkeypatch.setattr(images, "draw_many", draw_many)
    return make


class Wide:
    """An engine whose vectors are 256 wide."""

    def __init__(self) -> None:
        self.images = 0

    def features(self, images: Images) -> Vectors:
        for image in images:
            self.images += 1
            yield np.full(256, image[0, 0, 0], np.float32) + np.float32(self.images % 7)


WIDE = Space("e" * 64, 256, "Fake", Kind("keras 0", DECODER), Square(8))


def test_a_limit_of_nothing_keeps_nothing_beyond_the_command(
    listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLCLI_CACHE_LIMIT", "0")
    wanted = listed(25)
    found = features.extract(wanted, Store(WIDE), Wide, no_progress)
    assert cache.segments(cache.spaces()[0]) == []
    monkeypatch.setenv("TLCLI_CACHE_LIMIT", "1GB")
    again = features.extract(wanted, Store(WIDE), Wide, no_progress)
    assert again.from_cache == 0
    np.testing.assert_array_equal(found.vectors[:], again.vectors[:])


def test_a_limit_that_is_nonsense_is_refused_before_the_work(
    listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TLCLI_CACHE_LIMIT", "much")
    with pytest.raises(UsageError, match="much"):
        features.extract(listed(2), Store(WIDE), pytest.fail, no_progress)


def peak_bytes(wanted: list[LabelledImage]) -> tuple[int, int]:
    """Most memory that features, moments and validation take at once, and the features' size."""
    tracemalloc.start()
    found = features.extract(wanted, Store(WIDE), Wide, no_progress)
    total = moments.of(found.vectors, found.labels, WIDE.fingerprint, 8)
    classes = tuple(sorted(set(found.labels)))
    fit = strategies.first(Recipe())
    examples = found.examples
    evidence = Evidence(total, examples, examples.take([]))
    assert len(evaluation.cross_validate(fit, evidence, classes, False).true) == len(wanted)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, found.vectors[:].nbytes


def test_memory_does_not_grow_with_the_vectors(
    listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "SEGMENT_BYTES", 2**19)
    monkeypatch.setattr(moments, "_BLOCK_ROWS", 256)
    few, many = listed(3000), listed(15_000)
    first, first_bytes = peak_bytes(few)
    second, second_bytes = peak_bytes(many)
    growth = second_bytes - first_bytes
    assert growth > 12e6
    assert second - first < 0.4 * growth


# Extracts, and says on standard output when ten more images have been answered.
EXTRACTOR = """
    import sys
    from pathlib import Path
    import numpy as np
    from tests.features import test_feature_cache as here
    from tlcli import features, images
    from tlcli.config import no_progress
    from tlcli.features import feature_cache

    class Slow(here.Wide):
        def features(self, pixels):
            for number, vector in enumerate(super().features(pixels)):
                if number == 35:
                    print("35", flush=True)
                    sys.stdin.read()
                yield vector

    feature_cache.SEGMENT_BYTES = 10 * 4 * 256
    drawn = images.Drawn(np.zeros((1, 1, 3), np.uint8), 255)
    images.draw_many = lambda wanted, square, workers: (drawn for _ in wanted)
    wanted = [here.LabelledImage(Path(str(n)), here.key(n), label="a") for n in range(50)]
    features.extract(wanted, features.Store(here.WIDE), Slow, no_progress)
"""


def test_what_was_committed_before_a_kill_is_not_computed_again(listed: Listed) -> None:
    command = [sys.executable, "-c", textwrap.dedent(EXTRACTOR)]
    pipe, top = subprocess.PIPE, Path(__file__).parents[2]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=top) as process:
        assert process.stdout and process.stdout.readline() == b"35\n"
        process.kill()
    engine = Wide()
    found = features.extract(listed(50), Store(WIDE), lambda: engine, no_progress)
    assert (found.from_cache, engine.images) == (30, 20)
    assert found.vectors.shape == (50, 256)
