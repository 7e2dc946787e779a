"""tlcli from Python: the same answers, and nothing printed, exited or imported from click."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tlcli as library
from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import cache, engines, images
from tlcli import library as module
from tlcli.errors import DataError, RunError, TlcliError, UsageError
from tlcli.library import OpenRun

# Keras 3.15 copies TensorFlow's variables in a way that NumPy 2 remarks on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

QUIET = """
import sys, warnings
import tlcli

run = tlcli.open_run(sys.argv[1])
answers = run.predict([sys.argv[2], "nowhere.png"], threshold=0.2)
assert [answer.error for answer in answers][-1] == "the file does not exist"
try:
    run.evaluate("nowhere")
except tlcli.errors.UsageError as error:
    assert "nowhere" in str(error)
sys.exit(", ".join({"click", "tensorflow"} & set(sys.modules)) or None)
"""


def test_it_answers_as_the_command_line_does(
    tlcli: CommandLine, first_run: Path, pictures: Path
) -> None:
    run = library.open_run(first_run)
    answers = run.predict([pictures / "test", "nowhere.png"], threshold=0.5)
    command = ("predict", first_run, pictures / "test", "nowhere.png", "--threshold", "0.5")
    lines = tlcli(*command, "--json").splitlines()
    assert [answer.to_json() for answer in answers] == [json.loads(line) for line in lines]
    assert (run.round, run.classes, run.image_size) == (1, ("apple", "leaf", "sky"), 32)


def test_it_measures_as_the_command_line_does(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    tlcli("extend-classes", run, pictures / "second")
    data = tiny.draw(tmp_path / "data", ["apple", "sun"], count=3, seed=1)
    assert library.open_run(run).evaluate(data) == tlcli.json("evaluate", run, data)
    learned = pictures / "first"
    with pytest.raises(DataError, match="all learned"):
        library.open_run(run).evaluate(learned)
    first = library.open_run(str(run), round=1).evaluate(learned, include_learned=True)
    assert first["learned"]["included"] == first["images"]
    options = ("--round", 1, "--include-learned")
    assert first == tlcli.json("evaluate", run, learned, *options)


def test_its_keras_model_gives_the_same_probabilities(
    tiny_backbone: None, first_run: Path, pictures: Path
) -> None:
    run = library.open_run(first_run)
    paths = sorted((pictures / "test" / "leaf").iterdir())
    pixels = np.stack([images.decode(path, images.Square(run.image_size)) for path in paths])
    received = run.keras_model().predict(pixels, verbose=0)
    expected = [
        [dict(answer.top)[name] for name in run.classes] for answer in run.predict(paths, top=3)
    ]
    np.testing.assert_allclose(received, expected, atol=1e-4)


def test_it_prints_nothing_and_does_without_click_and_tensorflow(
    first_run: Path, pictures: Path
) -> None:
    command = [sys.executable, "-c", QUIET, str(first_run), str(pictures / "test")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_wrong_is_raised(first_run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        library.open_run(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="4"):
        library.open_run(first_run, round=4)
    (tmp_path / "rounds" / "0001").mkdir(parents=True)
    with pytest.raises(RunError):
        library.open_run(tmp_path)
    assert issubclass(RunError, TlcliError)


def test_one_path_is_enough_and_senseless_numbers_are_refused(
    tiny_backbone: None, first_run: Path, pictures: Path
) -> None:
    run = library.open_run(first_run)
    image = pictures / "test" / "sky" / "000.png"
    for path in (image, str(image)):
        (answer,) = run.predict(path)
        assert answer.label == "sky"
    for options in ({"top": 0}, {"top": -1}, {"threshold": 50}):
        with pytest.raises(UsageError):
            run.predict(image, **options)


# --- images in memory


@pytest.fixture
def opened(tiny_backbone: None, first_run: Path) -> OpenRun:
    return library.open_run(first_run)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows with every image that goes through the backbone."""
    seen: list[None] = []
    features = engines.OpenVINOEngine.features

    def counted(self: engines.OpenVINOEngine, given: engines.Images) -> engines.Vectors:
        def taken() -> Iterator[Any]:
            for image in given:
                seen.append(None)
                yield image

        return features(self, taken())

    monkeypatch.setattr(engines.OpenVINOEngine, "features", counted)
    return seen


def noise(mode: str, seed: int, size: tuple[int, int] = (90, 70)) -> Image.Image:
    """A picture that no other test has."""
    depth = len(mode)
    values = np.random.default_rng([seed, depth]).integers(0, 256, (*size[::-1], depth))
    return Image.fromarray(values.astype(np.uint8).squeeze())


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    image.save(stream := io.BytesIO(), kind, **options)
    return stream.getvalue()


def entry_of(path: Path) -> os.DirEntry[str]:
    with os.scandir(path.parent) as entries:
        return next(entry for entry in entries if entry.name == path.name)


