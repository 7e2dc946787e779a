"""An evaluation as one HTML file that opens offline: figures, plots, mistakes, model card."""

import base64
from collections.abc import Sequence
from typing import Any

from tlcli.errors import BadImage
from tlcli.images import thumbnail
from tlcli.reports import html
from tlcli.reports.evaluation import confusion, figures, plots
from tlcli.reports.html import safe
from tlcli.reports.tables import Cell, cell_text, percent
from tlcli.urls import place

Json = dict[str, Any]

MOST_PAIRS = 30

MOST_LEFT_OUT = 100

THUMBNAIL_PIXELS = 160

_STYLE = """
.failed { border-left: 4px solid #b00020; padding: .1rem 1rem; background: #fdf3f4 }
.figures td:last-child { white-space: normal; min-width: 14rem; color: #444 }
.card td { white-space: normal; vertical-align: top }
.card td:first-child { overflow-wrap: anywhere; min-width: 8rem }
.card td:last-child { overflow-wrap: anywhere }
.mistakes { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr));
  gap: 1.2rem 1rem }
.mistakes figure { break-inside: avoid }
.mistakes figcaption { font-weight: 400; font-size: .85rem }
.mistakes img, .gone { display: block; height: 160px; max-width: 100%; object-fit: contain;
  object-position: left bottom }
.gone { width: 100%; background: #f2f2f2; color: #444; font-size: .85rem; box-sizing: border-box;
  padding: .5rem; overflow: hidden }
.share { white-space: nowrap }
@media (max-width: 40rem) { .figures thead { display: none }
  .figures tr { display: flex; flex-wrap: wrap; border-bottom: 1px solid #ddd; padding: .3rem 0 }
  .figures td { border: 0; padding: 0 .7rem 0 0 } .figures td:first-child { font-weight: 600 }
  .figures td:first-child, .figures td:last-child { flex-basis: 100% } }
@media print { :root { font-size: 12px } body { max-width: none; padding: 0; font-size: 12px }
  h2 { break-after: avoid } figure, tr { break-inside: avoid }
  .scroll { overflow: visible } th button::after { content: "" !important } }
"""


def evaluation_page(content: Json) -> str:
    """The page; equal content and equal images give equal text."""
    return html.document(
        figures.title(content),
        (
            f"<p>{safe(figures.measured_on(content))}</p>",
            *_gates(content),
            _headline(content),
            *_beside(content),
            *_against(content),
            _plots(content),
            *_rounds(content),
            *_classes(content),
            *_pairs(content),
            "<h2>Confusion matrix</h2>",
            confusion.matrix(content),
            *_mistakes(content),
            *_card(content),
            *_left_out(content),
        ),
        _STYLE + confusion.STYLE,
        sorting=True,
    )


def _gates(content: Json) -> list[str]:
    """The gates that failed in a box, then those that passed."""
    failed = [gate for gate in content["gates"] if not gate["passed"]]
    passed = [gate for gate in content["gates"] if gate["passed"]]
    box = "\n".join(f"<p>Failed: {safe(figures.gate_text(gate))}.</p>" for gate in failed)
    return [
        *([f'<div class="failed" role="alert">\n{box}\n</div>'] if failed else []),
        *(f"<p>Passed: {safe(figures.gate_text(gate))}.</p>" for gate in passed),
    ]


def _headline(content: Json) -> str:
    level = f"{100 * content['intervals']['level']:g} % interval"
    rows = [
        (entry.name, entry.value, entry.interval or "–", entry.meaning)
        for entry in figures.headline(content)
    ]
    drawn = html.table(("", "value", level, "what it means"), rows)
    legend = f'<p class="small">{safe(figures.interval_method(content))}</p>'
    return f'<div class="figures">{drawn}</div>\n{legend}'


def _beside(content: Json) -> list[str]:
    beside = content["beside"]
    return [f"<p>{safe(figures.beside_text(beside))}</p>"] if beside else []


def _against(content: Json) -> list[str]:
    against = content["against"]
    if against is None:
        return []
    rows = [tuple(map(str, row)) for row in figures.against_rows(against)]
    return [
        "<h2>Against another run</h2>",
        f"<p>{safe(figures.against_text(against))}</p>",
        html.table(figures.AGAINST_COLUMNS, rows),
        '<p class="small">Images. A small p means that a difference this large would be rare if '
        "both were equally good.</p>",
    ]


