"""An exported file, as text."""

from tlcli.reports.backbones import Json
from tlcli.reports.tables import byte_text, percent


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
        f"  in      float32 images (n, {size}, {size}, 3), RGB, 0 to 255, "
        f"fitted by {content['fit']}\n"
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
        f"(run: {percent(int8['run_accuracy'])}) on {int8['labelled']}{_learned(int8)}"
    )


def _learned(int8: Json) -> str:
    """How many images the run had learned, where it had any."""
    return f"; {int8['learned']} were learned, which flatters accuracy" if int8["learned"] else ""
