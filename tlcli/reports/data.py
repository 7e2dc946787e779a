"""What is in a data folder, and how it is divided, as text."""

from tlcli.images import DataReport
from tlcli.reports.backbones import Json
from tlcli.reports.tables import counted, table

SHOWN = 10
"""Reasons that are listed."""


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
    lines += [f"hint: {hint}" for hint in report.near_copies.hints]
    lines += [
        f"unusable: {counted(reason.files, 'file', 'files')}, as {reason.first}: {reason.reason}"
        for reason in report.reasons[:SHOWN]
    ]
    lines += [
        f"passed over: {entry.to_text()}, as {entry.first}" for entry in report.passed_over[:SHOWN]
    ]
    if len(report.reasons) > SHOWN:
        lines.append(f"unusable for other reasons, see --json: {len(report.reasons) - SHOWN}")
    return "\n".join(lines) + "\n\n" + table(("class", "images"), list(report.classes.items()))


def division_text(content: Json) -> str:
    """Which way the images of DATA go, and what is left out."""
    lines = [
        f"{content['data']}: {counted(content['learn'], 'image', 'images')} to learn, "
        f"{content['held_out']} held out, {content['learned_before']} learned before, "
        f"{content['tested']} in --test already",
    ]
    if content["duplicates"]:
        lines.append(counted(content["duplicates"], "further copy", "further copies"))
    if content["tables"]:
        lines.append(f"written: {', '.join(content['tables'])}")
    if content["moved"] is not None:
        lines.append(f"{counted(content['moved'], 'file', 'files')} moved")
    lines += [f"left out: {skip['path']}: {skip['reason']}" for skip in content["skipped"]]
    rows = [(name, part["learn"], part["held_out"]) for name, part in content["classes"].items()]
    if rows:
        lines += ["", table(("class", "to learn", "held out"), rows)]
    return "\n".join(lines)
