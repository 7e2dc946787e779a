"""An evaluation as JUnit XML, which every CI server reads: a test case for every gate."""

import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tlcli import files
from tlcli.reports.evaluation import figures
from tlcli.reports.evaluation.text import headline_text
from tlcli.reports.html import clean

Json = dict[str, Any]


def write_junit(content: Json, path: Path) -> None:
    """Write the gates as test cases; equal content gives equal bytes.

    Args:
        content: what `evaluate --json` prints.
        path: a file that is there is replaced, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    with files.published(path) as stream:
        stream.write(junit(content))


def junit(content: Json) -> bytes:
    """One suite; without gates its one case is that the evaluation was made."""
    gates = content["gates"] or [{"name": "evaluation", "passed": True}]
    failures = sum(not gate["passed"] for gate in gates)
    counts = {"tests": len(gates), "failures": failures, "errors": 0}
    attributes = {name: str(count) for name, count in counts.items()} | {"time": "0"}
    name = {"name": clean(f"tlcli evaluate {figures.title(content)}")}
    root = ElementTree.Element("testsuites", name | attributes)
    suite = ElementTree.SubElement(root, "testsuite", name | attributes | {"skipped": "0"})
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in _properties(content):
        ElementTree.SubElement(properties, "property", {"name": key, "value": clean(value)})
    for gate in gates:
        _case(suite, gate)
    ElementTree.SubElement(suite, "system-out").text = clean(headline_text(content))
    ElementTree.indent(root)
    stream = io.BytesIO()
    ElementTree.ElementTree(root).write(stream, encoding="utf-8", xml_declaration=True)
    return stream.getvalue() + b"\n"


def _properties(content: Json) -> list[tuple[str, str]]:
    """Every headline figure that is known, as a number, with its interval; and what was used."""
    rows = []
    for key, _, _ in figures.HEADLINE:
        if content[key] is not None:
            rows.append((key, str(content[key])))
        if (ends := content["intervals"].get(key)) is not None:
            rows += [(f"{key}_low", str(ends[0])), (f"{key}_high", str(ends[1]))]
    card = content["card"]
    used = ("backbone", "backbone_fingerprint", "memory_sha256", "data", "data_sha256")
    rows += [(key, str(card[key])) for key in used if card[key] is not None]
    return [
        ("images", str(content["images"])),
        *((f"learned_{what}", str(count)) for what, count in content["learned"].items()),
        ("level", str(content["intervals"]["level"])),
        *rows,
    ]


def _case(suite: ElementTree.Element, gate: Json) -> None:
    attributes = {"classname": "tlcli.evaluate", "name": gate["name"], "time": "0"}
    case = ElementTree.SubElement(suite, "testcase", attributes)
    if not gate["passed"]:
        message = clean(figures.gate_text(gate))
        failure = ElementTree.SubElement(case, "failure", {"message": message, "type": "gate"})
        failure.text = message
