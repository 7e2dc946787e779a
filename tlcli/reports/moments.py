"""A file of moments, as text."""

from tlcli.reports.backbones import Json
from tlcli.reports.result import images_line, seconds_line
from tlcli.reports.tables import byte_text


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
