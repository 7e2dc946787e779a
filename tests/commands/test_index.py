"""`index`, and answers by neighbours, through the command line."""

import json
import shlex
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import retrieval


@pytest.fixture
def indexed(tlcli: CommandLine, run: Path, pictures: Path) -> Path:
    """The run after round 1, with an index of all classes, two of which it does not know."""
    tlcli("index", "add", run, pictures / "all")
    return run


def lines(tlcli: CommandLine, *arguments: object, code: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tlcli(*arguments, "--json", code=code).splitlines()]


def test_images_are_added_once_and_found(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    first = tlcli.json("index", "add", run, pictures / "all")
    count = len(list((pictures / "all").rglob("*.png")))
    assert (first["added"], first["images"], first["classes"]) == (count, count, 5)
    again = tlcli.json("index", "add", run, pictures / "all")
    assert (again["added"], again["already_there"], again["images"]) == (0, count, count)
    answers = lines(tlcli, "index", "search", run, pictures / "test", "-k", 3)
    assert len(answers) == 20
    for answer in answers:
        similarities = [near["similarity"] for near in answer["neighbours"]]
        assert similarities == sorted(similarities, reverse=True)
        assert len(similarities) == 3
        assert answer["neighbours"][0]["label"] == Path(answer["path"]).parent.name
    itself = next((pictures / "all").rglob("*.png"))
    ((hit,), _) = (
        entry["neighbours"]
        for entry in lines(tlcli, "index", "search", run, itself, itself, "-k", 1)
    )
    assert Path(hit["path"]) == itself.absolute()
    assert hit["similarity"] == pytest.approx(1, abs=1e-3)


def test_the_round_is_not_touched(tlcli: CommandLine, indexed: Path) -> None:
    (entry,) = tlcli.json("rounds", "list", indexed)["rounds"]
    assert entry["round"] == 1
    tlcli("rounds", "verify", indexed)


def test_what_a_round_forgets_or_renames_is_still_found_which_is_said(
    tlcli: CommandLine, indexed: Path, pictures: Path
) -> None:
    names = sorted(folder.name for folder in (pictures / "first").iterdir())
    count = len(list((pictures / "all" / names[0]).iterdir()))
    tlcli("rename-classes", indexed, f"{names[0]}=other")
    assert f"still holds {count} of these images, as '{names[0]}'" in tlcli.err
    assert f"`tlcli index remove {indexed} {names[0]}`" in tlcli.err
    photo = next((pictures / "first" / names[1]).iterdir())
    tlcli("remove-classes", indexed, "--images", photo)
    assert f"still holds 1 of these images, as '{names[1]}'" in tlcli.err
    tlcli("index", "remove", indexed, "--images", photo, names[0])
    tlcli("remove-classes", indexed, "other")
    assert "the index" not in tlcli.err


def test_what_a_rollback_forgets_is_still_found_which_is_said(
    tlcli: CommandLine, indexed: Path, pictures: Path
) -> None:
    tlcli("extend-classes", indexed, pictures / "second")
    tlcli("rounds", "rollback", indexed)
    (name,) = (folder.name for folder in (pictures / "second").iterdir())
    assert f"still holds 8 of these images, as '{name}'" in tlcli.err
    tlcli("index", "remove", indexed, name)
    tlcli("rounds", "rollback", indexed, "--to", "2")
    assert "the index" not in tlcli.err


def test_the_command_that_is_advised_takes_names_like_options(
    tlcli: CommandLine, run: Path, tmp_path: Path
) -> None:
    data = tiny.draw(tmp_path / "data", ["plum"], count=2)
    (data / "plum").rename(data / "-x")
    tlcli("extend-classes", run, data)
    tlcli("index", "add", run, data)
    tlcli("remove-classes", run, "--", "-x")
    command = shlex.split(tlcli.err.partition("as '-x': `")[2].partition("`")[0])
    assert "2 removed" in tlcli(*command[1:])


def test_a_name_that_a_class_had_before_is_said(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    tlcli("rename-classes", run, "apple=pear")
    tlcli("index", "add", run, pictures / "first")
    assert "'apple' is called 'pear' now. The index answers with the names of DATA" in tlcli.err


def test_a_damaged_index_does_not_keep_a_class(tlcli: CommandLine, indexed: Path) -> None:
    (indexed / "index" / "records.sqlite").write_bytes(b"no database" * 100)
    (entry,) = tlcli.json("rounds", "list", indexed)["rounds"]
    tlcli("remove-classes", indexed, entry["new_classes"][0])
    assert "whether the index holds any of these images is not known: " in tlcli.err


def test_forms_of_an_answer(tlcli: CommandLine, indexed: Path, pictures: Path) -> None:
    photo = next((pictures / "test" / "sky").iterdir())
    (answer,) = lines(tlcli, "index", "search", indexed, photo, "-k", 2)
    text = tlcli("index", "search", indexed, photo, "-k", 2).splitlines()
    zeros = tlcli("index", "search", indexed, photo, "-k", 2, "-0")
    assert zeros == "".join(f"{near['path']}\0" for near in answer["neighbours"])
    for line, near in zip(text, answer["neighbours"], strict=True):
        similarity, label, path, query = line.split("\t")
        assert (label, path, query) == (near["label"], near["path"], str(photo))
        assert float(similarity) == pytest.approx(near["similarity"], abs=1e-3)
    limit = answer["neighbours"][1]["similarity"] + 1e-9
    (judged,) = lines(tlcli, "index", "search", indexed, photo, "--min-similarity", limit)
    assert judged["neighbours"] == answer["neighbours"][:1]


def test_what_is_no_image_is_answered_with_its_error(
    tlcli: CommandLine, indexed: Path, pictures: Path, tmp_path: Path
) -> None:
    (tmp_path / "no.jpg").write_text("text")
    photo = next((pictures / "test" / "sky").iterdir())
    bad, good = lines(tlcli, "index", "search", indexed, tmp_path / "no.jpg", photo)
    assert set(bad) == {"path", "error"}
    assert good["neighbours"]
    lines(tlcli, "index", "search", indexed, tmp_path / "no.jpg", code=3)


def test_classes_and_images_are_removed(tlcli: CommandLine, indexed: Path, pictures: Path) -> None:
    before = tlcli.json("index", "stats", indexed)
    sky = before["classes"]["sky"]
    assert tlcli.json("index", "remove", indexed, "sky")["removed"] == sky
    one = next((pictures / "all" / "sun").iterdir())
    assert tlcli.json("index", "remove", indexed, "--images", one)["removed"] == 1
    after = tlcli.json("index", "stats", indexed)
    assert "sky" not in after["classes"]
    assert after["classes"]["sun"] == before["classes"]["sun"] - 1
    assert after["removed"] == sky + 1
    answers = lines(tlcli, "index", "search", indexed, pictures / "test", "-k", 1000)
    found = {near["path"] for answer in answers for near in answer["neighbours"]}
    assert len(found) == after["images"]
    assert str(one.absolute()) not in found
    optimised = tlcli.json("index", "optimize", indexed)
    assert optimised["images"] == after["images"]
    assert tlcli.json("index", "stats", indexed)["removed"] == 0
    assert lines(tlcli, "index", "search", indexed, pictures / "test", "-k", 1000) == answers


def test_an_index_whose_images_are_all_removed_says_so(
    tlcli: CommandLine, indexed: Path, pictures: Path
) -> None:
    tlcli("index", "remove", indexed, *tlcli.json("index", "stats", indexed)["classes"])
    tlcli("index", "optimize", indexed)
    photo = next((pictures / "test" / "sky").iterdir())
    for words in (("index", "search", indexed, photo), ("index", "stats", indexed)):
        assert "holds none" in tlcli.error(2, *words)
    for by in ("neighbours", "means"):
        assert "holds none" in tlcli.error(2, "predict", indexed, photo, "--by", by)
    tlcli("index", "add", indexed, pictures / "first")
    tlcli("index", "search", indexed, photo)


def test_near_copies_are_listed(
    tlcli: CommandLine, indexed: Path, pictures: Path, tmp_path: Path
) -> None:
    original = next((pictures / "all" / "sky").iterdir())
    copy = tmp_path / "more" / "copies" / original.name
    copy.parent.mkdir(parents=True)
    shutil.copy(original, copy)
    with copy.open("ab") as stream:
        stream.write(b"behind the image")
    tlcli("index", "add", indexed, tmp_path / "more")
    pairs = lines(tlcli, "index", "duplicates", indexed, "--min-similarity", 0.999)
    found = [{pair["first"], pair["second"]} for pair in pairs]
    assert {str(original.absolute()), str(copy)} in found
    text = tlcli("index", "duplicates", indexed, "--min-similarity", 0.999)
    assert len(text.splitlines()) == len(pairs)


def test_every_pair_is_listed_once_however_little_alike(tlcli: CommandLine, indexed: Path) -> None:
    tlcli("index", "remove", indexed, "sky")
    images = tlcli.json("index", "stats", indexed)["images"]
    pairs = lines(tlcli, "index", "duplicates", indexed, "--min-similarity", -1)
    found = {frozenset((pair["first"], pair["second"])) for pair in pairs}
    assert len(pairs) == len(found) == images * (images - 1) // 2
    assert all(len(pair) == 2 for pair in found)


def test_an_image_under_two_classes_is_skipped(
    tlcli: CommandLine, indexed: Path, pictures: Path, tmp_path: Path
) -> None:
    tiny.draw(tmp_path / "data", ["sky"], count=4, seed=5)
    held = next((pictures / "all" / "sun").iterdir())
    shutil.copy(held, tmp_path / "data" / "sky" / "held.png")
    message = tlcli.error(3, "index", "add", indexed, tmp_path / "data")
    assert "'sun'" in message
    added = tlcli.json("index", "add", indexed, tmp_path / "data", "--max-bad", "50%")
    assert added["added"] == 4
    assert [entry["reason"] for entry in added["skipped"]] == ["the index holds it as 'sun'"]


def test_a_descriptor_is_for_the_life_of_an_index(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    assert "shaped" in tlcli.error(
        2, "index", "add", run, pictures / "all", "--descriptor", "shaped"
    )
    tlcli("index", "add", run, pictures / "first", "--descriptor", "plain")
    assert tlcli.json("index", "stats", run)["descriptor"] == "plain"
    tlcli("index", "add", run, pictures / "second")
    assert tlcli.json("index", "stats", run)["descriptor"] == "plain"
    assert "plain" in tlcli.error(
        2, "index", "add", run, pictures / "third", "--descriptor", "whitened"
    )


def test_whitened_descriptors_need_moments(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run = tmp_path / "bare"
    tlcli("pretrain", pictures / "first", "--out", run, "--memory", "none")
    assert "--descriptor plain" in tlcli.error(
        2, "index", "add", run, pictures / "all", "--descriptor", "whitened"
    )
    tlcli("index", "add", run, pictures / "all")
    assert tlcli.json("index", "stats", run)["descriptor"] == "plain"


def test_check_names_damage(tlcli: CommandLine, indexed: Path) -> None:
    assert tlcli.json("index", "check", indexed)["passed"]
    (segment,) = (path for path in (indexed / "index").glob("*.h5") if "descr" not in path.name)
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content)
    assert segment.name in tlcli.error(5, "index", "check", indexed)


def every_command(run: Path, photo: Path, data: Path) -> list[tuple[object, ...]]:
    """All that ask of an index, or change it."""
    return [
        ("index", "search", run, photo),
        ("index", "duplicates", run),
        ("index", "stats", run),
        ("index", "check", run),
        ("index", "add", run, data),
        ("index", "remove", run, "sky"),
        ("index", "optimize", run),
        ("predict", run, photo, "--by", "neighbours"),
    ]


@pytest.mark.parametrize("pattern", ["[0-9a-f]*.h5", "descriptor-*.h5"])
def test_a_file_that_is_missing_is_named_by_every_command(
    tlcli: CommandLine, indexed: Path, pictures: Path, pattern: str
) -> None:
    photo = next((pictures / "test" / "sky").iterdir())
    (gone,) = (
        p for p in (indexed / "index").glob(pattern) if pattern[0] == "d" or len(p.stem) == 64
    )
    gone.unlink()
    for words in every_command(indexed, photo, pictures / "all"):
        assert f"{gone} is missing" in tlcli.error(5, *words)


def test_a_newer_index_is_left_as_it_is(tlcli: CommandLine, indexed: Path, pictures: Path) -> None:
    photo = next((pictures / "test" / "sky").iterdir())
    with closing(sqlite3.connect(indexed / "index" / "records.sqlite")) as database, database:
        database.execute("UPDATE about SET value = '9' WHERE key = 'format'")
    (indexed / "index" / "of-a-newer-kind").touch()
    for words in every_command(indexed, photo, pictures / "all"):
        assert "newer tlcli" in tlcli.error(5, *words)
    assert (indexed / "index" / "of-a-newer-kind").exists()
    with closing(sqlite3.connect(indexed / "index" / "records.sqlite")) as database:
        query = "SELECT count(*) FROM images WHERE label = 'sky'"
        assert database.execute(query).fetchone() == (8,)


def test_an_index_that_never_had_an_image_says_so(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    """As a kill before the first transaction leaves it."""
    photo = next((pictures / "test" / "sky").iterdir())
    with retrieval.writing(run, 0):
        pass
    for words in every_command(run, photo, pictures / "all"):
        if words[1] != "add":
            assert "holds none" in tlcli.error(2, *words)
    tlcli("index", "add", run, pictures / "all")


def test_more_neighbours_than_images_are_all_of_them(
    tlcli: CommandLine, indexed: Path, pictures: Path
) -> None:
    photo = next((pictures / "test" / "sky").iterdir())
    (answer,) = lines(tlcli, "index", "search", indexed, photo, "-k", 10**15)
    assert len(answer["neighbours"]) == len(list((pictures / "all").rglob("*.png")))


def test_questions_that_cannot_be_meant(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    photo = next((pictures / "test" / "sky").iterdir())
    assert "index add" in tlcli.error(2, "index", "search", run, photo)
    assert "index add" in tlcli.error(2, "index", "remove", run, "sky")
    assert not (run / "index").exists()
    tlcli("index", "add", run, pictures / "all")
    assert "'nothing'" in tlcli.error(2, "index", "remove", run, "nothing")
    tlcli.error(2, "index", "remove", run)
    tlcli.error(2, "index", "search", run, photo, "-0", "--json")
    tlcli.error(2, "index", "search", tmp_path / "nowhere", photo)
    tlcli.error(3, "index", "remove", run, "--images", tmp_path)


def test_a_backbone_that_moved_is_another_index(
    tlcli: CommandLine, indexed: Path, pictures: Path
) -> None:
    tlcli("finetune", indexed, pictures / "first", "--epochs", 1, "--unfreeze", "all")
    photo = next((pictures / "test" / "sky").iterdir())
    assert "backbone" in tlcli.error(5, "index", "search", indexed, photo)
    assert "backbone" in tlcli.error(5, "index", "add", indexed, pictures / "second")


def test_a_class_with_one_image_is_known_at_once(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new" / "sea"
    new.mkdir(parents=True)
    shutil.copy(next((pictures / "third").rglob("*.png")), new)
    label = next((pictures / "third").iterdir()).name
    tlcli("index", "add", run, pictures / "first")
    tlcli("index", "add", run, tmp_path / "new")
    for by in ("neighbours", "means"):
        answers = lines(tlcli, "predict", run, pictures / "test" / label, "--by", by)
        assert {answer["label"] for answer in answers} == {"sea"}
        for answer in answers:
            assert sum(entry["probability"] for entry in answer["top"]) == pytest.approx(1)
    tlcli.error(2, "predict", run, pictures / "test", "--by", "chance")


def test_evaluate_measures_neighbours_beside_the_head(
    tlcli: CommandLine, indexed: Path, pictures: Path, tmp_path: Path
) -> None:
    shutil.copytree(pictures / "test", tmp_path / "data")
    held = next((pictures / "third").rglob("*.png"))
    shutil.copy(held, tmp_path / "data" / held.parent.name / "held.png")
    report = tlcli.json("evaluate", indexed, tmp_path / "data", "--by", "neighbours")
    assert report["images"] == 12
    beside = report["beside"]
    assert (beside["images"], beside["left_out"]) == (20, 1)
    assert (beside["shared_images"], beside["head_accuracy"]) == (12, report["accuracy"])
    assert beside["accuracy"] == beside["shared_accuracy"] == 1
    assert "By neighbours of the index: 100.0 %" in tlcli(
        "evaluate", indexed, tmp_path / "data", "--by", "neighbours"
    )
    tlcli.error(3, "evaluate", indexed, tmp_path / "data")
