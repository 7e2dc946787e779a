"""`tlcli export`: every format answers as the run does, or nothing is written."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import CommandLine
from tests.support import runtimes, tiny
from tlcli import files, formats
from tlcli.backbones import openvino_ir
from tlcli.files import drafts
from tlcli.formats import FORMATS
from tlcli.images import FITS, Square, decode

# Keras 3.15 copies TensorFlow's variables in a way that NumPy 2 remarks on.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HERE = Path(__file__).parents[2]
CLASSES = ["apple", "leaf", "sky"]
ODD = ["café, noir", 'quote " & <tag>', "Z 雪 \U0001f600"]


def target(folder: Path, name: str) -> Path:
    return folder / f"model{FORMATS[name].suffix}"


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def answers_of_run(
    tlcli: Callable[..., str], run: Path, images: list[Path], classes: list[str]
) -> Any:
    """Probabilities (n, C) as `predict --json` gives them."""
    lines = tlcli("predict", run, *images, "--json", "--top", len(classes)).splitlines()
    tops = [{top["label"]: top["probability"] for top in json.loads(line)["top"]} for line in lines]
    return np.array([[top[name] for name in classes] for top in tops])


def save(folder: Path, pixels: Any) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{index:02d}.png" for index in range(len(pixels))]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    return paths


def noise(size: int, count: int = 6) -> Any:
    shape = (count, size, size, 3)
    return np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_gives_the_answers_of_the_run(
    tlcli: CommandLine, run: Path, tmp_path: Path, name: str
) -> None:
    pixels = noise(tiny.IMAGE_SIZE)
    expected = answers_of_run(tlcli, run, save(tmp_path / "images", pixels), CLASSES)
    out = target(tmp_path / "out", name)
    out.parent.mkdir()
    answer = tlcli.json("export", run, "--format", name, "--out", out)
    assert tlcli.err == ""
    received = formats.run(name, out, pixels)
    assert formats.compare(expected, received).deviation < 1e-4
    assert 0 < answer["check"]["deviation"] < answer["check"]["limit"]
    assert (answer["precision"], answer["int8"]) == ("float32", None)
    assert (answer["image_size"], answer["classes"]) == (tiny.IMAGE_SIZE, CLASSES)
    assert answer["bytes"] == sum(map(len, content_of(out.parent).values()))
    expected_names = {out.name, "model.bin"} if name == "openvino" else {out.name}
    assert {path.name for path in out.parent.iterdir()} == expected_names


def test_the_checksum_is_that_of_the_file_or_of_what_sha256sum_says(
    tlcli: CommandLine, run: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "model.keras", tmp_path / "model.xml"
    answer = tlcli.json("export", run, "--out", one)
    assert answer["sha256"] == hashlib.sha256(one.read_bytes()).hexdigest()
    answer = tlcli.json("export", run, "--format", "openvino", "--out", two)
    lines = [f"{files.sha256(tmp_path / n)}  {n}\n" for n in ("model.bin", "model.xml")]
    assert answer["sha256"] == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_checksum_of_files_whose_name_is_no_utf_8(
    tlcli: CommandLine, run: Path, tmp_path: Path
) -> None:
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.xml"))
    answer = tlcli.json("export", run, "--format", "openvino", "--out", out)
    listed = subprocess.run(
        ["sha256sum", b"caf\xe9.bin", b"caf\xe9.xml"],
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert answer["sha256"] == hashlib.sha256(listed.stdout).hexdigest()


@pytest.fixture(scope="module")
def odd_run(tiny_backbone: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second round, with a projection, and class names that are hard to store."""
    from tlcli.cli import app

    folder = tmp_path_factory.mktemp("odd")
    parts = ("first", "first", "second")
    for part, name, colour in zip(parts, ODD, tiny.COLOURS, strict=False):
        (folder / part).mkdir(exist_ok=True)
        (tiny.draw(folder / "drawn", [colour]) / colour).rename(folder / part / name)
    run = folder / "run"
    options = ["--head", "rp-ridge", "--projection", "32"]
    assert app.run(["pretrain", str(folder / "first"), "--out", str(run), *options]) == 0
    assert app.run(["extend-classes", str(run), str(folder / "second")]) == 0
    return run


