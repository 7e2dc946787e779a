"""What `triage` found → text, and a page with the images: drawn from its JSON object."""

import base64
from pathlib import Path
from typing import Any

from tlcli import files
from tlcli.errors import BadImage
from tlcli.images import thumbnail
from tlcli.reports import html
from tlcli.reports.html import safe
from tlcli.reports.tables import counted, skipped_texts, table
from tlcli.urls import place

Json = dict[str, Any]

PIXELS = 160
"""Of a thumbnail's longer side."""

MOST = 60
"""Images of a candidate that the page shows, and novel images that are alone."""

_STYLE = """
.pictures { display: flex; flex-wrap: wrap; gap: .5rem }
.pictures figure { width: 10rem; flex: none }
.pictures img { max-width: 100%; display: block }
"""


def triage_text(content: Json) -> str:
    """How many images are novel, and the candidates."""
    novel = content["images"] - content["known"]
    lines = [
        f"{content['run']}: round {content['round']} on {content['images']} images",
        f"  {content['known']} are like a known class ({content['learned']} of them learned)",
        f"  {novel} are novel, at most {content['false_alarms']:.1%} of known ones would be",
        f"  the limit was set on {content['calibration_images']} images: "
        f"{content['calibrated_on']}",
    ]
    lines += [f"  left out: {text}" for text in skipped_texts(content["skipped"])]
    parts = ["\n".join(lines)]
    if content["candidates"]:
        rows = [
            (entry["name"], len(entry["images"]), _nearest(entry), entry["images"][0]["path"])
            for entry in content["candidates"]
        ]
        parts.append(table(("candidate", "images", "least unlike", "most typical"), rows))
    if content["singles"]:
        parts.append(f"{counted(len(content['singles']), 'image is', 'images are')} alone.")
    if content["copied_to"]:
        parts.append(
            f"Copied into {content['copied_to']}. Rename the folders that are new classes, remove "
            f"the others, then: tlcli extend-classes {content['run']} {content['copied_to']}"
        )
    return "\n\n".join(parts)


def _nearest(candidate: Json) -> str:
    """The known class that most of its images are least unlike."""
    names = [entry["nearest"] for entry in candidate["images"]]
    return str(max(sorted(set(names)), key=names.count))


def write_triage(content: Json, path: Path) -> None:
    """Write the page.

    Raises:
        StorageError: it cannot be written.
    """
    parts = [f"<p>{_summary(content)}</p>"]
    for entry in content["candidates"]:
        title = f"{entry['name']}: {len(entry['images'])} images"
        parts.append(f"<h2>{safe(title)}</h2>")
        parts.append(f"<p>Least unlike: {safe(_nearest(entry))}.</p>")
        parts.append(_pictures(entry["images"]))
    if content["singles"]:
        parts.append(f"<h2>Alone: {len(content['singles'])} images</h2>")
        parts.append(_pictures(content["singles"]))
    page = html.document(f"Novel images for {content['run']}", parts, _STYLE)
    with files.published(path) as stream:
        stream.write(page.encode())


def _summary(content: Json) -> str:
    novel = content["images"] - content["known"]
    return safe(
        f"Of {content['images']} images {novel} fit no class of round {content['round']}. At most "
        f"{content['false_alarms']:.1%} of images of known classes would be called novel; the "
        f"limit was set on {content['calibration_images']} images ({content['calibrated_on']})."
    )


def _pictures(entries: list[Json]) -> str:
    shown = "\n".join(_picture(entry) for entry in entries[:MOST])
    more = len(entries) - MOST
    rest = f'<p class="small">and {more} more</p>' if more > 0 else ""
    return f'<div class="pictures">\n{shown}\n</div>{rest}'


def _picture(entry: Json) -> str:
    """An image with its score; the reason in its place where it cannot be read any more."""
    try:
        encoded = base64.b64encode(thumbnail(place(entry["path"]), PIXELS)).decode()
        drawn = f'<img alt="" src="data:image/jpeg;base64,{encoded}">'
    except BadImage as error:
        drawn = f'<div class="gone">not shown: {safe(error)}</div>'
    return (
        f'<figure>{drawn}<figcaption class="small">{entry["score"]:.0f} '
        f"{safe(place(entry['path']).name)}</figcaption></figure>"
    )
