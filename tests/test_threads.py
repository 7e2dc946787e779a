"""One run, many threads: the answers and the cache of one thread. Processes: answers, never a wait.

Scripts run in processes of their own, which forks and sockets need; none may take for ever.
"""

import asyncio
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tlcli as library
from tests.rounds.test_golden import photographs
from tests.support.caches import cached
from tlcli import engines
from tlcli.config import no_progress
from tlcli.engines import Choice
from tlcli.errors import EngineUnavailable
from tlcli.extractor import Extractor
from tlcli.features import Store
from tlcli.images import ImageFile

HERE = Path(__file__).parent.parent

THREADS = 8
SECONDS = 120
"""That a process may take."""

Answers = dict[str, tuple[tuple[str, float], ...]]
"""Path → the probabilities of the classes."""


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Go on with a cache that knows nothing."""

    def begin(name: str) -> None:
        monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / name))

    begin("cache")
    return begin


@pytest.fixture
def often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return drawn(tmp_path / "images", 120)


def drawn(folder: Path, count: int) -> list[Path]:
    """Pictures that no other test has, no two of them alike."""
    folder.mkdir()
    generator = np.random.default_rng(list(str(folder).encode()))
    for number in range(count):
        pixels = generator.integers(0, 256, (40, 48, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return sorted(folder.iterdir())


def at_once(work: Callable[[int], Any], count: int = THREADS) -> list[Any]:
    """What as many threads return, which begin at the same moment."""
    ready = threading.Barrier(count)

    def begin(number: int) -> Any:
        ready.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def answers_of(run: Any, given: Sequence[Path]) -> Answers:
    """Asked an image or a few at a time."""
    answers: Answers = {}
    for start in range(0, len(given), 7):
        for answer in run.predict(given[start : start + 7], top=9):
            assert answer.error is None
            answers[answer.path] = answer.top
    return answers


@pytest.mark.usefixtures("tiny_backbone", "often")
def test_threads_share_a_run(
    first_run: Path,
    paths: list[Path],
    empty_cache: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = answers_of(library.open_run(first_run), paths)
    vectors = cached()
    assert set(vectors) == {hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    for attempt in range(3):
        empty_cache(f"cache of threads {attempt}")
        run = library.open_run(first_run)

        def work(number: int, run: Any = run) -> Answers:
            return answers_of(run, random.Random(number).sample(paths, len(paths)))

        assert at_once(work) == [expected] * THREADS
        assert cached() == vectors
    assert not caplog.messages


@pytest.mark.usefixtures("tiny_backbone", "empty_cache")
@pytest.mark.parametrize("measured", [False, True])
def test_an_engine_and_its_cache_are_opened_once(
    first_run: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch, measured: bool
) -> None:
    """Whether the arithmetic of the engine has to be measured or is known in the cache folder."""
    if measured:
        library.open_run(first_run).predict(paths[-1])
    made: list[str] = []

    def slowly(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def begin(*arguments: Any) -> Any:
            made.append(name)
            time.sleep(0.1)
            return make(*arguments)

        return begin

    monkeypatch.setattr(engines, "_open_openvino", slowly("engine", engines._open_openvino))
    monkeypatch.setattr("tlcli.extractor.Store", slowly("store", Store))
    run = library.open_run(first_run)
    at_once(lambda number: run.predict(paths[number]))
    assert sorted(made) == ["engine", "store"]


@pytest.mark.usefixtures("tiny_backbone", "empty_cache")
def test_an_engine_that_fails_in_two_threads_drops_itself_alone(
    first_run: Path, paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    stored = library.open_run(first_run)._predictor.extractor.stored
    both = threading.Barrier(2)

    def failing() -> engines.Engine:
        both.wait(SECONDS)
        raise EngineUnavailable("it is out of order")

    broken = Choice("broken", failing, lambda: "broken 0")
    (good,) = engines.choices(stored, "openvino")
    spare = Choice("spare", lambda: pytest.fail("the spare one was opened"), lambda: "spare 0")
    extractor = Extractor(stored, [broken, good, spare], None)
    images = [ImageFile(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths[:2]]
    found = at_once(lambda number: extractor.features([images[number]], no_progress), 2)
    assert [features.images for features in found] == [(image,) for image in images]
    assert extractor.engines == [good, spare]
    assert len(caplog.messages) == 1


@pytest.mark.usefixtures("tiny_backbone", "empty_cache")
def test_coroutines_share_a_run(first_run: Path, paths: list[Path]) -> None:
    run = library.open_run(first_run)

    async def ask() -> list[Any]:
        return await asyncio.gather(
            *(asyncio.to_thread(run.predict, path.read_bytes()) for path in paths)
        )

    received = [answer.top for (answer,) in asyncio.run(ask())]
    assert received == [answer.top for answer in run.predict(paths)]


# --- processes


def called(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script, which may not take for ever, nor leave processes behind that do."""
    with subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(HERE), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def last_line(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


POOL = """
import json, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import tlcli


def begin(path):
    global run
    run = tlcli.open_run(path)


def top(path):
    (answer,) = run.predict(path)
    return answer.top


if __name__ == "__main__":
    method, path, *images = sys.argv[1:]
    begin(path)
    if method != "fork":
        top(images[0])
    context = get_context(method)
    with ProcessPoolExecutor(2, context, initializer=begin, initargs=(path,)) as pool:
        print(json.dumps(list(pool.map(top, images))))
"""


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_processes_answer(first_run: Path, paths: list[Path], tmp_path: Path, method: str) -> None:
    """Spawned ones beside a process that has computed, forked ones of one that has not."""
    (script := tmp_path / "pool.py").write_text(POOL)
    received = last_line(called(script, method, first_run, *paths[:20]))
    expected = [answer.top for answer in library.open_run(first_run).predict(paths[:20])]
    assert received == [[list(pair) for pair in top] for top in expected]


FORKED = """
import json, os, sys, threading
import tlcli

path, how, *images = sys.argv[1:]
run = tlcli.open_run(path, engine="keras" if how == "keras" else "auto")
known, *new = images
calls = [
    lambda: run.predict(known),
    lambda: run.predict(new[-1]),
    lambda: run.predict(open(new[-1], "rb").read()),
    lambda: run.evaluate("nowhere"),
    lambda: run.keras_model(),
]


def ask():
    for image in new if how == "busy" else [known]:
        run.predict(image)


thread = threading.Thread(target=ask)
thread.start()
if how != "busy":
    thread.join()
told = []
while not told or (how == "busy" and thread.is_alive()):
    for call in calls:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                call()
                text = "answered"
            except tlcli.errors.TlcliError as error:
                text = f"{type(error).__name__}: {error}"
            os.write(write, text.encode())
            os._exit(0)
        os.close(write)
        told.append(os.fdopen(read).read())
        os.waitpid(child, 0)
thread.join()
assert all(answer.error is None for answer in run.predict(images))
print(json.dumps(told))
"""


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("how", ["idle", "busy", pytest.param("keras", marks=pytest.mark.slow)])
def test_a_fork_after_use_is_told_so(first_run: Path, paths: list[Path], how: str) -> None:
    """Also while another thread computes, and for images that need no computing."""
    told = last_line(called("-c", FORKED, first_run, how, *paths))
    assert len(told) >= 5
    for text in told:
        assert re.match("UsageError: Expected a process of its own.*spawn", text)


# --- services

SERVED = """
import http.client, http.server, json, random, sys, threading
from concurrent.futures import ThreadPoolExecutor

import tlcli

service, path, count, *images = sys.argv[1:]
servers, ready = [], threading.Event()


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 50

    def __init__(self, address, handler):
        handler.log_message = lambda *arguments: None
        super().__init__((address[0], 0), handler)
        servers.append(self)
        ready.set()


http.server.ThreadingHTTPServer = Server
threading.Thread(target=exec, args=(service, {}), daemon=True).start()
assert ready.wait(60)


def ask(image):
    client = http.client.HTTPConnection("localhost", servers[0].server_port, timeout=60)
    client.request("POST", "/", open(image, "rb").read())
    response = client.getresponse()
    return image, response.status, json.load(response)


asked = [images[number % len(images)] for number in range(int(count))]
random.Random(0).shuffle(asked)
with ThreadPoolExecutor(8) as clients:
    answers = list(clients.map(ask, asked))
servers[0].shutdown()
print(json.dumps(answers))
"""


def service() -> str:
    """The example of docs/python.md."""
    text = (HERE / "docs" / "python.md").read_text("utf-8")
    (found,) = re.findall(r"^```python\n(import json\n.*?)^```", text, re.M | re.S)
    return str(found)


def assert_served(run: Path, images: Sequence[Path], count: int, tmp_path: Path) -> None:
    """Ask the service with an empty cache, and compare with one thread and another empty cache."""
    variables = {"TLCLI_CACHE_DIR": str(tmp_path / "cache of the service")}
    code = service().replace('"run"', repr(str(run)))
    answers = last_line(called("-c", SERVED, code, run, count, *images, **variables))
    told = {answer.path: answer.to_json() for answer in library.open_run(run).predict(images)}
    assert len(answers) == count
    for path, status, received in answers:
        expected = told[path] | {"path": None}
        assert status == (422 if "error" in expected else 200)
        assert received == json.loads(json.dumps(expected))


@pytest.mark.usefixtures("empty_cache")
def test_the_service_of_python_md_answers_eight_clients(
    first_run: Path, paths: list[Path], tmp_path: Path
) -> None:
    (damaged := tmp_path / "damaged.png").write_bytes(paths[0].read_bytes()[:100])
    assert_served(first_run, [damaged, *paths], 300, tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("empty_cache")
def test_the_service_answers_thousands_with_the_default_backbone(tmp_path: Path) -> None:
    data = photographs(tmp_path / "photographs")
    command = [sys.executable, "-m", "tlcli", "pretrain", str(data), "--out", str(tmp_path / "run")]
    subprocess.run(command, cwd=HERE, check=True, capture_output=True)
    generator = np.random.default_rng(0)
    for path in sorted(data.rglob("*.png")):
        for number in range(20):
            grain = generator.integers(-20, 21, (200, 300, 3))
            pixels = np.clip(np.asarray(Image.open(path)) + grain, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(path.with_name(f"{path.stem}-{number}.jpg"))
    assert_served(tmp_path / "run", sorted(data.rglob("*.jpg")), 2000, tmp_path)
