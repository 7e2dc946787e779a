"""What a `.tflite` file says of itself, read without the code that wrote it."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from flatbuffers import number_types
from flatbuffers.table import Table
from PIL import Image

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import formats
from tlcli.formats import litert_metadata

MEDIAPIPE = "TLCLI_TEST_MEDIAPIPE"
"""The environment variable that names a Python with mediapipe; else this one is asked."""


class Read:
    """A table of a flatbuffer; fields are asked for by their place in the schema."""

    def __init__(self, table: Table) -> None:
        self._table = table

    @staticmethod
    def root(content: bytes) -> "Read":
        (place,) = np.frombuffer(content, "<u4", 1)
        return Read(Table(bytearray(content), int(place)))

    def _place(self, field: int) -> int:
        offset = self._table.Offset(4 + 2 * field)
        assert offset, f"field {field} is missing"
        return int(offset)

    def text(self, field: int) -> str:
        return str(self._table.String(self._place(field) + self._table.Pos).decode())

    def byte(self, field: int) -> int:
        at = self._place(field) + self._table.Pos
        return int(self._table.Get(number_types.Uint8Flags, at))

    def table(self, field: int) -> "Read":
        at = self._table.Indirect(self._place(field) + self._table.Pos)
        return Read(Table(self._table.Bytes, at))

    def tables(self, field: int) -> list["Read"]:
        at, count = (f(self._place(field)) for f in (self._table.Vector, self._table.VectorLen))
        places = [self._table.Indirect(at + 4 * index) for index in range(count)]
        return [Read(Table(self._table.Bytes, place)) for place in places]

    def numbers(self, field: int) -> list[float]:
        at, count = (f(self._place(field)) for f in (self._table.Vector, self._table.VectorLen))
        return [
            float(self._table.Get(number_types.Float32Flags, at + 4 * index))
            for index in range(count)
        ]


def metadata_of(path: Path) -> Read:
    """The metadata of a model, in the buffer that it names."""
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    found = {
        model.Metadata(index).Name(): model.Metadata(index).Buffer()
        for index in range(model.MetadataLength())
    }
    content = model.Buffers(found[b"TFLITE_METADATA"]).DataAsNumpy().tobytes()
    assert flatbuffers.util.BufferHasIdentifier(content, 0, b"M001")
    return Read.root(content)


def options_for(pictures: Path, int8: bool) -> tuple[object, ...]:
    return ("--int8", "--calibrate", pictures / "test") if int8 else ()


@pytest.mark.parametrize("int8", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_input_output_and_labels_are_described(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, int8: bool
) -> None:
    out = tmp_path / "model.tflite"
    told = ("--format", "litert", *options_for(pictures, int8))
    answer = tlcli.json("export", run, *told, "--out", out)
    (graph,) = metadata_of(out).tables(3)
    (image,), (probability,) = graph.tables(2), graph.tables(3)
    (normalisation,) = image.tables(4)
    assert normalisation.byte(0) == 1
    assert [normalisation.table(1).numbers(field) for field in (0, 1)] == [[0.0], [1.0]]
    content = image.table(3)
    assert (content.byte(0), content.table(1).byte(0)) == (2, 1)
    assert [image.table(5).numbers(field) for field in (0, 1)] == [[255.0], [0.0]]
    (labels,) = probability.tables(6)
    assert labels.byte(2) == 2
    with zipfile.ZipFile(out) as archive:
        assert archive.read(labels.text(0)).decode().splitlines() == answer["classes"]
        assert archive.testzip() is None


def test_the_metadata_changes_no_answer(
    tlcli: CommandLine, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    told, bare = tmp_path / "told.tflite", tmp_path / "bare.tflite"
    tlcli("export", run, "--format", "litert", "--out", told)
    monkeypatch.setattr("tlcli.formats.litert.with_metadata", lambda model, name: model)
    tlcli("export", run, "--format", "litert", "--out", bare)
    assert told.read_bytes() != bare.read_bytes()
    received = [formats.run("litert", path, pixels).tobytes() for path in (told, bare)]
    assert received[0] == received[1]


def test_a_flatbuffer_of_all_kinds_of_values() -> None:
    inner = litert_metadata.Table({1: "name"})
    outer = litert_metadata.Table({0: 7, 2: [inner, inner], 3: [0.5, -2.0], 5: inner})
    content = litert_metadata.packed(outer, b"ABCD")
    read = Read.root(content)
    assert flatbuffers.util.BufferHasIdentifier(content, 0, b"ABCD")
    assert (read.byte(0), read.numbers(3)) == (7, [0.5, -2.0])
    assert [entry.text(1) for entry in (*read.tables(2), read.table(5))] == ["name"] * 3


ASK = """
import json, sys
import numpy
from PIL import Image
import mediapipe
from mediapipe.tasks.python import BaseOptions, vision
options = vision.ImageClassifierOptions(BaseOptions(model_asset_path=sys.argv[1]))
with vision.ImageClassifier.create_from_options(options) as classifier:
    for path in sys.argv[2:]:
        pixels = numpy.array(Image.open(path).convert("RGB"))
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
        found = classifier.classify(image).classifications[0].categories
        print(json.dumps({entry.category_name: entry.score for entry in found}))
"""


def python_with_mediapipe() -> str:
    """An interpreter that can import mediapipe."""
    python = os.environ.get(MEDIAPIPE, sys.executable)
    done = subprocess.run([python, "-c", "import mediapipe"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"{python} has no mediapipe; {MEDIAPIPE} may name one that has")
    return python


@pytest.mark.slow
@pytest.mark.parametrize("int8", [False, True])
def test_mediapipe_answers_as_the_run_does(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, int8: bool
) -> None:
    python, out = python_with_mediapipe(), tmp_path / "model.tflite"
    tlcli("export", run, "--format", "litert", *options_for(pictures, int8), "--out", out)
    squares = []
    for path in sorted((pictures / "test").glob("*/000.png"))[:3]:
        squares.append(tmp_path / f"{path.parent.name}.png")
        Image.open(path).resize((tiny.IMAGE_SIZE, tiny.IMAGE_SIZE)).save(squares[-1])
    done = subprocess.run(
        [python, "-c", ASK, out, *squares],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    received: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [
        json.loads(line)
        for line in tlcli("predict", run, *squares, "--json", "--top", "3").splitlines()
    ]
    for scores, answer in zip(received, expected, strict=True):
        known = {entry["label"]: entry["probability"] for entry in answer["top"]}
        assert scores.keys() == known.keys()
        assert all(abs(scores[name] - known[name]) < (0.1 if int8 else 1e-3) for name in known)
