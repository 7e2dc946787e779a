"""The demo, as text."""

from tlcli.reports.backbones import Json
from tlcli.reports.tables import table


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
            "  tlcli adopt YOUR-MODEL.keras --out my-run   (a classifier that you have trained)",
        )
    )
