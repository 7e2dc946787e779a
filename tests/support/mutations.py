"""Files that a stranger has changed: every format of a run, with hashes that fit.

A mutation is a name and a function that changes a copy of a real run. Those of `flips` do not
correct any hash: they are accidents.
"""

import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Change = Callable[[Path], None]
Json = Any


@dataclass(frozen=True)
class Mutation:
    """What is changed of a run."""

    name: str
    format: str
    """`round`, `report`, `head`, `memory`, `part`, `backbone` or `classifier`."""
    apply: Change
    """Changes the run in a folder."""


DEEP = "[" * 100_000 + "]" * 100_000

VALUES: dict[str, Json] = {
    "null": None,
    "true": True,
    "a text": "text",
    "no text": "",
    "a number as text": "1",
    "zero": 0,
    "minus one": -1,
    "huge": 10**9,
    "beyond 64 bits": 10**400,
    "a fraction": 0.5,
    "NaN": float("nan"),
    "infinite": float("inf"),
    "a list": [],
    "a list of lists": [[1], [[2]]],
    "a table": {},
    "a foreign table": {"name": "x", "width": {"a": 1}},
    "5,000 letters": "x" * 5000,
    "a NUL": "a\0b",
    "an escape": "\x1b[2J\x1b]0;owned\x07",
    "a lone surrogate": "\ud800",
    "lines": "a\nb",
    "a path": "../../../etc/passwd",
}
"""By what they are."""


def sha256(content: bytes) -> str:
    """As in manifests."""
    return hashlib.sha256(content).hexdigest()


def round_folder(run: Path) -> Path:
    """Of the current round."""
    return max((run / "rounds").iterdir())


def backbone_folder(run: Path) -> Path:
    """Of the only backbone."""
    (folder,) = (run / "backbones").iterdir()
    return folder


def write_round(folder: Path, content: Json) -> None:
    """Write `round.json` with its own checksum."""
    if isinstance(content, dict):
        content.pop("sha256", None)
        text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        content["sha256"] = sha256(text.encode("utf-8", "surrogatepass"))
    (folder / "round.json").write_text(json.dumps(content), "utf-8")


def write_backbone(folder: Path, content: Json) -> None:
    """Write `backbone.json` with its own checksum."""
    if isinstance(content, dict):
        content.pop("sha256", None)
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        content["sha256"] = sha256(text.encode("utf-8", "surrogatepass"))
    (folder / "backbone.json").write_text(json.dumps(content), "utf-8")


def correct(run: Path, name: str, content: bytes) -> None:
    """Replace a file of the round, and its hash in the manifest."""
    folder = round_folder(run)
    (folder / name).unlink(missing_ok=True)
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "round.json").read_bytes())
    manifest["files"][name] = sha256(content)
    write_round(folder, manifest)


def correct_backbone(run: Path, name: str, content: bytes) -> None:
    """Replace a file of the backbone, and its hash in the description."""
    folder = backbone_folder(run)
    (folder / name).write_bytes(content)
    described = json.loads((folder / "backbone.json").read_bytes())
    described["files"][name] = sha256(content)
    write_backbone(folder, described)


# --- JSON


