"""Where reports go: what is refused before any work, and the format that a suffix stands for."""

from pathlib import Path
from typing import Any

from tlcli import files
from tlcli.errors import UsageError
from tlcli.reports import svg
from tlcli.reports.evaluation.markdown import evaluation_markdown
from tlcli.reports.evaluation.page import evaluation_page

Json = dict[str, Any]

_EVALUATIONS = {".html": evaluation_page, ".md": evaluation_markdown}
"""The suffix of a report of `evaluate`, and what draws it."""


def require_report(path: Path) -> None:
    """Refuse, before any work, a report with plots that cannot be drawn or written.

    Raises:
        UsageError: matplotlib is not installed, or the path is a folder.
        StorageError: there is no folder for it, or it may not be written to.
    """
    svg.require()
    require_file(path, "--report")


def require_page(path: Path) -> None:
    """Refuse, before any work, a page that is none by its name or cannot be written.

    Raises:
        UsageError: its suffix is not .html, or it is a folder.
        StorageError: there is no folder for it, or it may not be written to.
    """
    if path.suffix.lower() != ".html":
        raise UsageError(
            f"Expected a file that ends in .html. Received: report={str(path)!r}. Rename it."
        )
    require_file(path, "--report")


def require_evaluation_report(path: Path) -> None:
    """Refuse, before any work, a report of `evaluate` that cannot be drawn or written.

    Raises:
        UsageError: its suffix stands for no format, matplotlib is not installed but needed, or the
            path is a folder.
        StorageError: there is no folder for it, or it may not be written to.
    """
    if _suffix(path) == ".html":
        svg.require()
    require_file(path, "--report")


def require_file(path: Path, option: str) -> None:
    """Refuse a path that is a folder or has no folder that may be written to.

    Raises:
        UsageError: it is a folder, a device or a pipe.
        StorageError: there is no folder for it, or it may not be written to.
    """
    if path.is_dir():
        raise UsageError(
            f"Expected a file for {option}. Received: {path} is a folder. Choose another."
        )
    if path.exists() and not path.is_file():
        raise UsageError(
            f"Expected a file for {option}. Received: {path} is a device or pipe. Choose another."
        )
    files.require_folder(path, option)


def write_evaluation(content: Json, path: Path) -> None:
    """Write the report of an evaluation in the format of its suffix; equal content, equal bytes.

    Args:
        content: what `evaluate --json` prints.
        path: a file that is there is replaced, whole or not at all.

    Raises:
        UsageError: its suffix stands for no format.
        StorageError: it cannot be written.
    """
    text = _EVALUATIONS[_suffix(path)](content)
    with files.written(path.resolve()) as stream:
        stream.write(text.encode())


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in _EVALUATIONS:
        known = " or ".join(_EVALUATIONS)
        raise UsageError(f"Expected a report that ends in {known}. Received: {path}. Rename it.")
    return suffix
