"""The report of evaluate in a real browser, without a screen."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support import evaluations
from tests.support.evaluations import evaluation
from tlcli import reports

Json = dict[str, Any]

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome"),
]

WRAPPER = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe src="report.html" style="width:WIDTHpx;height:900px;border:0"></iframe><pre></pre><script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  const shown = (table, column) => [...table.tBodies[0].rows].map((r) => r.cells[column].innerText);
  const [classes, pairs] = page.querySelectorAll("table.sortable");
  const buttons = [...classes.querySelectorAll("th button")], orders = [];
  for (const column of [0, 3, 3]) {
    buttons[column].focus();
    page.activeElement.click();
    orders.push({
      first: shown(classes, 0), values: shown(classes, column),
      sorted: [...classes.tHead.rows[0].cells].map((head) => head.getAttribute("aria-sort")),
    });
  }
  const box = page.querySelector(".matrix"), cell = box.querySelector("tbody th");
  const before = cell.getBoundingClientRect(), head = box.querySelectorAll("thead th")[1];
  const top = head.getBoundingClientRect().top;
  box.scrollTo(300, 300);
  const result = {
    inner: frame.contentWindow.innerWidth, scroll: root.scrollWidth,
    body: page.body.scrollWidth, orders, pairs: shown(pairs, 0).length,
    moved: [box.scrollLeft, box.scrollTop],
    sticky: [cell.getBoundingClientRect().left - before.left,
             head.getBoundingClientRect().top - top],
    pictures: [...page.images].map((image) => image.naturalWidth),
    plots: [...page.querySelectorAll("svg")].map((svg) => svg.getBoundingClientRect().width),
  };
  document.querySelector("pre").textContent = JSON.stringify(result);
};
</script>"""


def asked(folder: Path, width: int) -> Json:
    """What the browser says of `report.html` in a window of a width in pixels."""
    (folder / "wrapper.html").write_text(WRAPPER.replace("WIDTH", str(width)), "utf-8")
    command = [
        *(str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *("--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"),
        *("--virtual-time-budget=10000", "--window-size=1400,1000", "--dump-dom"),
        (folder / "wrapper.html").as_uri(),
    ]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=120, text=True)
    found = re.search(r"<pre>(.*?)</pre>", answer.stdout, re.S)
    assert found and found[1], answer.stderr
    content: Json = json.loads(unescape(found[1]))
    return content


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("classes", [3, 51, 100])
def test_in_a_browser(tmp_path: Path, classes: int, width: int) -> None:
    Image.effect_noise((300, 200), 90).save(tmp_path / "noise.png")
    mistakes = [evaluations.mistake(tmp_path / name) for name in ("noise.png", "gone" * 50)]
    content = evaluation(
        classes, mistakes=mistakes, against=evaluations.AGAINST, gates=[evaluations.gate(False)]
    )
    content = evaluations.untested(evaluations.every_round(content), "class_001")
    content = evaluations.renamed(content, "class_002", "long_" * 30)
    reports.write_evaluation(content, tmp_path / "report.html")

    found = asked(tmp_path, width)
    assert found["inner"] == width
    assert found["scroll"] <= width and found["body"] <= width, "the page scrolls sideways"
    assert found["pictures"] == [160]
    assert len(found["plots"]) == 2 and all(200 < drawn < width for drawn in found["plots"])
    if classes == 100:
        assert min(found["moved"]) > 0 and found["sticky"] == [0, 0]

    by_name, rising, falling = found["orders"]
    assert by_name["first"] == sorted(by_name["first"])
    for order, column in ((by_name, 0), (rising, 3), (falling, 3)):
        wanted = "descending" if order is falling else "ascending"
        assert order["sorted"] == [wanted if place == column else None for place in range(6)]
        assert len(order["first"]) == classes
    for order in (rising, falling):
        assert order["values"][-1] == "–", "what is unknown comes last"
        values = [float(text.strip(" %")) for text in order["values"][:-1]]
        assert values == sorted(values, reverse=order is falling)