def _plots(content: Json) -> str:
    drawn = "\n".join(html.figure(title, svg) for title, svg in plots.drawings(content))
    return (
        f'<h2>Rounds and calibration</h2>\n<div class="plots">\n{drawn}\n</div>\n'
        '<p class="small">Stated probability: bars below the dashed line are answers that are '
        "more certain than right, bars above it the contrary; bars of few images say little.</p>"
    )


def _rounds(content: Json) -> list[str]:
    parts = [
        "<h2>Accuracy after each round</h2>",
        _cells(*figures.round_matrix(content)),
        f'<p class="small">{safe(figures.MATRIX_LEGEND)}</p>',
    ]
    if rows := figures.every_round_rows(content):
        parts += ["<h2>All figures of every round</h2>", _cells(figures.EVERY_ROUND, rows)]
    return parts


def _cells(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    return html.table(columns, [[cell_text(cell) for cell in row] for row in rows])


def _classes(content: Json) -> list[str]:
    keys = ("class", "introduced_in_round", "images", "recall", "precision", "f1")
    columns = ("class", "since round", "images", "accuracy (recall)", "precision", "F1")
    rows = [[entry[key] for key in keys] for entry in content["per_class"]]
    return [
        "<h2>Classes</h2>",
        html.sortable(columns, rows),
        '<p class="small">accuracy (recall): share of the images of the class that are recognized. '
        "precision: share of the answers with this class that are right. F1: their harmonic mean. "
        "–: no test image.</p>",
    ]


def _pairs(content: Json) -> list[str]:
    pairs = figures.confused_pairs(content, MOST_PAIRS)
    heading = "<h2>Most confused pairs</h2>"
    if not pairs:
        return [heading, "<p>No image is mistaken.</p>"]
    rows = [[pair[key] for key in ("class", "predicted", "images", "share")] for pair in pairs]
    columns = ("true class", "predicted", "images", "share of the true class")
    return [heading, html.sortable(columns, rows)]


def _mistakes(content: Json) -> list[str]:
    if not content["mistakes"]:
        return []
    drawn = "\n".join(map(_mistake, content["mistakes"]))
    return [
        "<h2>Worst mistakes</h2>",
        "<p>Wrong answers that were given the highest probability. Look for wrong labels and for "
        "images that fit two classes.</p>",
        f'<div class="mistakes">\n{drawn}\n</div>',
    ]


def _mistake(entry: Json) -> str:
    return (
        f"<figure>{_picture(entry)}<figcaption>true: <b>{safe(entry['class'])}</b> "
        f"{_share(entry['probability_of_class'])}<br>predicted: "
        f"<b>{safe(entry['predicted'])}</b> {_share(entry['probability'])}<br>"
        f'<span class="small">{safe(entry["path"])}</span></figcaption></figure>'
    )


def _share(probability: float) -> str:
    return f'<span class="share">({percent(probability)})</span>'


def _picture(entry: Json) -> str:
    """The image itself; the reason in its place where it cannot be read any more."""
    try:
        encoded = base64.b64encode(thumbnail(place(entry["path"]), THUMBNAIL_PIXELS)).decode()
    except BadImage as error:
        return f'<div class="gone">not shown: {safe(error)}</div>'
    tip = safe(f"{entry['class']} taken for {entry['predicted']}")
    return f'<img alt="{tip}" src="data:image/jpeg;base64,{encoded}">'


def _card(content: Json) -> list[str]:
    return [
        "<h2>Model card</h2>",
        f'<div class="card">{html.table(("", ""), figures.card_rows(content))}</div>',
    ]


def _left_out(content: Json) -> list[str]:
    skipped = content["skipped"]
    if not skipped:
        return []
    rows = [(entry["path"], entry["reason"]) for entry in skipped[:MOST_LEFT_OUT]]
    return [
        f"<h2>Images that were left out: {len(skipped)}</h2>",
        html.table(("path", "reason"), rows),
    ]