@pytest.mark.parametrize("name", FORMATS)
def test_class_names_and_projection_are_in_the_file(
    tlcli: CommandLine, odd_run: Path, tmp_path: Path, name: str
) -> None:
    pixels = noise(tiny.IMAGE_SIZE)
    expected = answers_of_run(tlcli, odd_run, save(tmp_path / "images", pixels), ODD)
    out = target(tmp_path, name)
    answer = tlcli.json("export", odd_run, "--format", name, "--out", out)
    assert answer["classes"] == ODD
    assert 0 < answer["check"]["deviation"] < 1e-4 < answer["check"]["grid"] < 1e-2
    if name == "openvino":  # a second openvino.Core in this process can crash it
        received, classes = in_its_own_process(name, out, pixels)
    else:
        received, classes = runtimes.RUNTIMES[name](out, pixels.astype(np.float32))
    assert classes == ODD
    parity = formats.compare(expected, np.asarray(received, np.float32))
    assert parity.deviation < 2 * answer["check"]["grid"]


def in_its_own_process(name: str, path: Path, pixels: Any) -> tuple[Any, list[str]]:
    """The answer of the runtime alone, which says nothing of tlcli."""
    given, answer = path.parent / "images.npy", path.parent / "answer.json"
    np.save(given, pixels)
    script = HERE / "tests" / "support" / "runtimes.py"
    subprocess.run([sys.executable, script, name, path, given, answer], check=True, cwd="/")
    content = json.loads(answer.read_text("utf-8"))
    return np.array(content["probabilities"], np.float32), content["classes"]


