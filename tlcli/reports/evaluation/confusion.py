"""The confusion matrix as an HTML table that scrolls in its own box."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tlcli.reports.html import safe

Json = dict[str, Any]

MOST_CLASSES = 150
"""Above this, the matrix shows the classes that are confused alone."""

LEVELS = 5

STYLE = """
.matrix { overflow: auto; max-height: 85vh; border: 1px solid #ddd; width: fit-content;
  max-width: 100% }
.matrix table { border-collapse: separate; border-spacing: 0; font-size: .75rem }
.matrix th, .matrix td { padding: 0 .1rem; height: 1.35rem; border: 0; text-align: center;
  line-height: 1.2 }
.matrix td { min-width: 1rem; border-right: 1px solid #eee; border-bottom: 1px solid #eee }
.matrix th { font-weight: 400; background: #fff; position: sticky; z-index: 1 }
.matrix span { display: block; overflow: hidden; text-overflow: ellipsis }
.matrix thead th { top: 0; vertical-align: bottom; border-bottom: 1px solid #999 }
.matrix thead span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 9rem;
  margin: auto; padding: .2rem 0 }
.matrix tbody th { left: 0; text-align: right; padding-right: .3rem;
  border-right: 1px solid #999 }
.matrix tbody span { max-width: 9rem }
.matrix thead th:first-child { left: 0; z-index: 2; border-right: 1px solid #999 }
.matrix tr:hover > * { border-bottom-color: #000 }
.r1, .r2, .r3, .r4, .r5, .w1, .w2, .w3, .w4, .w5 { print-color-adjust: exact;
  -webkit-print-color-adjust: exact }
.r1 { background: #e6f1f8 } .r2 { background: #bfdcec } .r3 { background: #7fb8d8 }
.r4 { background: #0072b2; color: #fff } .r5 { background: #00527f; color: #fff }
.w1 { background: #fdeadd } .w2 { background: #f9cdb0 } .w3 { background: #f0a070 }
.w4 { background: #c85300; color: #fff } .w5 { background: #8f3b00; color: #fff }
@media (max-width: 40rem) { .matrix thead span { max-height: 6rem }
  .matrix tbody span { max-width: 6rem } }
@media print { .matrix { overflow: visible; max-height: none; border: 0; break-inside: avoid }
  .matrix table { font-size: min(9px, 50vw / (var(--classes) + 10)) }
  .matrix th, .matrix td { position: static; min-width: 0;
    height: 1.6em; padding: 0 .1em } .matrix span { padding: 0 } }
"""


def matrix(content: Json) -> str:
    """Rows are true classes, columns predicted ones; a cell is coloured by its share of the row."""
    shown = shown_classes(content)
    cells: dict[str, dict[str, int]] = {}
    for cell in content["confusion"]:
        cells.setdefault(cell["class"], {})[cell["predicted"]] = cell["images"]
    heads = "".join(
        f'<th scope="col" title="predicted: {safe(name)}"><span>{safe(name)}</span></th>'
        for name in shown
    )
    rows = "\n".join(_row(name, cells.get(name, {}), shown) for name in shown)
    return (
        f"<p>{_legend(content, shown)}</p>\n"
        f'<div class="matrix" style="--classes: {len(shown)}" tabindex="0" role="region" '
        'aria-label="confusion matrix">'
        f"<table>\n<thead><tr><th>true \\ predicted</th>{heads}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def shown_classes(content: Json) -> list[str]:
    """All classes; of very many those that are confused, of those the ones confused most."""
    names = [entry["class"] for entry in content["per_class"]]
    if len(names) <= MOST_CLASSES:
        return names
    wrong: Counter[str] = Counter()
    for cell in content["confusion"]:
        if cell["class"] != cell["predicted"]:
            wrong[cell["class"]] += cell["images"]
            wrong[cell["predicted"]] += cell["images"]
    chosen = set(sorted(wrong, key=lambda name: (-wrong[name], name))[:MOST_CLASSES])
    return [name for name in names if name in chosen]


def _legend(content: Json, shown: Sequence[str]) -> str:
    text = (
        "Rows: true class. Columns: answer. Blue is right, orange is wrong; the darker, the "
        "larger the share of the row. Empty: no image."
    )
    if len(shown) < len(content["per_class"]):
        text += (
            f" Of {len(content['per_class'])} classes only {len(shown)} are shown: those that are "
            f"confused with another, at most {MOST_CLASSES}. The table above and the answer with "
            "<code>--json</code> hold every class."
        )
    return text


def _row(true: str, answers: dict[str, int], shown: Sequence[str]) -> str:
    total = sum(answers.values())
    cells = "".join(_cell(true, name, answers.get(name, 0), total) for name in shown)
    return (
        f'<tr><th scope="row" title="true: {safe(true)}"><span>{safe(true)}</span></th>{cells}</tr>'
    )


def _cell(true: str, predicted: str, images: int, total: int) -> str:
    if not images:
        return "<td></td>"
    level = max(1, -(-LEVELS * images // total))
    kind = "r" if true == predicted else "w"
    tip = f"true: {true}, predicted: {predicted}, {images} of {total} images"
    return f'<td class="{kind}{level}" title="{safe(tip)}">{images}</td>'
