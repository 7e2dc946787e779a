"""Results → what people read: text for the terminal, HTML, Markdown, JUnit.

tables               the pieces of text: tables, shares, bytes, JSON
rounds               a round that was published
history              the rounds on disk
text                 other short results
comparison           the table of `compare`, and which method to take
page                 the same as one HTML file with its plots inside
figures              what every report of an evaluation says, whatever its format
evaluation_text      an evaluation for the terminal
evaluation_page      the same as one HTML file, with thumbnails
evaluation_markdown  the same for a pull request
junit                its gates for a CI server
confusion            the confusion matrix in HTML
plots                figures → SVG, for `compare`; needs matplotlib
evaluation_plots     the plots of an evaluation
html                 the pieces of a page
writing              what is refused before any work; a format for each suffix
curves               the epochs of a training → PNG
diagnosis            what `doctor` found
predictions          an answer of `predict` → a line
"""

from tlcli.reports.comparison import comparison_text
from tlcli.reports.curves import curves
from tlcli.reports.diagnosis import diagnosis_text
from tlcli.reports.evaluation_text import evaluation_text
from tlcli.reports.history import (
    details_text,
    pruned_text,
    rollback_text,
    round_details,
    round_summary,
    rounds_text,
    verification_text,
)
from tlcli.reports.junit import write_junit
from tlcli.reports.page import write_comparison
from tlcli.reports.predictions import PREDICTION_LINES
from tlcli.reports.rounds import round_text
from tlcli.reports.tables import json_line, percent, table
from tlcli.reports.text import (
    backbones_text,
    blocks_text,
    cache_text,
    cleared_text,
    data_text,
    demo_text,
    export_text,
    moments_text,
)
from tlcli.reports.writing import (
    require_evaluation_report,
    require_file,
    require_report,
    write_evaluation,
)

__all__ = [
    "PREDICTION_LINES",
    "backbones_text",
    "blocks_text",
    "cache_text",
    "cleared_text",
    "comparison_text",
    "curves",
    "data_text",
    "demo_text",
    "details_text",
    "diagnosis_text",
    "evaluation_text",
    "export_text",
    "json_line",
    "moments_text",
    "percent",
    "pruned_text",
    "require_evaluation_report",
    "require_file",
    "require_report",
    "rollback_text",
    "round_details",
    "round_summary",
    "round_text",
    "rounds_text",
    "table",
    "verification_text",
    "write_comparison",
    "write_evaluation",
    "write_junit",
]
