"""What `doctor` found, as text: drawn from its JSON object."""

from collections.abc import Iterator
from typing import Any

from tlcli.reports.tables import byte_text, table

Json = dict[str, Any]


def diagnosis_text(content: Json) -> str:
    """Where it runs, what is installed, and the steps of the smoke run."""
    steps = [
        (
            "ok" if step["passed"] else "FAILED",
            step["name"],
            f"{step['seconds']:.1f}",
            step["detail"],
        )
        for step in content["smoke"]
    ]
    verdict = "Everything works." if content["passed"] else "The last step failed."
    return "\n\n".join(
        (
            "\n".join(f"{name:13}{value}" for name, value in _facts(content)),
            table(("", "step", "seconds", "what came out"), steps),
            verdict,
        )
    )


def _facts(content: Json) -> Iterator[tuple[str, str]]:
    memory = byte_text(content["memory_bytes"])
    yield "machine", f"{content['platform']}, {content['processors']} processors, {memory}"
    instructions = " ".join(content["instructions"]) or "instruction sets unknown"
    yield "processor", f"{content['processor']} ({instructions})"
    for library in content["blas"]:
        yield "blas", library
    yield "python", content["python"]
    yield "libraries", ", ".join(f"{name} {text}" for name, text in content["versions"].items())
    missing = [name for name, here in content["extras"].items() if not here]
    yield "extras", f"not installed: {', '.join(missing)}" if missing else "all installed"
    for engine in content["engines"]:
        devices = ", ".join(f"{name} ({text})" for name, text in engine["devices"].items())
        yield engine["name"], engine["error"] or devices
    yield "weights here", ", ".join(content["weights_here"]) or "none"
    for folder in content["folders"]:
        free = byte_text(folder["free_bytes"])
        state = f"{free} free" if folder["writable"] else "cannot be written"
        yield f"{folder['name']}", f"{folder['path']}, {state}"
