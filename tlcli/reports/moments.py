"""A file of moments, as text."""

from tlcli.reports.backbones import Json
from tlcli.reports.result import images_lines, seconds_line
from tlcli.reports.tables import byte_text, counted


def moments_text(content: Json) -> str:
    """A file of moments, in a few lines."""
    shard = f", shard {content['shard']}" if content["shard"] else ""
    classes = counted(len(content["classes"]), "class", "classes")
    return "\n".join(
        (
            f"{content['path']}: {classes}{shard}, {byte_text(content['bytes'])}",
            f"  images      {images_lines(content['images'])}",
            f"  memory      sha256 {content['memory_sha256'][:16]}…",
            f"  seconds     {seconds_line(content['seconds'])}",
            f"Take it in with `tlcli extend-classes {content['run']} --moments {content['path']}`.",
        )
    )
