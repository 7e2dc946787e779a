"""A comparison as one HTML file that opens offline, with its plots inside."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tlcli import files
from tlcli.errors import UsageError
from tlcli.reports import comparison, plots

Json = dict[str, Any]

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


def require_report(path: Path) -> None:
    """Refuse, before any work, a report that cannot be drawn or written.

    Raises:
        UsageError: matplotlib is not installed, or the path is a folder.
        StorageError: there is no folder for it, or it may not be written to.
    """
    plots.require()
    if path.is_dir():
        raise UsageError(
            f"Expected a file for the report. Received: {path} is a folder. Choose another."
        )
    files.require_folder(path, "--report")


def write_comparison(content: Json, path: Path) -> None:
    """Write the report of a comparison; equal content gives equal bytes.

    Args:
        content: what `compare --json` prints.
        path: a file that is there is replaced, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    text = comparison_page(content)
    with files.written(path) as stream:
        stream.write(text.encode())


def comparison_page(content: Json) -> str:
    """The page: which method to take, the table, the plots, and what was in the rounds."""
    title = f"tlcli compare {content['data']}"
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f"<h1>{escape(title)}</h1>\n<p>{escape(comparison.headline(content))}</p>",
            _advice(content),
            "<h2>All methods</h2>",
            _table(comparison.columns(content), comparison.table_rows(content)),
            f'<p class="small">{escape(comparison.LEGEND)}</p>',
            *(f"<p>{escape(line)}</p>" for line in comparison.left_out(content)),
            *_all_plots(content),
            "<h2>Accuracy after each round, %</h2>",
            _table(*_by_round(content)),
            "<h2>Classes of each round</h2>",
            _rounds(content),
            "</body>\n</html>\n",
        )
    )


def _advice(content: Json) -> str:
    sentences = "\n".join(f"<p>{escape(line)}</p>" for line in comparison.advice(content))
    commands = escape("\n".join(comparison.commands(content)))
    return f'<div class="advice">\n{sentences}\n<pre>{commands}</pre>\n</div>'


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "\n".join(
        f"<tr>{''.join(f'<td>{escape(cell.strip())}</td>' for cell in row)}</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _all_plots(content: Json) -> list[str]:
    """The plots of each backbone."""
    parts = []
    for name in comparison.backbones_of(content):
        methods = [entry for entry in content["methods"] if entry["backbone"] == name]
        drawn = "\n".join(
            f"<figure><figcaption>{escape(title)}</figcaption>\n{svg}</figure>"
            for title, svg in plots.drawings(content, methods)
        )
        parts.append(f'<h2>{escape(name)}</h2>\n<div class="plots">\n{drawn}\n</div>')
    return [
        *parts,
        '<p class="small">Bands and whiskers: ± the standard deviation over the folds. Dashed: '
        "needs old images.</p>",
    ]


def _by_round(content: Json) -> tuple[list[str], list[list[str]]]:
    numbers = range(1, len(content["rounds"]) + 1)
    rows = [
        [
            entry["backbone"],
            plots.label(entry),
            *(comparison.spread_text(after["accuracy"]) for after in entry["rounds"]),
        ]
        for entry in content["methods"]
    ]
    return ["backbone", "method", *(f"after round {number}" for number in numbers)], rows


def _rounds(content: Json) -> str:
    items = "\n".join(f"<li>{escape(', '.join(names))}</li>" for names in content["rounds"])
    return f"<ol>\n{items}\n</ol>"
