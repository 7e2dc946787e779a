"""The pieces of a page: one file that opens offline, loads nothing, and is escaped throughout."""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from html import escape
from itertools import starmap

from tlcli.reports.tables import Cell, cell_text

_STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 76rem; margin: 0 auto; padding: 1rem; overflow-wrap: anywhere }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.advice { border-left: 4px solid #0072b2; padding: .1rem 1rem; background: #f3f8fb }
pre { overflow-x: auto; margin: .5rem 0 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem; overflow-wrap: normal }
th, td { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid #ddd; text-align: left;
  white-space: nowrap; font-variant-numeric: tabular-nums }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem }
figure { margin: 0; min-width: 0; flex: 0 1 36rem }
figcaption { font-weight: 600; font-size: .95rem }
svg { width: 100%; height: auto; display: block }
.small { font-size: .85rem; color: #444 }
"""
_SORTABLE_STYLE = """
.number { text-align: right }
th button { font: inherit; color: inherit; background: none; border: 0; padding: 0;
  cursor: pointer }
th button::after { content: " ↕"; color: #767676 }
th[aria-sort=ascending] button::after { content: " ▲"; color: inherit }
th[aria-sort=descending] button::after { content: " ▼"; color: inherit }
"""
_SORTING = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const compare = (a, b) => a.localeCompare(b, "en", {numeric: true});
  const sort = (index) => {
    const turn = heads[index].getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const value = (row) => row.cells[index].dataset.v;
    const text = (row) => row.cells[index].textContent;
    const order = (a, b) => {
      const [left, right] = [value(a), value(b)];
      if (left === undefined) return turn * compare(text(a), text(b));
      if (left === "" || right === "") return (left === "") - (right === "");
      return turn * (left - right);
    };
    body.append(...[...body.rows].sort(order));
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[index].setAttribute("aria-sort", turn > 0 ? "ascending" : "descending");
  };
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(index));
    head.replaceChildren(button);
  });
}
"""
"""Makes every head of a sortable table a button; figures that are unknown always come last."""

_NOT_SHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(text: str) -> str:
    """The text with � for every character that HTML, XML or UTF-8 cannot hold."""
    return _NOT_SHOWN.sub("\ufffd", text)


def safe(text: object) -> str:
    """The text as it stands in an element or in a quoted attribute."""
    return escape(clean(str(text)))


def document(title: str, parts: Iterable[str], style: str = "", *, sorting: bool = False) -> str:
    """A page; its policy forbids the browser to load anything or to run any other script.

    Args:
        title: plain text, also the first heading.
        parts: HTML, escaped.
        style: more CSS.
        sorting: whether it has sortable tables.
    """
    script = f"<script>{_SORTING}</script>\n" if sorting else ""
    more = _SORTABLE_STYLE if sorting else ""
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(sorting)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{safe(title)}</title>\n<style>{_STYLE}{more}{style}</style>\n</head>\n<body>",
            f"<h1>{safe(title)}</h1>",
            *parts,
            f"{script}</body>\n</html>\n",
        )
    )


def _policy(sorting: bool) -> str:
    digest = base64.b64encode(hashlib.sha256(_SORTING.encode()).digest()).decode()
    script = f"'sha256-{digest}'" if sorting else "'none'"
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {script}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts, in a container that scrolls sideways where it must."""
    head = "".join(f"<th>{safe(name)}</th>" for name in columns)
    body = "\n".join(
        f"<tr>{''.join(f'<td>{safe(cell.strip())}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def sortable(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table that a click on a column's head sorts; shares from 0 to 1 are shown as per cent."""
    numeric = [
        not any(isinstance(value, str) for value in column) for column in zip(*rows, strict=True)
    ]
    head = "".join(
        f'<th scope="col"{_CLASS[number]}>{safe(name)}</th>'
        for name, number in zip(columns, numeric, strict=True)
    )
    body = "\n".join(
        f"<tr>{''.join(starmap(_sortable_cell, zip(row, numeric, strict=True)))}</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table class="sortable">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


_CLASS = {True: ' class="number"', False: ""}


def _sortable_cell(value: Cell, number: bool) -> str:
    if not number:
        return f"<td>{safe(cell_text(value))}</td>"
    key = "" if value is None else f"{value:.10g}"
    return f'<td class="number" data-v="{key}">{safe(cell_text(value))}</td>'


def figure(title: str, drawing: str) -> str:
    """A drawing under its title."""
    return f"<figure><figcaption>{safe(title)}</figcaption>\n{drawing}</figure>"
