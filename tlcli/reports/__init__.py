"""Results → what people read: text for the terminal, one HTML file for a comparison.

text        tables and short summaries
comparison  the table of `compare`, and which method to take
page        the same as one HTML file with its plots inside
plots       figures → SVG; needs matplotlib
curves      the epochs of a training → PNG
"""

from tlcli.reports.comparison import comparison_text
from tlcli.reports.curves import curves
from tlcli.reports.page import require_report, write_comparison
from tlcli.reports.text import (
    backbones_text,
    blocks_text,
    cache_text,
    cleared_text,
    data_text,
    demo_text,
    details_text,
    evaluation_text,
    export_text,
    moments_text,
    percent,
    pruned_text,
    rollback_text,
    round_details,
    round_summary,
    round_text,
    rounds_text,
    table,
    verification_text,
)

__all__ = [
    "backbones_text",
    "blocks_text",
    "cache_text",
    "cleared_text",
    "comparison_text",
    "curves",
    "data_text",
    "demo_text",
    "details_text",
    "evaluation_text",
    "export_text",
    "moments_text",
    "percent",
    "pruned_text",
    "require_report",
    "rollback_text",
    "round_details",
    "round_summary",
    "round_text",
    "rounds_text",
    "table",
    "verification_text",
    "write_comparison",
]
