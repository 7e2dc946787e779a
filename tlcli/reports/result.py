"""What the commands that make a round answer, as text."""

from collections.abc import Sequence
from typing import Any

from tlcli.reports.rankings import COLUMNS, difference_lines, ranking_rows
from tlcli.reports.tables import percent, skipped_texts, table

Json = dict[str, Any]


def round_text(content: Json) -> str:
    """A round that was published, in a few lines."""
    images = content["images"]
    if not content["changed"]:
        return f"{content['run']}: nothing to do. {_unchanged(content)}"
    lines = [
        f"{content['run']}: round {content['round']} ({_what(content)})",
        f"  classes     {len(content['classes'])}, new: {named(content['new_classes'])}",
        f"  images      {images_lines(images)}",
        f"  validation  {_validation(content['validation'])}",
        f"  calibration {_calibration(content['calibration'])}",
        f"  memory      {memory_line(content)}",
        f"  exact       {_exact(content)}",
        f"  seconds     {seconds_line(content['seconds'])}",
    ]
    if content["training"]:
        text = _training if content["classes"] else _training_without_labels
        lines.insert(3, f"  training    {text(content['training'])}")
    if content["usual"]:
        lines.insert(-3, f"  usual       {_usual(content['usual'])}")
    if images["known_classes"]:
        lines.insert(2, f"  more of     {named(images['known_classes'])}")
    if content["renamed_classes"]:
        lines.insert(2, f"  renamed     {_renamed(content['renamed_classes'])}")
    if content["adoption"]:
        lines[1:1] = _adoption(content["adoption"])
    if content["layers_choice"]:
        lines += ["", _layers(content["layers_choice"])]
    if content["head_choice"]:
        lines += ["", _choice(content["head_choice"])]
    if content["adoption"] and len(content["adoption"]["scalings"]) > 1:
        lines += ["", _scalings(content["adoption"])]
    return "\n".join(lines)


def _adoption(adoption: Json) -> list[str]:
    """What was adopted, and what it wants pixels to look like."""
    difference = adoption["deviation"]
    proof = "" if difference is None else f"; answers differ by {difference:.1e} at most"
    if adoption["scaled_by"]:
        pixels = f"scaled within the model: {adoption['scaled_by']}"
    else:
        pixels = f"scaling {adoption['scaling']}"
    if adoption["scalings"]:
        accuracy = percent(adoption["scalings"][0]["accuracy"])
        pixels += f"; right on {accuracy} of {adoption['tried_on']} images"
    return [
        f"  model       {adoption['model']}, cut below {adoption['last_layer']}{proof}",
        f"  pixels      {pixels}",
    ]


def _scalings(adoption: Json) -> str:
    rows = [
        (entry["scaling"], entry["accuracy"], f"{entry['log_loss']:.3g}")
        for entry in adoption["scalings"]
    ]
    title = f"scalings of pixels, tried on {adoption['tried_on']} images, the best first:"
    return f"{title}\n\n{table(('scaling', 'accuracy', 'log loss'), rows)}"


def _training(training: Json) -> str:
    count = training["epochs"]
    if "descriptors" in training:
        return _metric(training)
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


def _training_without_labels(training: Json) -> str:
    count = training["epochs"]
    return (
        f"{count} epoch{'s' if count > 1 else ''}, {percent(training['validation_accuracy'])} of "
        f"held-out images are nearest to another view of themselves, lr {training['lr']:.2g}"
    )


def _metric(training: Json) -> str:
    """How a projection was trained, and how well each kind of descriptor does."""
    before, after = (percent(training[name]) for name in ("map_at_r_before", "map_at_r"))
    count = training["epochs"]
    text = (
        f"{training['objective']}, {count} epoch{'s' if count > 1 else ''}, the best is "
        f"{training['best_epoch']}, MAP@R on {training['held_out_images']} images of "
        f"{len(training['held_out_classes'])} held-out classes {before} → {after}, "
        f"lr {training['lr']:.2g}{_heads(training)}"
    )
    rows = table(COLUMNS, ranking_rows(training["descriptors"]))
    below = [*rows.splitlines(), *difference_lines(training["differences"])]
    return "\n".join([text, *(f"    {line}" for line in below)])


def _heads(training: Json) -> str:
    """How good the head is on the projection, where it stands on it."""
    figures = [training.get(name) for name in ("head_accuracy_before", "head_accuracy")]
    if None in figures:
        return ""
    before, after = map(percent, figures)
    return f"; accuracy of the head on held-out images {before} → {after}"