@pytest.mark.slow
def test_int8_is_compared_on_its_own_images(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    command = ("export", run, "--format", "litert")
    plain = tlcli.json(*command, "--out", tmp_path / "plain.tflite")
    out = tmp_path / "model.tflite"
    answer = tlcli.json(*command, "--int8", "--calibrate", pictures / "all", "--out", out)
    assert (answer["precision"], answer["check"]) == ("int8", None)
    assert answer["bytes"] < plain["bytes"]
    compared = answer["int8"]
    assert compared["agreement"] >= 0.95
    assert (compared["images"], compared["labelled"]) == (40, 24)
    assert compared["run_accuracy"] >= 0.9
    assert compared["learned"] == 24
    assert compared["accuracy"] == pytest.approx(compared["run_accuracy"], abs=0.05)
    received = formats.run("litert", out, noise(tiny.IMAGE_SIZE))
    assert not np.allclose(received * 256, np.rint(received * 256), atol=1e-2)
    folder = pictures / "test" / "apple"
    bare = tlcli.json(*command, "--int8", "--calibrate", folder, "--out", out)["int8"]
    assert (bare["images"], bare["labelled"], bare["accuracy"]) == (4, 0, None)
    assert bare["learned"] == 0
    assert "4 images" in tlcli(*command, "--int8", "--calibrate", folder, "--out", out)
    some = tlcli(*command, "--int8", "--calibrate", pictures / "all", "--out", out)
    assert "24 were learned" in some


def test_poor_agreement_of_int8_is_a_warning(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tlcli.commands.export_int8.LEAST_AGREEMENT", 1.01)
    options = ("--format", "litert", "--int8", "--calibrate", pictures / "test")
    tlcli("export", run, *options, "--out", tmp_path / "model.tflite")
    assert "warning: int8 answers as the run does on" in tlcli.err


def test_a_run_in_bf16_is_compared_in_float32(
    tlcli: CommandLine, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO computes in float32 here, so that no processor needs bf16."""
    compiled = openvino_ir.compiled
    for place in ("tlcli.backbones.openvino_ir.compiled", "tlcli.backbones.compiled"):
        monkeypatch.setattr(place, lambda folder, size, *_, **__: compiled(folder, size, "f32", 1))
    run, out = tmp_path / "run", tmp_path / "model.onnx"
    tlcli("pretrain", pictures / "first", "--out", run, "--precision", "bf16")
    monkeypatch.setattr("tlcli.backbones.compiled", None)  # Keras alone is asked
    answer = tlcli.json("export", run, "--format", "onnx", "--out", out)
    assert "warning: the run computes features in bf16" in tlcli.err
    assert 0 < answer["check"]["deviation"] < answer["check"]["limit"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--format", "litert", "--int8", "--out", "model.tflite"], "--calibrate"),
        (["--format", "onnx", "--int8", "--out", "model.onnx"], "litert"),
        (["--calibrate", "x", "--out", "model.keras"], "--int8"),
        (["--format", "onnx", "--out", "model.tflite"], ".onnx"),
        (["--format", "savedmodel", "--out", "model.tflite"], "folder"),
        (["--format", "savedmodel", "--out", "file"], "earlier export"),
        (["--format", "savedmodel", "--out", "full"], "earlier export"),
        (["--format", "onnx", "--out", "folder.onnx"], "a folder"),
        (["--format", "openvino", "--out", "pair.xml"], "pair.bin"),
        (
            ["--format", "litert", "--int8", "--calibrate", "none", "--out", "m.tflite"],
            "does not exist",
        ),
    ],
)
def test_what_cannot_be_meant_writes_nothing(
    tlcli: CommandLine,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    named: str,
) -> None:
    folder = tmp_path / "out"
    for name in ("full", "folder.onnx", "pair.bin"):
        (folder / name).mkdir(parents=True)
    for name in ("file", "full/saved_model.pb", "full/notes.txt"):
        (folder / name).write_text(name)
    before = content_of(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("tlcli.formats.write", None)
    assert named in tlcli.error(2, "export", run, *options)
    assert content_of(folder) == before


def test_images_for_int8_that_cannot_be_read(tlcli: CommandLine, run: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("not an image")
    options = ("--format", "litert", "--int8", "--calibrate", tmp_path / "photos")
    error = tlcli.error(3, "export", run, *options, "--out", tmp_path / "model.tflite")
    assert "none that can be read" in error


@pytest.mark.parametrize("name", ["litert", "onnx"])
def test_a_missing_package_is_named_before_any_work(
    tlcli: CommandLine, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda package: None)
    shutil.rmtree(run)  # it is not looked at
    error = tlcli.error(2, "export", run, "--format", name, "--out", target(tmp_path, name))
    assert "pip install 'tlcli[export]'" in error
    assert FORMATS[name].packages[0] in error


# A file, a folder and two files; that litert makes one file too takes longest to write.
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "litert")) for name in FORMATS],
)
def test_a_file_that_answers_otherwise_is_not_published(
    tlcli: CommandLine, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What was there stays: the check falls between writing and naming."""
    out = target(tmp_path / "out", name)
    out.parent.mkdir()
    tlcli("export", run, "--format", name, "--out", out)
    before = content_of(out.parent)
    own = formats.run

    def wrong(name: str, path: Path, images: Any) -> Any:
        answer = np.array(own(name, path, images))
        answer[0, 0] *= 1.01
        return answer

    monkeypatch.setattr(formats, "run", wrong)
    error = tlcli.error(4, "export", run, "--format", name, "--out", out)
    assert "deviates by 0.00" in error
    assert content_of(out.parent) == before
    assert len(list(out.parent.iterdir())) == (2 if name == "openvino" else 1)


@pytest.mark.parametrize(
    ("reason", "code", "named"),
    [
        (RuntimeError("no rule for\nErfc"), 2, "Erfc"),
        (RuntimeError("cannot write: No space left on device"), 6, "No space left"),
    ],
)
def test_a_converter_that_fails_is_told_in_one_line(
    tlcli: CommandLine,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reason: Exception,
    code: int,
    named: str,
) -> None:
    def fail(source: Any, path: Path) -> None:
        os.write(1, b"half a page")
        path.write_text("half a file")
        raise reason

    broken = formats.Format(".onnx", fail, FORMATS["onnx"].run)
    monkeypatch.setitem(FORMATS, "onnx", broken)
    out = tmp_path / "out" / "model.onnx"
    out.parent.mkdir()
    out.write_text("earlier")
    assert named in tlcli.error(code, "export", run, "--format", "onnx", "--out", out)
    assert content_of(out.parent) == {"model.onnx": b"earlier"}
    assert len(list(out.parent.iterdir())) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written(tlcli: CommandLine, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(0o555)
    assert "read-only" in tlcli.error(6, "export", run, "--out", folder / "model.keras")


def test_an_earlier_folder_is_replaced_as_a_whole(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out" / "model"
    command = ("export", run, "--format", "savedmodel", "--out", out)
    out.mkdir(parents=True)
    tlcli(*command)
    assert (out / "assets.extra" / "labels.txt").read_text() == "apple\nleaf\nsky\n"
    tlcli("extend-classes", run, pictures / "second")
    tlcli(*command)
    assert (out / "assets.extra" / "labels.txt").read_text() == "apple\nleaf\nsky\nsun\n"
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_with_and_without_an_exchange_of_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(drafts, "_exchanged", lambda first, second: False)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    files.replace_folder(tmp_path / "new", tmp_path / "old")
    assert content_of(tmp_path) == {"old/file": b"new"}
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]


@pytest.mark.parametrize("extended_first", [False, True])
def test_of_two_files_every_moment_has_the_old_pair_or_the_new_one(
    tlcli: CommandLine,
    run: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    extended_first: bool,
) -> None:
    """The new weights are more, or fewer, than the old."""
    (tmp_path / "large").mkdir()
    large = shutil.copytree(run, tmp_path / "large" / "run")
    tlcli("extend-classes", large, pictures / "second")
    before, after = (large, run) if extended_first else (run, large)
    out = tmp_path / "out" / "model.xml"
    out.parent.mkdir()
    pixels = noise(tiny.IMAGE_SIZE)
    tlcli("export", before, "--format", "openvino", "--out", out)
    old, answer_before = content_of(out.parent), formats.run("openvino", out, pixels)
    copies: list[Path] = []
    replace = Path.replace

    def copied(path: Path, target: Path) -> Path:
        if out.parent == target.parent:
            copy = Path(shutil.copytree(out.parent, tmp_path / f"copy {len(copies)}"))
            copies.append(copy)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", copied)
    tlcli("export", after, "--format", "openvino", "--out", out)
    new, answer_after = content_of(out.parent), formats.run("openvino", out, pixels)
    assert content_of(copies[0]).items() >= old.items()
    assert {name: new[name] != old[name] for name in new} == dict.fromkeys(old, True)
    answers = [formats.run("openvino", copy / out.name, pixels) for copy in copies]
    which = ["old" if answer.shape == answer_before.shape else "new" for answer in answers]
    assert which == ["old", "old", "new", "new", "new"]
    for name, answer in zip(which, answers, strict=True):
        expected = answer_before if name == "old" else answer_after
        np.testing.assert_array_equal(answer, expected)


def test_a_second_file_that_nobody_exported_is_not_replaced(
    tlcli: CommandLine, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.bin").write_bytes(b"of somebody else")
    command = ("export", run, "--format", "openvino", "--out", tmp_path / "model.xml")
    assert "model.bin" in tlcli.error(2, *command)
    assert (tmp_path / "model.bin").read_bytes() == b"of somebody else"


def test_the_deviation_is_that_of_centred_logits() -> None:
    def deviation(run: Any, file: Any) -> float:
        return formats.compare(run, np.asarray(file, np.float32)).deviation

    p = np.array([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]])
    assert deviation(p, p) < 1e-6
    assert deviation(p, p * [[1.03, 1.0, 1.0]]) == pytest.approx(np.log(1.03) * 2 / 3, rel=1e-4)
    assert deviation(p, 0 * p) == float("inf")
    assert deviation(p, np.full((2, 3), np.nan)) == float("inf")
    assert deviation(p, p[:, :2]) == float("inf")
    assert deviation(np.array([[1.0, 1e-40]]), [[1.0, 0.0]]) == 0


def test_the_limit_grows_with_the_spread_of_the_logits() -> None:
    x = np.array([[1.0, -1.0], [2.0, -2.0]])
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    parity = formats.compare(p, p.astype(np.float32))
    assert parity.spread == pytest.approx(2.5**0.5)
    assert parity.limit == pytest.approx(1e-4 * 2.5**0.5)
    assert formats.Parity(1.01e-4, 0.1).fine is False
    assert formats.Parity(1.01e-4, 1.1).fine is True


REAL = ["EfficientNetLite0", "ConvNeXtTiny"]
"""The default, and the one with layers that no other has; weights of the second are random."""
RANDOM_WEIGHTS = """
import sys
from tlcli import backbones
from tlcli.backbones import prepared
from tlcli.cli import main
build, prepared.FORMAT = backbones.build, "random"
backbones.build = lambda name, size, weights, seed=0: build(name, size, backbones.Random(), seed)
main()
"""


@pytest.fixture(scope="module", params=REAL)
def real_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a network of real size."""
    folder = tmp_path_factory.mktemp("real")
    data = tiny.draw(folder / "data", list(tiny.COLOURS))
    has_weights = request.param == "EfficientNetLite0"
    program = ["-m", "tlcli"] if has_weights else ["-c", RANDOM_WEIGHTS]
    options = ["--out", folder / "run", "--backbone", request.param]
    command = [sys.executable, *program, "pretrain", data, *options]
    subprocess.run(command, check=True, cwd=HERE)
    return folder / "run"


def call(*arguments: object) -> str:
    command = [sys.executable, "-m", "tlcli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_real_network_gives_the_answers_of_the_run_in_another_process(
    real_run: Path, tmp_path: Path, name: str
) -> None:
    classes = list(tiny.COLOURS)
    pixels = noise(224, 3)
    expected = answers_of_run(call, real_run, save(tmp_path / "images", pixels), classes)
    out = target(tmp_path, name)
    answer = json.loads(call("export", real_run, "--format", name, "--out", out, "--json"))
    assert answer["check"]["deviation"] < 1e-4
    received, labels = in_its_own_process(name, out, pixels)
    assert labels == answer["classes"]
    order = [labels.index(label) for label in classes]
    assert formats.compare(expected, received[:, order]).deviation < 1e-4


GUIDE = (HERE / "docs" / "export.md").read_text("utf-8")
SNIPPETS = dict(re.findall(r"<!-- (.+?) -->\n```python\n(.*?)```", GUIDE, re.DOTALL))


def test_the_guide_has_a_snippet_for_every_format() -> None:
    expected = [f"{name}: model{entry.suffix}" for name, entry in FORMATS.items()]
    assert list(SNIPPETS) == ["pixels.py", *expected]


@pytest.mark.parametrize("fit", FITS)
def test_the_guide_reads_an_image_as_tlcli_does(tmp_path: Path, fit: str) -> None:
    """A large JPEG that is decoded at a fraction, one that lies on its side, a grey PNG."""
    names: dict[str, Any] = {}
    exec(SNIPPETS["pixels.py"], names)
    pixels = np.kron(noise(30, 1)[0], np.ones((12, 16, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "large.jpg")
    Image.fromarray(pixels[:100, :80]).save(tmp_path / "side.jpg", exif=exif)
    Image.fromarray(pixels[:50, :70, 0]).save(tmp_path / "grey.png")
    for path in sorted(tmp_path.iterdir()):
        np.testing.assert_array_equal(
            names["read"](path, 32, fit)[0], decode(path, Square(32, fit))
        )


SLOW_TO_IMPORT = ("keras", "savedmodel")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW_TO_IMPORT else []) for n in FORMATS],
)
def test_the_snippet_of_the_guide_gives_the_answer_of_the_run(
    tlcli: CommandLine, run: Path, tmp_path: Path, name: str
) -> None:
    """In a process of its own, which does not import tlcli."""
    photo = tiny.draw(tmp_path / "drawn", ["leaf"], count=1, seed=5) / "leaf" / "000.png"
    Image.open(photo).save(tmp_path / "photo.jpg", quality=95)
    tlcli("export", run, "--format", name, "--out", target(tmp_path, name))
    expected = json.loads(tlcli("predict", run, tmp_path / "photo.jpg", "--json"))
    (tmp_path / "pixels.py").write_text(SNIPPETS["pixels.py"], "utf-8")
    (tmp_path / "use.py").write_text(SNIPPETS[f"{name}: {target(tmp_path, name).name}"], "utf-8")
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "use.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    label, probability = done.stdout.splitlines()[-1].rsplit(" ", 1)
    assert label == expected["label"] == "leaf"
    assert float(probability) == pytest.approx(expected["probability"], abs=1e-5)