def places_in(value: Json, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every value in a JSON value, as the keys that lead to it."""
    yield place
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places_in(value[key], (*place, key))


def replaced(value: Json, place: tuple[Any, ...], new: Json) -> Json:
    """With another value at a place."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = replaced(copy[place[0]], place[1:], new)
    return copy


def without(value: Json, place: tuple[Any, ...]) -> Json:
    """Without the value at a place."""
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(place) == 1:
        del copy[place[0]]
    else:
        copy[place[0]] = without(copy[place[0]], place[1:])
    return copy


@dataclass(frozen=True)
class JsonFile:
    """A JSON file of a run, and how it is written with hashes that fit."""

    format: str
    path: Callable[[Path], Path]
    write: Callable[[Path, bytes], None]
    """From the run and the bytes."""


def _write_round(run: Path, content: bytes) -> None:
    try:
        write_round(round_folder(run), json.loads(content))
    except (RecursionError, ValueError):
        (round_folder(run) / "round.json").write_bytes(content)


def _write_backbone(run: Path, content: bytes) -> None:
    try:
        write_backbone(backbone_folder(run), json.loads(content))
    except (RecursionError, ValueError):
        (backbone_folder(run) / "backbone.json").write_bytes(content)


JSON_FILES = (
    JsonFile("round", lambda run: round_folder(run) / "round.json", _write_round),
    JsonFile(
        "report",
        lambda run: round_folder(run) / "report.json",
        lambda run, content: correct(run, "report.json", content),
    ),
    JsonFile("backbone", lambda run: backbone_folder(run) / "backbone.json", _write_backbone),
    JsonFile(
        "classifier",
        lambda run: backbone_folder(run) / "classifier.json",
        lambda run, content: correct_backbone(run, "classifier.json", content),
    ),
)


def of_json(run: Path, file: JsonFile) -> Iterator[Mutation]:
    """Every value replaced by every wrong one, left out, or said twice; and texts that are none."""
    content = json.loads(file.path(run).read_bytes())

    def mutation(name: str, changed: Callable[[], Any]) -> Mutation:
        def apply(copy: Path) -> None:
            text = changed()
            file.write(copy, text if isinstance(text, bytes) else json.dumps(text).encode())

        return Mutation(f"{file.format}: {name}", file.format, apply)

    for place in places_in(content):
        where = ".".join(map(str, place)) or "all"
        for name, value in VALUES.items():
            yield mutation(f"{where} is {name}", partial(replaced, content, place, value))
        if place:
            yield mutation(f"{where} is left out", partial(without, content, place))
    open_ended = json.dumps(content)[:-1]
    for name, text in {
        "deep": DEEP,
        "nothing": "",
        "half": open_ended[:99],
        "deep inside": f'{open_ended}, "x": {DEEP}}}',
        "a key twice": f'{open_ended}, "x": 1, "x": 1}}',
    }.items():
        yield mutation(name, text.encode)
    yield mutation("Latin-1", partial(json.dumps("é", ensure_ascii=False).encode, "latin-1"))


# --- HDF5


def arrays_of(content: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays and the attributes of an HDF5 file."""
    with h5py.File(io.BytesIO(content)) as file:
        return {name: file[name][()] for name in file}, dict(file.attrs)


def hdf5_of(arrays: dict[str, Any], attributes: dict[str, Any], change: Any = None) -> bytes:
    """The bytes of an HDF5 file; `change` may spoil it before it is closed."""
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, array in arrays.items():
            file.create_dataset(name, data=array)
        if change:
            change(file)
    return memory.getvalue()


def _unstored(file: h5py.File, name: str) -> None:
    """728 TiB that are nowhere."""
    dtype = file[name].dtype
    del file[name]
    file.create_dataset(name, (10**7, 10**7), dtype)


def _compressed(file: h5py.File, name: str) -> None:
    """Many zeros in a few bytes."""
    dtype = file[name].dtype
    del file[name]
    file.create_dataset(name, data=np.zeros((2000, 2000), dtype), compression="gzip", chunks=True)


def _soft(file: h5py.File, name: str) -> None:
    file.move(name, "real")
    file[name] = h5py.SoftLink("/real")


def _external_link(file: h5py.File, name: str) -> None:
    del file[name]
    file[name] = h5py.ExternalLink("/etc/passwd", "/x")


def _external_storage(file: h5py.File, name: str) -> None:
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    unlimited = [("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    file.create_dataset(name, shape, dtype, external=unlimited)


def _virtual(file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout(file[name].shape or (1,), file[name].dtype)
    del file[name]
    file.create_virtual_dataset(name, layout)


def _group(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_group(name)


def _missing(file: h5py.File, name: str) -> None:
    del file[name]


def _texts(file: h5py.File, name: str) -> None:
    del file[name]
    file[name] = ["a", "b"]


def _empty(file: h5py.File, name: str) -> None:
    del file[name]
    file[name] = h5py.Empty("f4")


def _pairs(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_dataset(name, (3,), [("a", "i4"), ("b", "f8")])


STRUCTURES = (
    *(_unstored, _compressed, _soft, _external_link, _external_storage, _virtual, _group),
    *(_missing, _texts, _empty, _pairs),
)


def _other_arrays(array: Any) -> Iterator[tuple[str, Any]]:
    """An array of another type, shape or content."""
    for dtype in ("<f8", "<f4", ">f4", "<i8", "<i4", "|u1", "|b1"):
        if array.dtype != np.dtype(dtype):
            yield dtype, array.astype(dtype)
    yield "one less", array[:-1]
    yield "none", array[:0]
    yield "flat", array.reshape(-1)[:, None]
    yield "one dimension more", array[None]
    yield "twice", np.concatenate([array, array])
    if not array.size:
        return
    for name, value in (("NaN", np.nan), ("infinite", -np.inf)):
        if array.dtype.kind == "f":
            yield name, np.where(np.arange(array.size).reshape(array.shape) == 0, value, array)
    bounds = np.iinfo(array.dtype) if array.dtype.kind in "iu" else np.finfo(array.dtype)
    for value in (0, 1, 10, 27, 255, -1, bounds.min, bounds.max):
        if bounds.min <= value <= bounds.max:
            yield f"all {value}", np.full_like(array, value)
            changed = array.copy()
            changed.reshape(-1)[array.size // 2] = value
            yield f"a {value}", changed


ATTRIBUTE_VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 2, 10**9, 2**62, 0.5, -1e300, 1e-300, float("nan"), float("inf"), True, False),
    *("", "text", "x" * 5000, "\x1b[2J", b"bytes", "a\nb", "moments", "features", "exemplars"),
    *(np.zeros(3), np.zeros((80, 80)), h5py.Empty("f4"), np.array(["a"], object)),
)


def of_hdf5(name: str, content: bytes, form: str, write: Any) -> Iterator[Mutation]:
    """Every array of another type, shape, content or place; every attribute another.

    Args:
        name: of the file, for people.
        content: its bytes.
        form: the mutation's format.
        write: (run, bytes): puts it in its place, with hashes that fit.
    """
    arrays, attributes = arrays_of(content)

    def mutation(what: str, changed: Callable[[], bytes]) -> Mutation:
        return Mutation(f"{name}: {what}", form, lambda run: write(run, changed()))

    for key, array in arrays.items():
        for what, other in _other_arrays(array):
            changed = {**arrays, key: other}
            yield mutation(f"{key} is {what}", partial(hdf5_of, changed, attributes))
        for change in STRUCTURES:
            yield mutation(
                f"{key} {change.__name__}",
                partial(hdf5_of, arrays, attributes, partial(change, name=key)),
            )
    for key in attributes:
        rest = {other: value for other, value in attributes.items() if other != key}
        yield mutation(f"{key} is left out", partial(hdf5_of, arrays, rest))
        for value in ATTRIBUTE_VALUES:
            yield mutation(
                f"{key} is {str(value)[:20]!r}",
                partial(hdf5_of, arrays, {**rest, key: value}),
            )
    for share in (0, 1, 0.5, 0.9):
        cut = content[: int(share) if share >= 1 else int(len(content) * share)]
        yield mutation(f"{share} of its bytes", partial(bytes, cut))
    yield mutation("text", lambda: b"no HDF5 at all")


def of_run(run: Path) -> Iterator[Mutation]:
    """Of every format of a run, with hashes that fit."""
    for file in JSON_FILES:
        yield from of_json(run, file)
    for path in sorted(round_folder(run).glob("*.h5")):
        form = path.stem.split("-")[0] if "-" not in path.stem else "part"
        yield from of_hdf5(
            path.name,
            path.read_bytes(),
            form,
            lambda copy, content, name=path.name: correct(copy, name, content),
        )


def of_moments_file(path: Path) -> Iterator[Mutation]:
    """Of a file of `tlcli moments`, with a checksum that fits; applied to the file."""
    yield from of_hdf5(
        path.name,
        path.read_bytes()[:-32],
        "moments",
        lambda copy, content: copy.write_bytes(content + hashlib.sha256(content).digest()),
    )


def chosen(mutations: list[Mutation], count: int, seed: int = 0) -> list[Mutation]:
    """So many, as many of each format."""
    formats = sorted({mutation.format for mutation in mutations})
    generator = random.Random(seed)
    found = []
    for form in formats:
        own = [mutation for mutation in mutations if mutation.format == form]
        found += generator.sample(own, min(len(own), count // len(formats)))
    return found


def flips(paths: list[Path], count: int, seed: int = 0) -> Iterator[tuple[Path, bytes]]:
    """Files with a bit flipped, or cut: the path and its bytes."""
    generator = random.Random(seed)
    for number in range(count):
        path = paths[number % len(paths)]
        content = bytearray(path.read_bytes())
        if number % 7 == 6:
            yield path, bytes(content[: generator.randrange(len(content))])
            continue
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        yield path, bytes(content)
