"""Short results → text for people. What has a JSON form is drawn from it, so that the two agree."""

from collections.abc import Sequence
from typing import Any

from tlcli.images import DataReport
from tlcli.reports.rounds import images_line, seconds_line
from tlcli.reports.tables import Cell, byte_text, counted, percent, table

Json = dict[str, Any]


def moments_text(content: Json) -> str:
    """A file of moments, in a few lines."""
    shard = f", shard {content['shard']}" if content["shard"] else ""
    return "\n".join(
        (
            f"{content['path']}: {len(content['classes'])} classes{shard}, "
            f"{byte_text(content['bytes'])}",
            f"  images      {images_line(content['images'])}",
            f"  memory      sha256 {content['memory_sha256'][:16]}…",
            f"  seconds     {seconds_line(content['seconds'])}",
            f"Take it in with `tlcli extend-classes {content['run']} --moments {content['path']}`.",
        )
    )


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
        f"; {counted(content['left'], 'entry', 'entries')} could not be deleted"
        if content["left"]
        else ""
    )
    segments = counted(content["segments"], "feature segment", "feature segments")
    backbones = counted(content["backbones"], "backbone", "backbones")
    freed = byte_text(content["freed_bytes"])
    return f"{content['folder']}: freed {freed} ({segments}, {backbones}){left}"


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
