"""The commands that show what is there, and the demo."""

import shutil
from pathlib import Path

from tests.conftest import CommandLine
from tlcli.backbones import BACKBONES


def test_backbones_lists_every_row_and_where_its_weights_are(tlcli: CommandLine) -> None:
    rows = tlcli.json("backbones")["backbones"]
    assert [row["name"] for row in rows] == list(BACKBONES)
    assert rows[0]["weights_here"] == "bundled"
    assert set(rows[0]) == {
        "name",
        "image_size",
        "smallest_image_size",
        "width",
        "parameters",
        "weights_here",
    }
    text = tlcli("backbones")
    assert all(name in text for name in BACKBONES)


def test_data_check_says_what_is_wrong(tlcli: CommandLine, pictures: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(pictures / "first", tmp_path / "data"))
    assert "no problem found" in tlcli("data", "check", data)
    shutil.copy(data / "apple" / "000.png", data / "leaf" / "copy.png")
    (data / "sky" / "broken.png").write_bytes(b"broken")
    report = tlcli.json("data", "check", data)
    assert report["classes"] == {"apple": 7, "leaf": 8, "sky": 8}
    assert report["conflicts"] == 2
    assert any("broken.png" in entry["path"] for entry in report["skipped"])
    assert "problem:" in tlcli("data", "check", data)


def test_the_demo_shows_that_merge_keeps_and_naive_forgets(
    tlcli: CommandLine, tmp_path: Path
) -> None:
    folder = tmp_path / "demo"
    content = tlcli.json("demo", "--out", folder)
    assert content["equals_joint_training"] is True
    last = {step["strategy"]: step for step in content["steps"] if step["round"] == 4}
    assert last["merge"]["first_seven"] > last["naive"]["first_seven"] + 0.3
    again = tlcli("demo", "--out", folder)
    assert "the same as after joint training" in again
    assert "tlcli evaluate" in again
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text").touch()
    assert "thesis" in tlcli.error(2, "demo", "--out", tmp_path / "thesis")
