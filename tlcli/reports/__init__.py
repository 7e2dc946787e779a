"""Results → what people read: text for the terminal, HTML, Markdown, JUnit.

tables       the pieces of text: tables, shares, bytes, counts, times
html         the pieces of a page
svg          figures → SVG; needs matplotlib
files        what is refused before any work; a format for each suffix
evaluation   figures, text, page, markdown, plots, confusion, junit of `evaluate`
comparison   text and page of `compare`
result       what the commands that make a round answer
rankings     how well descriptors find images of a class: the rows
curves       the epochs of a training → PNG
predictions  an answer of `predict` → a line
rounds, backbones, cache, data, demo, doctor, export, index, moments, retrieval, triage
             the answer of the command of this name
"""

from tlcli.reports.backbones import backbones_text, blocks_text
from tlcli.reports.cache import cache_text, cleared_text
from tlcli.reports.comparison.page import write_comparison
from tlcli.reports.comparison.text import comparison_text
from tlcli.reports.curves import curves
from tlcli.reports.data import data_text, division_text
from tlcli.reports.demo import demo_text
from tlcli.reports.doctor import diagnosis_text
from tlcli.reports.evaluation.junit import write_junit
from tlcli.reports.evaluation.text import evaluation_text
from tlcli.reports.export import export_text
from tlcli.reports.files import (
    require_evaluation_report,
    require_file,
    require_page,
    require_report,
    write_evaluation,
)
from tlcli.reports.index import (
    FOUND_LINES,
    PAIR_LINES,
    index_changed_text,
    index_checked_text,
    index_stats_text,
)
from tlcli.reports.moments import moments_text
from tlcli.reports.predictions import PREDICTION_LINES
from tlcli.reports.result import round_text
from tlcli.reports.retrieval import retrieval_text
from tlcli.reports.rounds import (
    details_text,
    pruned_text,
    rollback_text,
    rounds_text,
    verification_text,
)
from tlcli.reports.tables import percent, table
from tlcli.reports.triage import triage_text, write_triage

__all__ = [
    "FOUND_LINES",
    "PAIR_LINES",
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
    "division_text",
    "evaluation_text",
    "export_text",
    "index_changed_text",
    "index_checked_text",
    "index_stats_text",
    "moments_text",
    "percent",
    "pruned_text",
    "require_evaluation_report",
    "require_file",
    "require_page",
    "require_report",
    "retrieval_text",
    "rollback_text",
    "round_text",
    "rounds_text",
    "table",
    "triage_text",
    "verification_text",
    "write_comparison",
    "write_evaluation",
    "write_junit",
    "write_triage",
]
