"""The command line of `tlcli doctor`."""

import click

from tlcli.cli import console
from tlcli.cli.headings import Command
from tlcli.cli.options import json_option


@click.command(cls=Command)
@json_option
def doctor(as_json: bool) -> None:
    """Say what is installed here, and try the whole way once, in less than a minute.

    Versions, engines and their devices, weights that need no download, free space; then a run on
    images drawn for it, in a temporary folder: pretrain, extend-classes, joint training, evaluate,
    predict, export. The exit code is that of the step that fails.

    \b
    Examples:
      tlcli doctor
      tlcli doctor --json > doctor.json
    """
    from tlcli.commands.doctor import doctor as stage
    from tlcli.reports import diagnosis_text

    result = stage()
    console.result(result.to_json(), diagnosis_text, as_json)
    if result.error is not None:
        raise result.error
