"""tlcli from Python: the same answers, and nothing printed, exited or imported from click."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tlcli as library
from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import images
from tlcli.errors import DataError, RunError, TlcliError, UsageError

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
    pixels = np.stack([images.decode(path, run.image_size) for path in paths])
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