def test_a_mixture_is_answered_in_its_order(opened: OpenRun, pictures: Path) -> None:
    leaf, sky = (pictures / "test" / name / "000.png" for name in ("leaf", "sky"))
    expected = {path: opened.predict(path, top=3)[0].top for path in (leaf, sky)}

    def given() -> Iterator[module.Given]:
        yield str(leaf)
        yield sky.read_bytes()
        yield np.asarray(Image.open(leaf))
        yield sky
        yield bytearray(leaf.read_bytes())
        with sky.open("rb") as file:
            yield file
        yield Image.open(leaf)
        yield entry_of(sky)
        yield memoryview(leaf.read_bytes())
        yield io.BytesIO(sky.read_bytes())

    answers = opened.predict(given(), top=3)
    assert [answer.top for answer in answers] == 5 * [expected[leaf], expected[sky]]
    paths = [str(leaf), None, None, str(sky), None, None, None, str(sky), None, None]
    assert [answer.path for answer in answers] == paths
    assert answers[1].to_json() == opened.predict(sky, top=3)[0].to_json() | {"path": None}


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_pixels_have_the_bits_of_the_lossless_file(
    opened: OpenRun, tmp_path: Path, mode: str
) -> None:
    (image := noise(mode, 1)).save(path := tmp_path / "image.png")
    pixels = np.asarray(image)
    files, *others = opened.predict([path, pixels, pixels[::-1][::-1], image, Image.open(path)])
    assert image.mode == mode
    assert [answer.top for answer in others] == 4 * [files.top]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_bytes_and_pil_images_are_turned_upright_as_files_are(
    opened: OpenRun, tmp_path: Path, kind: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encoded(noise("RGB", 2, (60, 50)), kind, exif=exif)
    (path := tmp_path / "image").write_bytes(content)
    plain = encoded(noise("RGB", 2, (60, 50)), kind)
    answers = opened.predict([content, path, io.BytesIO(content), Image.open(path), plain])
    turned, *same, unturned = (answer.top for answer in answers)
    assert same == 3 * [turned]
    assert unturned != turned


def test_a_large_jpeg_is_shrunk_while_it_is_decoded_and_a_pil_image_is_left_as_it_is(
    opened: OpenRun, tmp_path: Path
) -> None:
    content = encoded(noise("RGB", 3, (640, 480)), "JPEG")
    (path := tmp_path / "image.jpg").write_bytes(content)
    image = Image.open(path)
    file, in_memory, lazily, loaded = opened.predict([path, content, image, image])
    assert file.top == in_memory.top
    assert lazily.top == loaded.top == opened.predict(np.asarray(image))[0].top
    assert image.size == (640, 480)
    assert image.getpixel((0, 0)) is not None


def test_files_in_memory_are_cached_and_pixels_are_not(
    opened: OpenRun, tmp_path: Path, computed: list[None]
) -> None:
    def segments() -> int:
        return len(list(cache.folder().glob("features/*/*.h5")))

    before, image = segments(), noise("RGB", 4)
    for _ in range(2):
        opened.predict([image, np.asarray(image)])
    assert (segments(), len(computed)) == (before, 4)
    (path := tmp_path / "image.png").write_bytes(content := encoded(image, "PNG"))
    expected = opened.predict(image)[0].top
    mixed: list[bytes | Path] = [content, path]
    for given in (content, path, io.BytesIO(content), mixed):
        assert opened.predict(given)[0].top == expected
    assert len(computed) == 4 + 1 + 1


def test_many_items_are_answered_a_batch_at_a_time(
    opened: OpenRun, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted((pictures / "test").rglob("*.png"))
    expected = [answer.top for answer in opened.predict(paths)]
    given = [path if place % 3 else path.read_bytes() for place, path in enumerate(paths)]
    for most, most_bytes in ((3, 2**20), (1000, 5000)):
        monkeypatch.setattr(module, "MOST", most)
        monkeypatch.setattr(module, "MOST_BYTES", most_bytes)
        assert [answer.top for answer in opened.predict(iter(given))] == expected
    assert opened.predict([]) == []


def test_an_array_of_images_is_many_images(opened: OpenRun) -> None:
    batch = np.stack([np.asarray(noise("RGB", seed)) for seed in (5, 6, 7)])
    assert opened.predict(batch) == [answer for image in batch for answer in opened.predict(image)]


def test_what_is_damaged_is_answered_with_its_error(opened: OpenRun, pictures: Path) -> None:
    good = (pictures / "test" / "sky" / "000.png").read_bytes()
    (closed := io.BytesIO(good)).close()
    content = encoded(noise("RGB", 8), "PNG")
    bad: list[tuple[module.Given, str]] = [
        (b"", "the file is empty"),
        (b"\x89PNG and no more", "a damaged PNG"),
        (closed, "I/O operation on closed file"),
        (Image.open(io.BytesIO(content[:2000])), "truncated"),
        (Image.new("F", (4, 4)), "floating-point"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        ("nowhere.png", "does not exist"),
    ]
    answers = opened.predict(item for given, _ in bad for item in (given, good))
    for answer, (_, reason) in zip(answers[::2], bad, strict=True):
        assert reason in str(answer.error)
        assert answer.label is None
    assert {answer.label for answer in answers[1::2]} == {"sky"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (3, "int"),
        (None, "NoneType"),
        ([b"", ["a.png"]], "list"),
        (io.StringIO("text"), "StringIO"),
        (np.zeros((4, 4, 3)), "float64"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
        ([np.zeros((1, 4, 4, 3), np.uint8)], r"\(1, 4, 4, 3\)"),
    ],
)
def test_what_is_no_image_is_refused(opened: OpenRun, given: Any, named: str) -> None:
    with pytest.raises(UsageError, match=f"Expected an .*uint8.*{named}|Expected an .*{named}"):
        opened.predict(given)


def test_an_open_file_is_read_from_its_beginning_where_it_has_one(
    opened: OpenRun, pictures: Path
) -> None:
    path = pictures / "test" / "leaf" / "000.png"
    with path.open("rb") as file:
        file.read(10)
        assert [answer.label for answer in opened.predict([file, file])] == ["leaf", "leaf"]
    read, write = os.pipe()
    with os.fdopen(read, "rb") as pipe, os.fdopen(write, "wb") as end:
        end.write(path.read_bytes())
        end.close()
        assert [answer.label for answer in opened.predict(pipe)] == ["leaf"]
