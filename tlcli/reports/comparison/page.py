"""A comparison as one HTML file that opens offline, with its plots inside."""

from pathlib import Path
from typing import Any

from tlcli import files
from tlcli.reports import html, svg
from tlcli.reports.comparison import text
from tlcli.reports.html import safe

Json = dict[str, Any]


def write_comparison(content: Json, path: Path) -> None:
    """Write the report of a comparison; equal content gives equal bytes.

    Args:
        content: what `compare --json` prints.
        path: a file that is there is replaced, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    text = comparison_page(content)
    with files.published(path) as stream:
        stream.write(text.encode())


def comparison_page(content: Json) -> str:
    """The page: which method to take, the table, the plots, and what was in the rounds."""
    return html.document(
        f"tlcli compare {content['data']}",
        (
            f"<p>{safe(text.headline(content))}</p>",
            _advice(content),
            "<h2>All methods</h2>",
            html.table(text.columns(content), text.table_rows(content)),
            f'<p class="small">{safe(text.LEGEND)}</p>',
            *(f"<p>{safe(line)}</p>" for line in text.left_out(content)),
            *_all_plots(content),
            "<h2>Accuracy after each round, %</h2>",
            html.table(*_by_round(content)),
            "<h2>Classes of each round</h2>",
            _rounds(content),
        ),
    )


def _advice(content: Json) -> str:
    sentences = "\n".join(f"<p>{safe(line)}</p>" for line in text.advice(content))
    commands = safe("\n".join(text.commands(content)))
    return f'<div class="advice">\n{sentences}\n<pre>{commands}</pre>\n</div>'


def _all_plots(content: Json) -> list[str]:
    """The plots of each backbone."""
    parts = []
    for name in text.backbones_of(content):
        methods = [entry for entry in content["methods"] if text.backbone_of(entry) == name]
        drawn = "\n".join(html.figure(title, svg) for title, svg in svg.drawings(content, methods))
        parts.append(f'<h2>{safe(name)}</h2>\n<div class="plots">\n{drawn}\n</div>')
    return [
        *parts,
        '<p class="small">Bands and whiskers: ± the standard deviation over the folds. Dashed: '
        "needs old images.</p>",
    ]


def _by_round(content: Json) -> tuple[list[str], list[list[str]]]:
    numbers = range(1, len(content["rounds"]) + 1)
    rows = [
        [
            text.backbone_of(entry),
            svg.label(entry),
            *(text.spread_text(after["accuracy"]) for after in entry["rounds"]),
        ]
        for entry in content["methods"]
    ]
    return ["backbone", "method", *(f"after round {number}" for number in numbers)], rows


def _rounds(content: Json) -> str:
    items = "\n".join(f"<li>{safe(', '.join(names))}</li>" for names in content["rounds"])
    return f"<ol>\n{items}\n</ol>"
