"""What is in a data folder, as text."""

from tlcli.images import DataReport
from tlcli.reports.tables import table


def data_text(report: DataReport) -> str:
    """What is in a data folder, and what is wrong with it."""
    lines = [
        f"{report.images} images in {len(report.classes)} classes, {report.duplicates} duplicates, "
        f"{len(report.skipped)} unusable, {report.ignored} other files",
    ]
    for name, extent in (("width", report.width), ("height", report.height)):
        if extent is not None:
            lines.append(f"{name} {extent.minimum} to {extent.maximum}, median {extent.median:g}")
    lines.append("formats " + ", ".join(f"{name} {n}" for name, n in report.formats.items()))
    lines += [f"problem: {problem}" for problem in report.problems] or ["no problem found"]
    return "\n".join(lines) + "\n\n" + table(("class", "images"), list(report.classes.items()))
