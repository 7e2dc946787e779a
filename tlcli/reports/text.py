"""Results → text for people. What has a JSON form is drawn from it, so that the two agree."""

import io
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tlcli.images import DataReport
from tlcli.memory import bytes_by_part
from tlcli.runs import Round

Json = dict[str, Any]
Cell = str | int | float | None


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], title: str | None = None) -> str:
    """A plain table; numbers to the right, shares as per cent, what is unknown as –."""
    drawn = Table(box=SIMPLE, title=title, title_justify="left", pad_edge=False, show_edge=False)
    for index, name in enumerate(columns):
        numeric = all(not isinstance(row[index], str) for row in rows)
        drawn.add_column(Text(name), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell_text(value)) for value in row))
    console = Console(file=io.StringIO(), width=_width(), color_system=None)
    console.print(drawn)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def _width() -> int:
    return max(shutil.get_terminal_size((160, 24)).columns, 60)


def cell_text(value: Cell) -> str:
    """What stands in a cell: shares as per cent, – for what is unknown."""
    if value is None:
        return "–"
    return percent(value) if isinstance(value, float) else str(value)


def percent(share: float | None) -> str:
    """A share from 0 to 1 as per cent with one decimal; unknown where it is None."""
    return "unknown" if share is None else f"{100 * share:.1f} %"


def round_text(content: Json) -> str:
    """A round that was published, in a few lines."""
    images = content["images"]
    if not content["changed"]:
        return f"{content['run']}: nothing to do. {_unchanged(images, content['round'])}"
    lines = [
        f"{content['run']}: round {content['round']} ({_what(content)})",
        f"  classes     {len(content['classes'])}, new: {_new(content['new_classes'])}",
        f"  images      {_images(images)}",
        f"  validation  {_validation(content['validation'])}",
        f"  calibration {_calibration(content['calibration'])}",
        f"  memory      {_memory(content)}",
        f"  exact       {_exact(content['exact'])}",
        f"  seconds     {_seconds(content['seconds'])}",
    ]
    if content["training"]:
        lines.insert(3, f"  training    {_training(content['training'])}")
    if images["known_classes"]:
        lines.insert(2, f"  more of     {_new(images['known_classes'])}")
    if content["head_choice"]:
        lines += ["", _choice(content["head_choice"])]
    return "\n".join(lines)


def _training(training: Json) -> str:
    count = training["epochs"]
    before, after = (
        percent(training[name]) for name in ("validation_accuracy_before", "validation_accuracy")
    )
    text = (
        f"{count} epoch{'s' if count > 1 else ''}, the best is {training['best_epoch']}, held-out "
        f"accuracy {before} → {after}, lr {training['lr']:.2g}"
    )
    if training["drift"]:
        r2 = training["drift"]["r2"]
        known = "unknown" if r2 is None else f"{r2:.3f}"
        text += f"; images that are gone carried over with R² {known}"
    return text


def _unchanged(images: Json, number: int) -> str:
    learned = images["already_learned"]
    why = f"All {learned} images were learned before" if learned else "No image is concerned"
    return f"{why}; round {number} is as it was."


def _calibration(calibration: Json) -> str:
    text = f"temperature {calibration['temperature']:.3g}"
    if calibration["ece_before"] is None:
        return text
    before, after = (percent(calibration[name]) for name in ("ece_before", "ece_after"))
    return f"{text}, calibration error {before} → {after} on {calibration['images']} images"


def _memory(content: Json) -> str:
    digest = content["memory_sha256"]
    return f"{content['memory']}, sha256 {digest[:16]}…" if digest else "none"


def _choice(candidates: Sequence[Json]) -> str:
    keys = ("head", "mean_class_accuracy", "accuracy")
    rows = [(*(entry[key] for key in keys), f"{entry['seconds']:.1f}") for entry in candidates]
    title = "heads in cross-validation, the best first:"
    return table(("head", "mean class accuracy", "accuracy", "seconds"), rows, title)


def _what(content: Json) -> str:
    strategy = f", strategy {content['strategy']}" if content["strategy"] else ""
    return f"{content['command']}{strategy}, head {content['head']}, backbone {content['backbone']}"


