"""Every image goes through the backbone once, and results never depend on the cache."""

import hashlib
import logging
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from PIL import Image

from tlcli import cache as storage
from tlcli import features, files
from tlcli.config import no_progress
from tlcli.engines import BATCH
from tlcli.features import Space
from tlcli.images import LabelledImage

SPACE = Space("f" * 64, image_size=8, width=3)


class MeanColour:
    """An engine whose feature vector is the mean colour; remembers what it was given."""

    def __init__(self):
        self.batches = []

    def features(self, batches):
        for batch in batches:
            self.batches.append(batch)
            yield batch.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)

    @property
    def images(self):
        """How many images that are not padding came by."""
        return sum(int(batch.any(axis=(1, 2, 3)).sum()) for batch in self.batches)


class ReadingAhead(MeanColour):
    """Answers only after it has taken in up to three batches, as a pipeline would."""

    def features(self, batches):
        waiting = []
        for vectors in super().features(batches):
            waiting.append(vectors)
            if len(waiting) == 3:
                yield waiting.pop(0)
        yield from waiting


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The folder of the caches."""
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def colour(number):
    return (number % 200 + 1, number // 200 + 1, 7)


def listed(path, label="cat"):
    return LabelledImage(path, label, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture
def draw(tmp_path):
    """Make images of one colour each, numbered from `first`."""

    def make(count, first=0):
        paths = [tmp_path / f"{number}.png" for number in range(first, first + count)]
        for number, path in enumerate(paths, first):
            Image.new("RGB", (8, 8), colour(number)).save(path)
        return [listed(path) for path in paths]

    return make


def extract(wanted, engine=None, space=SPACE, progress=no_progress):
    engine = engine or MeanColour()
    found = features.extract(wanted, space, lambda: engine, progress)
    return found, engine


def assert_right(found, wanted):
    assert found.images == tuple(wanted)
    assert found.vectors.dtype == np.float32
    expected = [colour(int(Path(image.path).stem)) for image in wanted]
    np.testing.assert_allclose(found.vectors, np.reshape(expected, (-1, 3)), atol=1e-3)


def segments(cache):
    return sorted(cache.rglob("*.h5"))


@pytest.mark.parametrize("engine", [MeanColour, ReadingAhead])
@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 4 * BATCH + 3])
def test_vectors_are_in_the_order_of_the_images(draw, count, engine):
    wanted = draw(count)
    found, _ = extract(wanted, engine())
    assert_right(found, wanted)
    assert found.from_cache == 0
    again, _ = extract(wanted[::-1], engine())
    assert_right(again, wanted[::-1])


@pytest.mark.parametrize("count", [1, BATCH, BATCH + 5])
def test_batches_are_always_full_and_padded_with_black(draw, count):
    _, engine = extract(draw(count))
    assert {(batch.shape, str(batch.dtype)) for batch in engine.batches} == {
        ((BATCH, 8, 8, 3), "uint8")
    }
    assert len(engine.batches) == -(-count // BATCH)
    flat = np.concatenate(engine.batches)
    assert flat[:count].any(axis=(1, 2, 3)).all()
    assert not flat[count:].any()


def test_no_image_is_computed_twice(draw):
    wanted = draw(5)
    extract(wanted)
    found = features.extract(wanted, SPACE, pytest.fail, no_progress)
    assert_right(found, wanted)
    assert found.from_cache == 5


def test_only_what_is_missing_is_computed(draw):
    extract(draw(4))
    wanted = draw(7)
    found, engine = extract(wanted)
    assert_right(found, wanted)
    assert (found.from_cache, engine.images) == (4, 3)


def test_a_renamed_image_is_the_same_image(draw, tmp_path):
    (image,) = draw(1)
    extract([image])
    moved = listed(image.path.rename(tmp_path / "moved.png"), "dog")
    found = features.extract([moved], SPACE, pytest.fail, no_progress)
    assert found.labels == ("dog",)
    np.testing.assert_allclose(found.vectors, [colour(0)])


def test_an_image_that_changed_is_computed_again(draw):
    (image,) = draw(1)
    extract([image])
    image.path.write_bytes(image.path.read_bytes() + b"x")
    _, engine = extract([listed(image.path)])
    assert engine.images == 1


def test_an_image_that_changes_after_it_was_listed_does_not_spoil_the_cache(draw):
    (image,) = draw(1)
    before = image.path.read_bytes()
    Image.new("RGB", (8, 8), (90, 90, 90)).save(image.path)
    extract([image])
    image.path.write_bytes(before)
    assert_right(extract([image])[0], [image])


def test_labels_and_hashes_are_those_of_the_images(draw):
    wanted = [replace(image, label=label) for image, label in zip(draw(2), "ab", strict=True)]
    found, _ = extract(wanted)
    assert found.labels == ("a", "b")
    assert found.hashes == tuple(image.sha256 for image in wanted)
    second = found.where(np.array([False, True]))
    assert second.labels == ("b",)
    np.testing.assert_array_equal(second.vectors, found.vectors[1:])


def test_images_that_do_not_decode_are_skipped_and_named(draw):
    wanted = draw(BATCH + 8)
    for image in (wanted[0], wanted[3], wanted[BATCH]):
        image.path.write_bytes(b"not an image")
    wanted[5].path.unlink()
    wanted = [listed(image.path) if image.path.exists() else image for image in wanted]
    bad = [wanted[0], wanted[3], wanted[5], wanted[BATCH]]
    found, _ = extract(wanted)
    assert_right(found, [image for image in wanted if image not in bad])
    assert [entry.path for entry in found.skipped] == [str(image.path) for image in bad]
    assert all(entry.reason for entry in found.skipped)
    again, engine = extract(wanted)
    assert len(again.skipped) == 4
    assert engine.images == 0


def test_nothing_but_bad_images_gives_no_vectors(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"not an image")
    found, engine = extract([listed(tmp_path / "bad.png")])
    assert found.images == ()
    assert found.vectors.shape == (0, 3)
    assert len(found.skipped) == 1
    assert engine.batches == []


def test_no_image_gives_no_vectors(cache):
    found = features.extract([], SPACE, pytest.fail, no_progress)
    assert found.vectors.shape == (0, 3)
    assert not cache.exists()


def test_progress_is_told_from_nothing_to_all(draw):
    told = []
    extract(draw(3), progress=lambda *step: told.append(step))
    assert told[0] == ("features", 0, 3)
    assert told[-1] == ("features", 3, 3)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_vectors_are_saved_before_all_are_computed(draw, cache, monkeypatch):
    """A kill costs no more than one segment."""
    monkeypatch.setattr(features, "SEGMENT_IMAGES", BATCH)

    class Dying(MeanColour):
        def features(self, batches):
            for number, vectors in enumerate(super().features(batches)):
                if number == 2:
                    raise KeyboardInterrupt
                yield vectors

    wanted = draw(3 * BATCH)
    with pytest.raises(KeyboardInterrupt):
        extract(wanted, Dying())
    assert len(segments(cache)) >= 1
    found, engine = extract(wanted)
    assert_right(found, wanted)
    assert engine.images <= 2 * BATCH
    assert found.from_cache >= BATCH


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def garbage(path):
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def other_number(path):
    damaged = path.read_bytes().replace(np.float32(7).tobytes(), np.float32(8).tobytes())
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)


def other_width(path):
    keys = np.zeros((2, 32), np.uint8)
    vectors = np.zeros((2, 4), np.float32)
    checksum = hashlib.sha256(keys.tobytes() + vectors.tobytes()).hexdigest()
    files.save_arrays(path, {"keys": keys, "vectors": vectors}, {"sha256": checksum})


def no_vectors(path):
    files.save_arrays(path, {"keys": np.zeros((2, 32), np.uint8)}, {"sha256": ""})


def folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = [
    truncate,
    empty,
    garbage,
    other_number,
    other_width,
    no_vectors,
    folder,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_segment_is_warned_of_and_its_vectors_are_computed_again(
    draw, cache, caplog, damage
):
    wanted = draw(3)
    extract(wanted)
    (segment,) = segments(cache)
    damage(segment)
    with caplog.at_level(logging.WARNING, "tlcli"):
        found, engine = extract(wanted)
    assert_right(found, wanted)
    assert engine.images == 3
    assert str(segment) in caplog.text


@pytest.mark.parametrize("damage", [truncate, empty, garbage, other_number])
def test_a_damaged_segment_is_replaced(draw, cache, caplog, damage):
    wanted = draw(3)
    extract(wanted)
    damage(segments(cache)[0])
    extract(wanted)
    caplog.clear()
    assert features.extract(wanted, SPACE, pytest.fail, no_progress).from_cache == 3
    assert not caplog.records


# Flips bits of a segment in a process that can be given up, and prints what went wrong.
FLIPPER = """
    import logging, sys
    from pathlib import Path
    from tlcli.features import Cache

    logging.disable()
    segment = Path(sys.argv[1])
    whole = segment.read_bytes()
    before = Cache(segment.parent, 3).load(set(sys.argv[2:]))
    assert len(before) == 2
    for place in range(0, len(whole), 4):
        for bit in (0, 7):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            segment.write_bytes(damaged)
            for key, vector in Cache(segment.parent, 3).load(set(before)).items():
                assert vector.tobytes() == before[key].tobytes(), (place, bit)