def _usual(usual: Json) -> str:
    """What the round goes by in place of old images, and how many of these it would take."""
    text: str = usual["origin"]
    if usual["claimed"] is None:
        return text
    count = round(usual["claimed"] * usual["sample"])
    share = percent(usual["claimed"])
    return f"{text}; new classes take {count} of {usual['sample']} images of --sample ({share})"


def _unchanged(content: Json) -> str:
    learned = content["images"]["already_learned"]
    why = f"All {learned} images were learned before; round" if learned else "Round"
    return f"{why} {content['round']} is as it was."


def _calibration(calibration: Json) -> str:
    text = f"temperature {calibration['temperature']:.3g}"
    if calibration["ece_before"] is None:
        return text
    before, after = (percent(calibration[name]) for name in ("ece_before", "ece_after"))
    return f"{text}, calibration error {before} → {after} on {calibration['images']} images"


def memory_line(content: Json) -> str:
    """What the run remembers, and its digest."""
    digest = content["memory_sha256"]
    return f"{content['memory']}, sha256 {digest[:16]}…" if digest else "none"


def _choice(candidates: Sequence[Json]) -> str:
    keys = ("head", "mean_class_accuracy", "accuracy")
    rows = [(*(entry[key] for key in keys), f"{entry['seconds']:.1f}") for entry in candidates]
    title = "heads in cross-validation, the best first:"
    return table(("head", "mean class accuracy", "accuracy", "seconds"), rows, title)


def _layers(tried: Sequence[Json]) -> str:
    rows = [
        (
            *(entry[key] for key in ("layers", "width", "head", "mean_class_accuracy", "accuracy")),
            None if (cost := entry["milliseconds_per_image"]) is None else f"{cost:.1f}",
            f"{entry['seconds']:.1f}",
        )
        for entry in tried
    ]
    columns = (
        "layers",
        "width",
        "head",
        "mean class accuracy",
        "accuracy",
        "ms an image",
        "seconds",
    )
    return table(columns, rows, "layers in cross-validation, the best first:")


def _what(content: Json) -> str:
    if content["adoption"]:
        return f"{content['command']}, the columns of the model, backbone {content['backbone']}"
    strategy = f", strategy {content['strategy']}" if content["strategy"] else ""
    return f"{content['command']}{strategy}, head {content['head']}, backbone {content['backbone']}"


def named(names: Sequence[str], most: int = 8) -> str:
    """The first names of classes, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "none"


def _renamed(names: Json) -> str:
    """Who is called how; classes that became one stand together."""
    parts: dict[str, list[str]] = {}
    for old, new in names.items():
        parts.setdefault(new, []).append(old)
    return named([f"{' + '.join(old)} → {new}" for new, old in parts.items()])


def images_lines(images: Json) -> str:
    """How many images were used, and how many were not, and why; the first of those left out."""
    skipped = "".join(f"\n  left out    {text}" for text in skipped_texts(images["skipped"]))
    return f"{_counts(images)}{skipped}"


def _counts(images: Json) -> str:
    parts = [f"{images['used']} used ({images['from_cache']} from the cache)"]
    if images["removed"]:
        parts = [f"{images['removed']} forgotten"]
    for count, text in (
        (images["already_learned"], "learned before"),
        (images["duplicates"], "duplicates"),
        (len(images["skipped"]), "left out"),
        (sum(entry["files"] for entry in images["passed_over"]), "no images by their suffix"),
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
        figures.append(f"{_untested(old, new)} (--test DATA measures them)")
    method = f"{validation['method']} on {validation['images']} images"
    return f"{', '.join(figures)} ({method})"


def _untested(old: float | None, new: float | None) -> str:
    """Of which classes nothing is known, as one of them has no image that could be held out."""
    which = "old classes " if new is not None else "new classes " if old is not None else ""
    return f"{which}unknown, as not each has an image to test"


def _exact(content: Json) -> str:
    if content["exact"]:
        return "yes: equals joint training on all images so far"
    named = (("arithmetic", "kinds of arithmetic"), ("decoder", "decoders"))
    several = [f"{count} {what}" for key, what in named if (count := len(content[key])) > 1]
    return f"no: features of {' and '.join(several)}" if several else "no"


def seconds_line(seconds: dict[str, float]) -> str:
    """The parts of a command that took time."""
    shown = {name: value for name, value in seconds.items() if value >= 0.05 or name == "total"}
    return ", ".join(f"{name} {value:.1f}" for name, value in shown.items())