def _new(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "none"


def _images(images: Json) -> str:
    parts = [f"{images['used']} used ({images['from_cache']} from the cache)"]
    if images["removed"]:
        parts = [f"{images['removed']} forgotten"]
    for count, text in (
        (images["already_learned"], "learned before"),
        (images["duplicates"], "duplicates"),
        (len(images["skipped"]), "left out"),
    ):
        if count:
            parts.append(f"{count} {text}")
    return ", ".join(parts)


def _validation(validation: Json | None) -> str:
    if validation is None:
        return "none: there was no image to hold out (--test DATA measures it)"
    accuracy, old, new = (validation[name] for name in ("accuracy", "old_accuracy", "new_accuracy"))
    figures = [f"accuracy {percent(accuracy)}"] if accuracy is not None else []
    if old is not None:
        figures.append(f"old classes {percent(old)}")
    if new is not None and new != accuracy:
        figures.append(f"new classes {percent(new)}")
    if accuracy is None:
        figures.append("old classes unknown without their images (--test DATA measures them)")
    method = f"{validation['method']} on {validation['images']} images"
    return f"{', '.join(figures)} ({method})"


def _exact(exact: bool) -> str:
    return "yes: equals joint training on all images so far" if exact else "no"


def _seconds(seconds: dict[str, float]) -> str:
    shown = {name: value for name, value in seconds.items() if value >= 0.05 or name == "total"}
    return ", ".join(f"{name} {value:.1f}" for name, value in shown.items())


def moments_text(content: Json) -> str:
    """A file of moments, in a few lines."""
    shard = f", shard {content['shard']}" if content["shard"] else ""
    return "\n".join(
        (
            f"{content['path']}: {len(content['classes'])} classes{shard}, "
            f"{byte_text(content['bytes'])}",
            f"  images      {_images(content['images'])}",
            f"  memory      sha256 {content['memory_sha256'][:16]}…",
            f"  seconds     {_seconds(content['seconds'])}",
            f"Take it in with `tlcli extend-classes {content['run']} --moments {content['path']}`.",
        )
    )


def round_summary(entry: Round) -> Json:
    """What `rounds list` says of a round."""
    manifest = entry.manifest
    introduced = [c.name for c in manifest.classes if c.introduced_in_round == manifest.round]
    return {
        "round": manifest.round,
        "created": manifest.created,
        "command": manifest.command,
        "strategy": manifest.strategy,
        "head": manifest.head,
        "backbone": manifest.backbone,
        "classes": len(manifest.classes),
        "new_classes": introduced,
        "exact": manifest.exact,
        "memory": manifest.memory,
        "memory_sha256": manifest.memory_sha256,
        "bytes": sum(path.stat().st_size for path in entry.folder.iterdir()),
        "bytes_by_part": bytes_by_part(entry),
    }


def rounds_text(summaries: Sequence[Json]) -> str:
    """A line a round."""
    rows = [
        (
            entry["round"],
            entry["created"],
            entry["command"],
            entry["strategy"],
            entry["head"],
            entry["backbone"],
            entry["classes"],
            _new(entry["new_classes"], most=2),
            "yes" if entry["exact"] else "no",
            entry["memory"],
            byte_text(entry["bytes"]),
        )
        for entry in summaries
    ]
    columns = ("round", "created", "command", "strategy", "head", "backbone", "classes", "new")
    return table((*columns, "exact", "memory", "size"), rows)


def round_details(entry: Round) -> Json:
    """What `rounds show` says of a round: its manifest, and its report."""
    manifest = asdict(entry.manifest)
    report = json.loads(entry.file("report.json").read_text("utf-8"))
    measured = {name: report[name] for name in ("images", "validation", "calibration")}
    measured["training"] = report.get("training")
    return {**manifest, **measured, "bytes_by_part": bytes_by_part(entry)}


def details_text(details: Json) -> str:
    """The details of a round, a line each."""
    simple = {
        name: value for name, value in details.items() if not isinstance(value, dict | list | tuple)
    }
    lines = [f"{name:22}{value}" for name, value in simple.items()]
    for name in (
        *("config", "versions", "images", "training", "validation", "calibration"),
        *("head_options", "projection", "bytes_by_part"),
    ):
        lines += [name, *(f"  {key:28}{value}" for key, value in (details[name] or {}).items())]
    rows = [(entry["name"], entry["introduced_in_round"]) for entry in details["classes"]]
    return "\n".join(lines) + "\n\n" + table(("class", "since round"), rows)


def rollback_text(content: Json) -> str:
    """The round that counts now."""
    run, number, source = content["run"], content["round"], content["source"]
    if not content["changed"]:
        return f"{run}: nothing to do. Round {number} has the content of round {source}."
    return "\n".join(
        (
            f"{run}: round {number} (rollback, the content of round {source})",
            f"  classes     {len(content['classes'])}, back: {_new(content['new_classes'])}",
            f"  forgotten   {_new(content['forgotten_classes'])}",
            f"  memory      {_memory(content)}",
        )
    )


def pruned_text(content: Json) -> str:
    """What is left."""
    kept, gone = content["rounds"], len(content["removed"])
    left = f"rounds {kept[0]} to {kept[-1]} are" if len(kept) > 1 else f"round {kept[0]} is"
    if not gone:
        return f"{content['run']}: nothing to do, {left} all there is"
    removed, freed = _counted(gone, "round", "rounds"), byte_text(content["freed_bytes"])
    return f"{content['run']}: {removed} removed, {freed} freed; {left} left"


def verification_text(content: Json) -> str:
    """Whether a run is intact."""
    if content["damages"]:
        damages = (f"  {damage}" for damage in content["damages"])
        return "\n".join((f"{content['run']}: damaged", *damages))
    return f"{content['run']}: intact, {len(content['rounds'])} rounds"


def blocks_text(content: Json) -> str:
    """A line a block, numbered as `--unfreeze` counts them."""
    blocks = content["blocks"]
    rows = [
        (len(blocks) - place, block["name"], block["layers"][0], len(block["layers"]))
        for place, block in enumerate(blocks)
    ]
    return table(("--unfreeze", "block", "its first layer", "layers"), rows)


def backbones_text(rows: Sequence[Json]) -> str:
    """A line a backbone."""
    drawn = [
        (
            row["name"],
            row["image_size"],
            row["smallest_image_size"],
            row["width"],
            f"{row['parameters'] / 1e6:.1f} M",
            row["weights_here"] or "download",
        )
        for row in rows
    ]
    columns = ("backbone", "image size", "smallest", "width", "parameters", "ImageNet weights")
    return table(columns, drawn)


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


def cache_text(content: Json) -> str:
    """What the cache holds: a line each for features, backbones and the index of hashes."""
    rows: list[Sequence[Cell]] = [
        (
            "features",
            entry["backbone"],
            entry["image_size"],
            entry["engine"],
            entry["images"],
            byte_text(entry["bytes"]),
            entry["last_used"],
        )
        for entry in content["features"]
    ]
    rows += [
        ("backbone", entry["name"], None, None, None, byte_text(entry["bytes"]), entry["last_used"])
        for entry in content["backbones"]
    ]
    if content["hash_index_bytes"]:
        taken = byte_text(content["hash_index_bytes"])
        rows.append(("content hashes", None, None, None, None, taken, None))
    headline = (
        f"{content['folder']}: {byte_text(content['bytes'])} of {byte_text(content['limit'])}"
    )
    columns = ("kept", "backbone", "image size", "engine", "images", "size", "last used")
    return f"{headline}\n\n{table(columns, rows)}" if rows else f"{headline}, empty"


def cleared_text(content: Json) -> str:
    """What was deleted from the cache."""
    left = (
        f"; {_counted(content['left'], 'entry', 'entries')} could not be deleted"
        if content["left"]
        else ""
    )
    segments = _counted(content["segments"], "feature segment", "feature segments")
    backbones = _counted(content["backbones"], "backbone", "backbones")
    freed = byte_text(content["freed_bytes"])
    return f"{content['folder']}: freed {freed} ({segments}, {backbones}){left}"


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def byte_text(count: int) -> str:
    """Bytes for people, in powers of 1000."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def export_text(content: Json) -> str:
    """What was written where, and how close it is to the run."""
    size = content["image_size"]
    first = (
        f"{content['path']}: round {content['round']} of {content['run']}, "
        f"{len(content['classes'])} classes, {byte_text(content['bytes'])}"
    )
    return (
        f"{first}\n"
        f"  format  {content['format']}, {content['precision']}\n"
        f"  in      float32 images (n, {size}, {size}, 3), RGB, 0 to 255\n"
        f"  out     probabilities (n, {len(content['classes'])})\n"
        f"  check   {_parity(content)}"
    )


def _parity(content: Json) -> str:
    int8 = content["int8"]
    if int8 is None:
        return (
            f"run by its own runtime: logits differ by {content['check']['deviation']:.1e} at most"
        )
    agreement = f"{percent(int8['agreement'])} of {int8['images']} images labelled as by the run"
    if int8["accuracy"] is None:
        return agreement
    return (
        f"{agreement}, accuracy {percent(int8['accuracy'])} "
        f"(run: {percent(int8['run_accuracy'])}) on {int8['labelled']}"
    )


def demo_text(content: Json) -> str:
    """The story of the demo, and what to type next."""
    by_round: dict[int, Json] = {}
    for step in content["steps"]:
        by_round.setdefault(step["round"], {})[step["strategy"]] = step
    rows = [
        (
            f"{number}: {'digits 0 to 6' if number == 1 else f'+ digit {number + 5}'}",
            steps["merge"]["accuracy"],
            steps["merge"]["first_seven"],
            steps["naive"]["accuracy"],
            steps["naive"]["first_seven"],
        )
        for number, steps in sorted(by_round.items())
    ]
    columns = ("round", "merge: all", "merge: 0 to 6", "naive: all", "naive: 0 to 6")
    joint = "the same as" if content["equals_joint_training"] else "NOT the same as"
    run, digits = f"{content['folder']}/merge", f"{content['folder']}/digits"
    return "\n".join(
        (
            "Accuracy on test images after each round; later rounds saw the new digit alone.",
            "",
            table(columns, rows),
            "",
            f"The memory after four rounds of merge is {joint} after joint training on all ten.",
            "",
            "What to type next:",
            f"  tlcli evaluate {run} {digits}/test",
            f"  tlcli predict {run} {digits}/test/9",
            f"  tlcli rounds list {run}",
            "  tlcli pretrain YOUR-PHOTOS --out my-run     (a folder of class folders)",
        )
    )