"""


def test_no_flipped_bit_of_a_segment_does_harm(draw, cache):
    wanted = draw(2)
    extract(wanted)
    keys = [image.sha256 for image in wanted]
    command = [sys.executable, "-c", textwrap.dedent(FLIPPER), str(segments(cache)[0]), *keys]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=15)
    except subprocess.TimeoutExpired:
        pytest.fail("hangs")
    assert (done.returncode, done.stderr) == (0, "")


def at_the_top(cache):
    cache.write_text("in the way")


def in_the_middle(cache):
    cache.mkdir()
    (cache / "features").write_text("in the way")


def at_the_end(cache):
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
    draw, cache, caplog, monkeypatch, block
):
    monkeypatch.setattr(features, "SEGMENT_IMAGES", 1)
    block(cache)
    wanted = draw(3)
    with caplog.at_level(logging.WARNING, "tlcli"):
        found, _ = extract(wanted)
    assert_right(found, wanted)
    assert len(caplog.records) == 1
    assert str(cache) in caplog.text


def test_a_cache_that_is_cleared_meanwhile_is_done_without(draw, cache):
    written = files.written

    def cleared_first(path):
        shutil.rmtree(cache)
        return written(path)

    wanted = draw(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "written", cleared_first)
        found, _ = extract(wanted)
    assert_right(found, wanted)


OTHERS = [
    replace(SPACE, fingerprint="e" * 64),
    replace(SPACE, image_size=16),
    replace(SPACE, engine="openvino"),
]


@pytest.mark.parametrize("other", OTHERS, ids=["fingerprint", "size", "engine"])
def test_each_space_has_a_cache_of_its_own(draw, cache, other):
    wanted = draw(2)
    extract(wanted)
    _, engine = extract(wanted, space=other)
    assert engine.images == 2
    assert len({path.parent for path in segments(cache)}) == 2


def test_another_decoder_has_a_cache_of_its_own(draw, monkeypatch):
    wanted = draw(2)
    extract(wanted)
    monkeypatch.setattr(features, "DECODER", "2")
    assert extract(wanted)[1].images == 2


def test_the_cache_is_where_the_environment_says(draw, cache, tmp_path, monkeypatch):
    extract(draw(1))
    assert segments(cache)
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "other"))
    assert storage.folder() == tmp_path / "other"
    assert extract(draw(1))[1].images == 1
    assert segments(tmp_path / "other")
    monkeypatch.delenv("TLCLI_CACHE_DIR")
    assert storage.folder() == Path(platformdirs.user_cache_dir("tlcli"))
