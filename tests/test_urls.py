"""DATA and PATHs at URLs: what they give, what fails, and what is read again."""

import csv
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tlcli import urls
from tlcli.errors import UsageError
from tlcli.images import content_hashes
from tlcli.urls import Url, place

pytest.importorskip("fsspec")

from tests.support import objects

ROOT = "objects://photos"


@pytest.fixture
def photos(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Class folders in a store, as a folder that a test may change."""
    folder = Path(shutil.copytree(pictures / "first", tmp_path / "store" / "photos"))
    monkeypatch.setenv("OBJECTS", str(folder.parent))
    monkeypatch.setattr(urls, "WAIT_SECONDS", 0.001)
    objects.install()
    objects.BEGUN.clear()
    objects.READ.clear()
    yield folder
    objects.Objects.clear_instance_cache()


def renamed(photos: Path, kind: str) -> str:
    """The URL of an image to which something happens when it is read."""
    path = min(photos.glob("*/*.png"))
    target = path.rename(path.with_name(f"{kind}-{path.name}"))
    return f"objects://{target.relative_to(photos.parent)}"


def table(path: Path, photos: Path) -> Path:
    """Lists the URLs of all images."""
    found = sorted(photos.glob("*/*.png"))
    rows = [f"objects://{one.relative_to(photos.parent)},{one.parent.name}" for one in found]
    path.write_text("\n".join(["path,label", *rows]))
    return path


def test_a_folder_a_table_and_a_table_in_the_store_give_the_bits_of_files(
    tlcli: CommandLine, first_run: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copy(table(tmp_path / "list.csv", photos), photos / "list.csv")
    (photos / "below.tsv").write_text(
        "\n".join(
            [
                "path\tlabel",
                *(
                    f"{p.parent.name}/{p.name}\t{p.parent.name}"
                    for p in sorted(photos.glob("*/*.png"))
                ),
            ]
        )
    )
    tlcli("moments", first_run, photos, "--out", tmp_path / "files.h5")
    for data in (
        ROOT,
        f"{ROOT}/",
        tmp_path / "list.csv",
        f"{ROOT}/list.csv",
        f"{ROOT}/below.tsv",
        f"file://{photos}",
    ):
        out = tmp_path / "urls.h5"
        assert tlcli.json("moments", first_run, data, "--out", out)["images"]["used"] == 24
        assert out.read_bytes() == (tmp_path / "files.h5").read_bytes()


def test_every_command_that_takes_images_takes_urls(
    tlcli: CommandLine, photos: Path, pictures: Path, tmp_path: Path
) -> None:
    shutil.copytree(pictures / "second", photos.parent / "more")
    run, page = tmp_path / "run", tmp_path / "page.html"
    tlcli("pretrain", ROOT, "--out", run)
    tlcli("extend-classes", run, "objects://more", "--old-data", ROOT)
    tlcli("evaluate", run, ROOT, "--include-learned", "--report", page)
    tlcli("index", "add", run, ROOT)
    assert tlcli("index", "search", run, f"{ROOT}/apple/000.png").count(ROOT) == 10
    tlcli("triage", run, "objects://more", "--copy-into", tmp_path / "triage")
    assert tlcli.json("data", "check", ROOT)["images"] == 24
    tlcli("predict", run, ROOT, "--copy-into", tmp_path / "copies")
    copy = tmp_path / "copies" / "apple" / "000.png"
    assert copy.read_bytes() == (photos / "apple" / "000.png").read_bytes()
    lines = [f'{{"path": "{ROOT}/{name}/001.png"' for name in ("apple", "leaf", "sky")]
    answers = tlcli("predict", run, f"{ROOT}/*/001.png", "--json").splitlines()
    assert [answer[: len(line)] for answer, line in zip(answers, lines, strict=True)] == lines


def test_tables_that_are_written_keep_the_urls(
    tlcli: CommandLine, photos: Path, tmp_path: Path
) -> None:
    tlcli("data", "divide", ROOT, "--out", tmp_path / "parts")
    rows = [
        row["path"]
        for name in ("learn", "held-out")
        for row in csv.DictReader((tmp_path / "parts" / f"{name}.csv").read_text().splitlines())
    ]
    assert sorted(rows) == sorted(
        f"objects://{path.relative_to(photos.parent)}" for path in photos.glob("*/*.png")
    )
    error = tlcli.error(2, "data", "divide", ROOT, "--move-into", tmp_path / "aside")
    assert "--move-into" in error
    assert "apart" in tlcli.error(2, "data", "divide", ROOT, "--test", f"{ROOT}/apple")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("cut", "bytes came"),
        ("gone", "the server has hung up"),
        ("secret", "no permission to read the file"),
    ],
)
def test_an_object_that_does_not_come_whole_is_named_and_left_out(
    tlcli: CommandLine, photos: Path, tmp_path: Path, kind: str, reason: str
) -> None:
    url = renamed(photos, kind)
    error = tlcli.error(3, "pretrain", ROOT, "--out", tmp_path / "run")
    assert url in error
    assert reason in error
    assert not (tmp_path / "run").exists()
    found = tlcli.json("pretrain", ROOT, "--out", tmp_path / "run", "--max-bad", "5%")
    (skipped,) = found["images"]["skipped"]
    assert skipped["path"] == url
    assert reason in skipped["reason"]
    assert reason in tlcli("predict", tmp_path / "run", url, code=3)


def test_what_was_cut_once_is_asked_for_again(
    tlcli: CommandLine, first_run: Path, photos: Path, tmp_path: Path
) -> None:
    renamed(photos, "short")
    tlcli("moments", first_run, ROOT, "--out", tmp_path / "urls.h5")
    tlcli("moments", first_run, photos, "--out", tmp_path / "files.h5")
    assert (tmp_path / "urls.h5").read_bytes() == (tmp_path / "files.h5").read_bytes()


@pytest.mark.parametrize("tagged", [True, False])
def test_a_changed_object_is_noticed(
    photos: Path, monkeypatch: pytest.MonkeyPatch, tagged: bool
) -> None:
    monkeypatch.setattr(objects.Objects, "tagged", tagged)
    url, path = Url(f"{ROOT}/apple/000.png"), photos / "apple" / "000.png"
    path.write_bytes(b"one" * 20 + bytes([tagged]))
    first = list(content_hashes([url, url]))
    objects.READ.clear()
    assert list(content_hashes([url, url])) == first
    assert len(objects.READ) == (0 if tagged else 2)
    path.write_bytes(b"two" * 20 + bytes([tagged]))
    assert list(content_hashes([url])) == list(content_hashes([path])) != first[:1]


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        ("objects://nothing", 2, "does not exist"),
        ("objects://photos/forbidden", 3, "no permission"),
        ("objects://photos/apple", 3, "one folder per class"),
        ("objects://photos/apple/000.png", 3, "a folder of class folders"),
        ("objects://photos/no.csv", 2, "does not exist"),
        ("objects://photos::objects://photos", 3, ":: in a URL is not supported"),
        ("odd://photos", 3, "odd"),
        ("oci://photos", 2, "ocifs"),
    ],
)
def test_what_holds_no_images_is_refused(
    tlcli: CommandLine, photos: Path, tmp_path: Path, data: str, code: int, words: str
) -> None:
    (photos / "forbidden").mkdir()
    error = tlcli.error(code, "pretrain", data, "--out", tmp_path / "run")
    assert data in error
    assert words in error
    assert not (tmp_path / "run").exists()


def test_rows_whose_package_is_missing_and_rows_that_lead_nowhere(
    tlcli: CommandLine, photos: Path, tmp_path: Path
) -> None:
    list_ = tmp_path / "list.csv"
    list_.write_text(f"path,label\n{ROOT}/apple/000.png,a\noci://b/1.png,b\n")
    assert "ocifs" in tlcli.error(2, "pretrain", list_, "--out", tmp_path / "run")
    list_.write_text(f"path,label\n{ROOT}/no.png,a\n{ROOT}/none.png,b\n")
    error = tlcli.error(3, "pretrain", list_, "--out", tmp_path / "run")
    assert "2 of 2 paths of the table lead nowhere" in error


@pytest.mark.parametrize(
    "words",
    [
        ("pretrain", ROOT, "--out", "objects://run"),
        ("evaluate", "objects://run", ROOT),
        ("predict", "run", ROOT, "--copy-into", "objects://copies"),
        ("data", "divide", ROOT, "--out", "objects://parts"),
        ("evaluate", "run", ROOT, "--report", "objects://page.html"),
    ],
)
def test_what_is_written_is_no_url(tlcli: CommandLine, photos: Path, words: tuple[str]) -> None:
    assert "a path of this machine" in tlcli.error(2, *words)
    assert not list(photos.parent.glob("run*"))


def test_a_dataset_that_is_divided_is_named_as_it_was_typed(
    tlcli: CommandLine, photos: Path, tmp_path: Path
) -> None:
    for part in ("train", "test"):
        shutil.copytree(photos, photos.parent / "whole" / part)
    error = tlcli.error(3, "pretrain", "objects://whole/", "--out", "run")
    assert "Type `tlcli pretrain objects://whole/train --out run --test objects://whole/test`" in (
        error
    )


def test_without_fsspec_a_url_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(UsageError, match=r"tlcli\[urls\]"):
        list(content_hashes([Url("objects://photos/1.png")]))


def test_what_is_a_url() -> None:
    assert [str(place(text)) for text in ("a:b", "C://x", "./s3://b", "file:///a/b")] == [
        "a:b",
        "C:/x",
        "s3:/b",
        "/a/b",
    ]
    url = place("S3://bucket/cat/1.JPG")
    assert isinstance(url, Url)
    assert (url.scheme, url.name, url.suffix) == ("s3", "1.JPG", ".JPG")


def test_files_are_read_without_fsspec(pictures: Path) -> None:
    code = (
        "import sys, tlcli.cli; from tlcli import images; "
        f"images.scan('file://{pictures / 'first'}'); print('fsspec' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
