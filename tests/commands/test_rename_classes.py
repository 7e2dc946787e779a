"""rename-classes through the command line: the same columns, one class of several, or refused."""

import json
import shutil
from pathlib import Path

import filelock
import numpy as np
import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import heads, memory, runs
from tlcli.heads import LinearHead
from tlcli.memory import Memory

UNITED = {"plum": "fruit", "apple": "fruit", "sky": "sun"}
WORDS = [f"{old}={new}" for old, new in UNITED.items()]


@pytest.fixture
def without_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that knows no feature."""
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "empty-cache"))


@pytest.fixture
def united(pictures: Path, tmp_path: Path) -> Path:
    """The images of all five classes in the folders of the united ones."""
    folder = tmp_path / "united"
    for path in sorted((pictures / "all").glob("*/*.png")):
        name = UNITED.get(path.parent.name, path.parent.name)
        (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / name / f"{path.parent.name}-{path.name}")
    return folder


def head_of(run: Path) -> LinearHead:
    return heads.load(runs.open_run(run).round().file("head.h5"))


def memory_of(run: Path) -> Memory:
    return memory.load(runs.open_run(run).round())


def assert_same_columns(a: LinearHead, b: LinearHead) -> None:
    b = b.ordered(a.classes)
    assert (a.weights.tobytes(), a.bias.tobytes()) == (b.weights.tobytes(), b.bias.tobytes())


@pytest.mark.parametrize("setting", memory.SETTINGS)
def test_a_renamed_class_keeps_its_column_and_its_place(
    tlcli: CommandLine, pictures: Path, tmp_path: Path, setting: str
) -> None:
    run = tmp_path / "run"
    tlcli("pretrain", pictures / "first", "--out", run, "--memory", setting)
    before = head_of(run)
    answer = tlcli.json("rename-classes", run, "apple=zebra")
    after = head_of(run)
    assert answer["classes"] == ["zebra", "leaf", "sky"]
    assert (answer["new_classes"], answer["renamed_classes"]) == ([], {"apple": "zebra"})
    assert after.classes == ("zebra", "leaf", "sky")
    assert after.weights.tobytes() == before.weights.tobytes()
    assert after.bias.tobytes() == before.bias.tobytes()
    assert after.temperature == before.temperature
    assert set(memory_of(run).ledger.values()) == {"zebra", "leaf", "sky"}
    kept = memory_of(run).kept
    assert kept is None or set(kept.labels) == {"zebra", "leaf", "sky"}
    line = json.loads(tlcli("predict", run, pictures / "test" / "apple" / "000.png", "--json"))
    assert line["label"] == "zebra"


def test_a_run_with_other_names_is_the_one_that_always_had_them(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(pictures / "first", data)
    (data / "apple").rename(data / "zebra")
    joint = tlcli.json("pretrain", data, "--out", tmp_path / "joint")
    answer = tlcli.json("rename-classes", run, "apple=zebra")
    assert answer["memory_sha256"] == joint["memory_sha256"]
    assert answer["exact"] is True
    assert_same_columns(head_of(run), head_of(tmp_path / "joint"))
    assert tlcli.json("extend-classes", run, data)["changed"] is False


@pytest.mark.parametrize("head", ["lda", "ridge", "ncm", "ncm-cosine"])
def test_united_classes_are_one_as_if_they_had_always_been(
    tlcli: CommandLine,
    pictures: Path,
    united: Path,
    tmp_path: Path,
    head: str,
    without_images: None,
) -> None:
    run, joint = tmp_path / "run", tmp_path / "joint"
    tlcli("pretrain", pictures / "all", "--out", run, "--head", head)
    shutil.rmtree(tmp_path / "empty-cache" / "features")
    answer = tlcli.json("rename-classes", run, *WORDS)
    assert answer["classes"] == ["fruit", "leaf", "sun"]
    other = tlcli.json("pretrain", united, "--out", joint, "--head", head)
    assert answer["memory_sha256"] == other["memory_sha256"]
    assert (answer["exact"], other["exact"]) == (True, True)
    assert_same_columns(head_of(run), head_of(joint))


@pytest.mark.parametrize("head", ["lda", "softmax"])
def test_uniting_with_kept_features(
    tlcli: CommandLine, pictures: Path, united: Path, tmp_path: Path, head: str
) -> None:
    run, joint, told = tmp_path / "run", tmp_path / "joint", ("--memory", "features")
    tlcli("pretrain", pictures / "all", "--out", run, "--head", head, *told)
    answer = tlcli.json("rename-classes", run, *WORDS)
    assert answer["validation"]["images"] == 40
    other = tlcli.json("pretrain", united, "--out", joint, "--head", head, *told)
    assert answer["memory_sha256"] == other["memory_sha256"]
    assert_same_columns(head_of(run), head_of(joint))
    assert head_of(run).temperature == head_of(joint).temperature
    assert memory_of(run).ledger == memory_of(joint).ledger


def test_a_united_class_has_no_more_exemplars_than_another(
    tlcli: CommandLine, pictures: Path, tmp_path: Path, without_images: None
) -> None:
    run = tmp_path / "run"
    tlcli("pretrain", pictures / "all", "--out", run, "--exemplars-per-class", "3")
    before = memory_of(run).kept
    shutil.rmtree(tmp_path / "empty-cache" / "features")
    tlcli("rename-classes", run, *WORDS)
    after = memory_of(run)
    assert before is not None and after.kept is not None
    assert after.kept.labels == ("fruit",) * 3 + ("leaf",) * 3 + ("sun",) * 3
    assert set(after.kept.hashes) < set(before.hashes)
    assert {name: centre.count for name, centre in after.centres.items()} == {
        "fruit": 16,
        "leaf": 8,
        "sun": 16,
    }
    assert after.pixels_of(after.kept.hashes).shape == (9, 32, 32, 3)
    assert tlcli.json("rounds", "verify", run)["intact"] is True


def test_names_are_exchanged(tlcli: CommandLine, run: Path, pictures: Path) -> None:
    before = head_of(run)
    answer = tlcli.json("rename-classes", run, "apple=sky", "sky=apple")
    assert answer["classes"] == ["sky", "leaf", "apple"]
    assert head_of(run).weights.tobytes() == before.weights.tobytes()
    report = tlcli.json("evaluate", run, pictures / "test", "--ignore-unknown")
    assert report["accuracy"] < 0.5
    assert [entry["accuracy"] for entry in report["rounds"]] == [report["accuracy"]] * 2


def test_without_moments_classes_are_renamed_but_not_united(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    tlcli("pretrain", pictures / "first", "--out", run, "--memory", "none")
    error = tlcli.error(2, "rename-classes", run, "apple=sky")
    assert "'none'" in error
    assert "--memory moments" in error
    assert tlcli.json("rename-classes", run, "apple=zebra")["memory_sha256"] is None


@pytest.mark.parametrize(
    "prepare", [("--head", "softmax"), ("--strategy", "freeze-old")], ids=lambda words: words[1]
)
def test_columns_that_were_fitted_are_renamed_but_not_united(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path, prepare: tuple[str, str]
) -> None:
    if prepare[0] == "--head":
        run = tmp_path / "fitted"
        tlcli("pretrain", pictures / "all", "--out", run, *prepare)
    else:
        tlcli("extend-classes", run, pictures / "second", *prepare)
    before = head_of(run)
    exact = tlcli.json("rounds", "show", run)["exact"]
    assert "--head lda" in tlcli.error(3, "rename-classes", run, "sun=sky")
    answer = tlcli.json("rename-classes", run, "sun=zebra")
    assert (answer["exact"], head_of(run).weights.tobytes()) == (exact, before.weights.tobytes())
    tlcli("extend-classes", run, pictures / "first", "--strategy", "merge", "--head", "lda")
    assert "zebra" not in tlcli.json("rename-classes", run, "zebra=sky")["classes"]


def test_what_was_renamed_is_not_renamed_again(tlcli: CommandLine, run: Path) -> None:
    assert tlcli.json("rename-classes", run, "apple=zebra", "leaf=sky")["round"] == 2
    again = tlcli.json("rename-classes", run, "apple=zebra", "leaf=sky")
    assert (again["changed"], again["round"]) == (False, 2)
    assert again["renamed_classes"] == {}
    assert tlcli.json("rename-classes", run, "sky=sky")["changed"] is False
    assert tlcli.json("rename-classes", run, "apple=zebra", "sky=sea")["classes"] == [
        "zebra",
        "sea",
    ]


BAD_WORDS = [
    (("apple",), "OLD=NEW"),
    (("clouds=sea",), "'clouds'"),
    (("apple=",), "printable"),
    (("apple=  ",), "printable"),
    (("apple=a\tb",), "printable"),
    (("apple=a", "apple=b"), "'apple'"),
    ((), "OLD=NEW"),
]


@pytest.mark.parametrize(("words", "said"), BAD_WORDS)
def test_bad_words(tlcli: CommandLine, run: Path, words: tuple[str, ...], said: str) -> None:
    assert said in tlcli.error(2, "rename-classes", run, *words)
    assert runs.open_run(run).numbers() == [1]


def test_one_class_does_not_remain_alone(tlcli: CommandLine, run: Path) -> None:
    words = ("apple=all", "leaf=all", "sky=all")
    assert "two classes" in tlcli.error(3, "rename-classes", run, *words)


def test_names_of_all_kinds(tlcli: CommandLine, run: Path) -> None:
    tlcli("rename-classes", run, "apple=a=b", "leaf= e\u0301te\u0301 ", "sky=-x")
    assert tlcli.json("rounds", "show", run)["classes"][0]["name"] == "a=b"
    assert head_of(run).classes == ("a=b", "\u00e9t\u00e9", "-x")
    tlcli("rename-classes", run, "a=b=a", "e\u0301te\u0301=leaf")
    assert head_of(run).classes == ("a", "leaf", "-x")
    tlcli("rename-classes", run, "leaf=a=c")
    assert "'a', 'a=c'" in tlcli.error(2, "rename-classes", run, "a=c=d")


def test_earlier_rounds_are_measured_under_the_names_of_today(
    tlcli: CommandLine, run: Path, pictures: Path, united: Path, tmp_path: Path
) -> None:
    tlcli("extend-classes", run, pictures / "second")
    tlcli("extend-classes", run, pictures / "third")
    test = tmp_path / "test"
    for path in sorted((pictures / "test").glob("*/*.png")):
        name = UNITED.get(path.parent.name, path.parent.name)
        (test / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, test / name / f"{path.parent.name}-{path.name}")
    was = tlcli.json("evaluate", run, pictures / "test", "--all-rounds")
    tlcli("rename-classes", run, *WORDS)
    now = tlcli.json("evaluate", run, test, "--all-rounds", "--max-regression", "0.5")
    assert was["accuracy"] >= 0.9
    assert all(entry["accuracy"] >= 0.6 for entry in now["rounds"])
    assert now["rounds"][2]["accuracy"] >= was["accuracy"]
    assert now["rounds"][2]["classes"] == 3
    assert now["gates"][0]["passed"] is True
    assert [entry["introduced_in_round"] for entry in now["per_class"]] == [1, 1, 1]
    error = tlcli.error(3, "evaluate", run, pictures / "test")
    assert "'apple' is called 'fruit' now" in error


def test_names_are_followed_through_many_rounds(
    tlcli: CommandLine, run: Path, tmp_path: Path
) -> None:
    tlcli("rename-classes", run, "apple=sky", "sky=apple")
    tlcli("rename-classes", run, "sky=moss", "leaf=sky")
    tlcli("rename-classes", run, "moss=zebra", "apple=moss")
    test = tiny.draw(tmp_path / "test", ["apple", "leaf", "sky"], count=4, seed=1)
    for old, new in {"sky": "moss", "leaf": "sky", "apple": "zebra"}.items():
        (test / old).rename(test / new)
    report = tlcli.json("evaluate", run, test)
    assert report["accuracy"] >= 0.9
    assert [entry["accuracy"] for entry in report["rounds"]] == [report["accuracy"]] * 4
    assert "'apple' is called 'moss' now" in tlcli.error(2, "remove-classes", run, "apple")


def test_images_under_old_names_are_named_wherever_they_are_given(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    tlcli("rename-classes", run, "apple=pear")
    old = pictures / "first"
    for words in (
        ("extend-classes", run, pictures / "second", "--test", old),
        ("triage", run, pictures / "test", "--known", old),
        ("finetune", run, old),
    ):
        assert "'apple' is called 'pear' now" in tlcli.error(3, *words)
    told = "'apple' is called 'pear' now. The head is not tested on images under old names"
    test = pictures / "test"
    tlcli("evaluate", run, test, "--ignore-unknown")
    assert told in tlcli.err
    tlcli("index", "add", run, old)
    tlcli("evaluate", run, test, "--ignore-unknown", "--by", "means")
    assert told in tlcli.err


def test_the_old_name_says_what_the_class_is_called_now(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    tlcli("rename-classes", run, "apple=zebra")
    assert "'zebra' now" in tlcli.error(2, "remove-classes", run, "apple")
    assert "'zebra' now" in tlcli.error(2, "rename-classes", run, "apple=other")
    tiny.draw(tmp_path / "more", ["apple"], count=3, seed=5)
    assert "'zebra' now" in tlcli.error(3, "finetune", run, tmp_path / "more")
    assert tlcli.json("extend-classes", run, tmp_path / "more")["new_classes"] == ["apple"]
    assert "'zebra' now" in tlcli.err
    assert tlcli.json("rename-classes", run, "apple=zebra")["classes"] == ["zebra", "leaf", "sky"]


def test_a_round_of_other_names_is_rolled_back(tlcli: CommandLine, run: Path) -> None:
    before = tlcli.json("rounds", "show", run)
    tlcli("rename-classes", run, "apple=zebra", "leaf=sky")
    answer = tlcli.json("rounds", "rollback", run)
    assert answer["memory_sha256"] == before["memory_sha256"]
    assert answer["classes"] == ["apple", "leaf", "sky"]
    assert (answer["forgotten_classes"], answer["renamed_classes"]) == (["zebra"], {})
    assert tlcli.json("rename-classes", run, "apple=zebra")["renamed_classes"] == {"apple": "zebra"}


def test_runs_are_merged_under_one_name(
    tlcli: CommandLine, run: Path, pictures: Path, united: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(pictures / "second", tmp_path / "rest")
    shutil.copytree(pictures / "third", tmp_path / "rest", dirs_exist_ok=True)
    tlcli("pretrain", tmp_path / "rest", "--out", other)
    tlcli("rename-classes", run, "apple=fruit", "sky=sun")
    tlcli("rename-classes", other, "plum=fruit")
    answer = tlcli.json("merge", run, other, "--out", tmp_path / "both")
    joint = tlcli.json("pretrain", united, "--out", tmp_path / "joint")
    assert answer["memory_sha256"] == joint["memory_sha256"]
    assert_same_columns(head_of(tmp_path / "both"), head_of(tmp_path / "joint"))


def test_the_text_and_the_lock(tlcli: CommandLine, run: Path, pictures: Path) -> None:
    with filelock.FileLock(run / "lock"):
        tlcli.error(75, "rename-classes", run, "apple=fruit")
    text = tlcli("rename-classes", run, "apple=fruit", "leaf=fruit", "--no-keras-model")
    assert "apple + leaf → fruit" in text
    assert not (runs.open_run(run).round().folder / "model.keras").exists()
    assert "rename-classes" in tlcli("rounds", "list", run)


def test_images_set_aside_test_the_new_names(tlcli: CommandLine, run: Path, tmp_path: Path) -> None:
    tiny.draw(tmp_path / "test", ["apple", "sky"], count=4, seed=7)
    (tmp_path / "test" / "apple").rename(tmp_path / "test" / "leaf")
    told = ("--test", tmp_path / "test")
    answer = tlcli.json("rename-classes", run, "apple=leaf", *told)
    assert answer["validation"]["images"] == 8
    assert answer["validation"]["accuracy"] > 0.7
    assert "'leaf'" in tlcli.error(3, "rename-classes", run, "leaf=plant", *told)


def test_a_united_head_adds_probabilities() -> None:
    rng = np.random.default_rng(0)
    head = LinearHead(
        ("a", "b", "c"),
        rng.normal(0, 1, (4, 3)).astype(np.float32),
        rng.normal(0, 1, 3).astype(np.float32),
        1.7,
    )
    vectors = rng.normal(0, 1, (9, 4)).astype(np.float32)
    united = heads.UnitedHead(head, {"a": "c", "b": "x"})
    single, found = head.probabilities(vectors), united.softmax(united.logits(vectors))
    assert united.classes == ("c", "x")
    np.testing.assert_allclose(found[:, 0], single[:, 0] + single[:, 2], rtol=1e-5)
    assert united.logits(vectors)[:, 1].tobytes() == head.logits(vectors)[:, 1].tobytes()
    assert list(united.predict(vectors)) == [united.classes[i] for i in found.argmax(axis=1)]
