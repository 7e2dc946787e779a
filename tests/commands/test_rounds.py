"""rounds rollback and rounds prune: going back, and what may be thrown away."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.runs.test_runs import Failing
from tests.support import tiny
from tlcli import runs


def inode(run: Path, number: int, name: str) -> int:
    return (run / "rounds" / f"{number:04d}" / name).stat().st_ino


def test_rollback_is_a_new_round_with_the_content_of_the_one_before(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    before = tlcli("predict", run, pictures / "test", "--json")
    tlcli("extend-classes", run, pictures / "second")
    assert tlcli("predict", run, pictures / "test", "--json") != before
    answer = tlcli.json("rounds", "rollback", run)
    assert (answer["round"], answer["source"], answer["command"]) == (3, 1, "rollback")
    assert answer["forgotten_classes"] == ["sun"]
    assert answer["new_classes"] == []
    assert answer["classes"] == ["apple", "leaf", "sky"]
    assert answer["changed"] is True
    assert tlcli("predict", run, pictures / "test", "--json") == before
    assert inode(run, 3, "head.h5") == inode(run, 1, "head.h5")
    tlcli("rounds", "verify", run)
    first, _, last = tlcli.json("rounds", "list", run)["rounds"]
    assert last["command"] == "rollback"
    assert last["memory_sha256"] == first["memory_sha256"]
    shown = tlcli.json("rounds", "show", run)
    assert (shown["parent"], shown["config"]) == (1, {"to": 1})
    assert [entry["introduced_in_round"] for entry in shown["classes"]] == [1, 1, 1]


def test_after_a_rollback_all_is_as_if_the_round_had_never_been(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    """The images of the bad round can be learned again, under another name."""
    other = Path(shutil.copytree(run, tmp_path / "other"))
    wrong = tmp_path / "wrong"
    shutil.copytree(pictures / "second" / "sun", wrong / "moon")
    tlcli("extend-classes", run, wrong)
    tlcli("rounds", "rollback", run)
    again = tlcli.json("extend-classes", run, pictures / "second")
    straight = tlcli.json("extend-classes", other, pictures / "second")
    assert again["images"]["used"] == 8
    assert again["memory_sha256"] == straight["memory_sha256"]
    assert again["classes"] == straight["classes"]
    report = tlcli.json("evaluate", run, pictures / "test", "--ignore-unknown")
    assert report["accuracy"] >= 0.8


def test_a_second_rollback_does_nothing_and_says_so(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    tlcli("extend-classes", run, pictures / "second")
    tlcli("rounds", "rollback", run)
    for options in ((), ("--to", "1"), ("--to", "3")):
        assert "nothing to do" in tlcli("rounds", "rollback", run, *options)
        assert tlcli.json("rounds", "rollback", run, *options)["changed"] is False
    assert runs.open_run(run).numbers() == [1, 2, 3]
    forward = tlcli.json("rounds", "rollback", run, "--to", "2")
    assert (forward["round"], forward["new_classes"]) == (4, ["sun"])
    assert "forgotten   sun\n" in tlcli("rounds", "rollback", run, "--to", "1")


@pytest.mark.parametrize("setting", ["none", "features", "exemplars"])
def test_every_memory_comes_back(
    tlcli: CommandLine, pictures: Path, tmp_path: Path, setting: str
) -> None:
    run = tmp_path / "run"
    tlcli("pretrain", pictures / "first", "--out", run, "--memory", setting, "--no-keras-model")
    tlcli("extend-classes", run, pictures / "second", "--no-keras-model")
    tlcli("rounds", "rollback", run)
    assert not (run / "rounds" / "0003" / "model.keras").exists()
    answer = tlcli.json("extend-classes", run, pictures / "third")
    assert answer["classes"] == ["apple", "leaf", "sky", "plum"]
    tlcli("rounds", "verify", run)


def test_the_text_of_a_round_is_for_people(tlcli: CommandLine, run: Path) -> None:
    text, details = tlcli("rounds", "show", run), tlcli.json("rounds", "show", run)
    assert "None" not in text and "True" not in text and "{" not in text
    assert re.search("^exact +yes$", text, re.M) and re.search("^strategy +–$", text, re.M)
    assert re.search("^  images +max_bad 0.01$", text, re.M)
    headings = re.findall(r"^(\w+)$", text, re.M)
    assert headings == [name for name in headings if details[name]]
    assert "adoption" not in text
    day, moment = details["created"].removesuffix("+00:00").split("T")
    assert f"   {day} {moment[:5]}   pretrain" in tlcli("rounds", "list", run)


def test_nonsense_is_refused(tlcli: CommandLine, run: Path, pictures: Path) -> None:
    assert "--to N" in tlcli.error(2, "rounds", "rollback", run)
    assert "round=7" in tlcli.error(2, "rounds", "rollback", run, "--to", "7")
    tlcli.error(2, "rounds", "prune", run, "--keep", "0")
    tlcli.error(2, "rounds", "prune", run)
    tlcli.error(5, "rounds", "rollback", pictures)
    tlcli("extend-classes", run, pictures / "second")
    (run / "rounds" / "0001" / "head.h5").unlink()
    assert "head.h5 is missing" in tlcli.error(5, "rounds", "rollback", run)
    assert runs.open_run(run).numbers() == [1, 2]


def test_a_damaged_backbone_is_not_gone_back_to(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    tlcli("extend-classes", run, pictures / "second")
    fingerprint = runs.open_run(run).round().manifest.backbone_fingerprint
    with (run / "backbones" / fingerprint / "openvino.bin").open("ab") as stream:
        stream.write(b"more")
    assert "openvino.bin" in tlcli.error(5, "rounds", "rollback", run)


def test_a_damaged_current_round_can_be_left(tlcli: CommandLine, run: Path, pictures: Path) -> None:
    tlcli("extend-classes", run, pictures / "second")
    (run / "rounds" / "0002" / "memory.h5").write_bytes(b"")
    assert tlcli.json("rounds", "rollback", run)["round"] == 3
    tlcli("extend-classes", run, pictures / "third")


def test_another_writer_is_not_disturbed(tlcli: CommandLine, run: Path) -> None:
    with runs.extending(run, 0):
        tlcli.error(75, "rounds", "rollback", run)
        tlcli.error(75, "rounds", "prune", run, "--keep", "1")


def test_a_rollback_on_a_full_disk_leaves_the_run_as_it_was(
    tlcli: CommandLine, run: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tlcli("extend-classes", run, pictures / "second")
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", Failing(lambda descriptor: None, 0))
        tlcli.error(6, "rounds", "rollback", run)
    assert runs.open_run(run).numbers() == [1, 2]


def test_prune_keeps_the_newest_rounds_and_all_works_as_before(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    for part in ("second", "third"):
        tlcli("extend-classes", run, pictures / part)
    before = tlcli("predict", run, pictures / "test")
    answer = tlcli.json("rounds", "prune", run, "--keep", "2")
    assert (answer["rounds"], answer["removed"]) == ([2, 3], [1])
    assert answer["removed_backbones"] == []
    assert answer["freed_bytes"] > 1000
    assert tlcli("predict", run, pictures / "test") == before
    assert tlcli.json("rounds", "verify", run)["rounds"] == [2, 3]
    assert [entry["round"] for entry in tlcli.json("rounds", "list", run)["rounds"]] == [2, 3]
    report = tlcli.json("evaluate", run, pictures / "test", "--max-regression", "0.5")
    assert [entry["round"] for entry in report["rounds"]] == [2, 3]
    assert "after round 2" in tlcli("evaluate", run, pictures / "test")
    assert "nothing to do" in tlcli("rounds", "prune", run, "--keep", "9")
    assert "is a run already" in tlcli.error(2, "pretrain", pictures / "first", "--out", run)
    assert "2 to 3" in tlcli.error(2, "rounds", "rollback", run, "--to", "1")
    assert "1 round removed" in tlcli("rounds", "prune", run, "--keep", "1")
    assert tlcli.json("evaluate", run, pictures / "test")["forgetting"] is None
    assert "round=2" in tlcli.error(2, "rounds", "rollback", run)
    tlcli("remove-classes", run, "plum")
    assert tlcli.json("rounds", "list", run)["rounds"][-1]["round"] == 4


def test_prune_after_a_rollback_needs_nothing_of_the_round_it_came_from(
    tlcli: CommandLine, pictures: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    tlcli("pretrain", pictures / "first", "--out", run, "--memory", "features")
    tlcli("extend-classes", run, pictures / "second")
    tlcli("rounds", "rollback", run)
    tlcli("rounds", "prune", run, "--keep", "1")
    tlcli("rounds", "verify", run)
    again = tlcli.json("extend-classes", run, pictures / "second")
    assert (again["round"], again["new_classes"]) == (4, ["sun"])


def test_prune_removes_backbones_that_no_kept_round_uses(
    tlcli: CommandLine, run: Path, pictures: Path
) -> None:
    old = runs.open_run(run).round().manifest.backbone_fingerprint
    tuned = tlcli.json("finetune", run, pictures / "first", "--epochs", "1", "--lr", "0.0001")
    assert tuned["backbone_fingerprint"] != old
    assert tlcli.json("rounds", "prune", run, "--keep", "2")["removed_backbones"] == []
    assert tlcli.json("rounds", "prune", run, "--keep", "1")["removed_backbones"] == [old]
    assert [path.name for path in (run / "backbones").iterdir()] == [tuned["backbone_fingerprint"]]
    tlcli("rounds", "verify", run)


def test_a_prune_that_stops_half_way_leaves_whole_rounds(
    tlcli: CommandLine, run: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the second rename; what the first one took away is swept by the next writer."""
    for part in ("second", "third"):
        tlcli("extend-classes", run, pictures / part)
    with monkeypatch.context() as patched:
        rename = Failing(Path.rename, 1)
        patched.setattr(Path, "rename", lambda source, target: rename(source, target))
        tlcli.error(6, "rounds", "prune", run, "--keep", "1")
    assert runs.open_run(run).numbers() == [2, 3]
    tlcli("rounds", "verify", run)
    assert tlcli.json("rounds", "prune", run, "--keep", "1")["removed"] == [2]
    assert not list(run.glob(".*"))


def test_classes_of_a_rolled_back_round_are_introduced_when_they_come_back(
    tlcli: CommandLine, run: Path, pictures: Path, tmp_path: Path
) -> None:
    tlcli("extend-classes", run, pictures / "second")
    tlcli("rounds", "rollback", run)
    tlcli("extend-classes", run, tiny.draw(tmp_path / "plum", ["plum"]))
    tlcli("extend-classes", run, pictures / "second")
    manifest = json.loads((run / "rounds" / "0005" / "round.json").read_text("utf-8"))
    introduced = {entry["name"]: entry["introduced_in_round"] for entry in manifest["classes"]}
    assert introduced == {"apple": 1, "leaf": 1, "sky": 1, "plum": 4, "sun": 5}
    assert manifest["parent"] == 4
