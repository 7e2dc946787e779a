"""The command line of `tlcli evaluate`."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.headings import Command, Heading, heading
from tlcli.cli.options import (
    NamedByFlag,
    Share,
    by_option,
    config_of,
    engine_option,
    json_option,
    max_bad_option,
    option,
    run_argument,
    table_options,
    test_argument,
)
from tlcli.cli.paths import Here
from tlcli.config import EvaluateConfig
from tlcli.errors import GateFailed, UsageError


@click.command(cls=Command)
@run_argument
@test_argument
@heading(Heading.ROUNDS)
@click.option(
    "--round",
    type=click.IntRange(min=1),
    metavar="N",
    help="The last round to measure.  [default: the current one]",
)
@click.option(
    "--all-rounds",
    is_flag=True,
    help="Every figure after every round, not the accuracy alone.",
)
@click.option(
    "--against",
    type=Here(path_type=Path),
    metavar="RUN2",
    help="Compare with another run, image by image, and say whether the difference may be chance "
    "(McNemar's test).",
)
@heading(Heading.ANSWERS)
@click.option(
    "--retrieval",
    is_flag=True,
    help="Ask no head: how well images find those of their class by each kind of descriptor of "
    "`tlcli index`, on classes that the run has not learned.",
)
@heading(Heading.IMAGES)
@click.option(
    "--ignore-unknown", is_flag=True, help="Leave out classes that the run does not know."
)
@click.option(
    "--include-learned",
    is_flag=True,
    help="Measure on images that the run has learned, too; they are left out otherwise.",
)
@heading(Heading.GATES)
@option(
    EvaluateConfig,
    "--fail-under",
    type=Share(),
    help="Exit with 4 when the accuracy is below this.",
)
@option(
    EvaluateConfig,
    "--max-regression",
    type=Share(),
    help="Exit with 4 when the accuracy on the classes of the previous round fell by more.",
)
@option(
    EvaluateConfig,
    "--min-class-accuracy",
    type=Share(),
    help="Exit with 4 when the accuracy on any class is below this.",
)
@heading(Heading.OUTPUT)
@click.option(
    "--report",
    "reports",
    cls=NamedByFlag,
    type=Here(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Write a report: FILE.html with plots and the worst mistakes, FILE.md for a pull request; "
    "may be given again.",
)
@click.option(
    "--junit",
    type=Here(path_type=Path),
    metavar="FILE.xml",
    help="Write the gates as the tests of a JUnit file.",
)
@max_bad_option
@table_options
@by_option
@engine_option
@json_option
@click.pass_obj
def evaluate(
    verbosity: int, /, reports: tuple[Path, ...], junit: Path | None, as_json: bool, **options: Any
) -> None:
    """Measure a run on labelled images that it has not learned.

    Images that it has learned are recognised by their content, left out and counted. Gives
    accuracy over all with 95 % confidence intervals, per class, for old and new classes and
    after every round, forgetting and calibration.

    \b
    Examples:
      tlcli evaluate run test-photos
      tlcli evaluate run test-photos --json --fail-under 0.9 --max-regression 0.02
      tlcli evaluate run test-photos --against other-run --report report.html
      tlcli evaluate run photos-of-other-classes --retrieval
    """
    from tlcli import reports as forms
    from tlcli.commands.evaluate import evaluate as stage

    config = config_of(EvaluateConfig, options)
    if config.retrieval:
        _retrieval(config, (*reports, *([junit] if junit else [])), verbosity, as_json)
        return
    for path in reports:
        forms.require_evaluation_report(path)
    if junit is not None:
        forms.require_file(junit, "--junit")
    with console.progress_bar(verbosity < 0) as progress:
        report = stage(config, progress)
    content = report.to_json()
    for path in reports:
        forms.write_evaluation(content, path)
    if junit is not None:
        forms.write_junit(content, junit)
    console.result(content, forms.evaluation_text, as_json)
    if failed := [gate.to_text() for gate in report.gates if not gate.passed]:
        raise GateFailed(f"Expected every gate to pass. Received: {'; '.join(failed)}.")


def _retrieval(
    config: EvaluateConfig, forms: tuple[Path, ...], verbosity: int, as_json: bool
) -> None:
    """Measure descriptors, and print the figures."""
    from tlcli.commands.evaluate_retrieval import evaluate_retrieval
    from tlcli.reports import retrieval_text

    if forms:
        raise UsageError(
            f"Expected --retrieval without --report and --junit, which are about heads. Received: "
            f"{forms[0]} too. Leave it out; --json has all figures."
        )
    with console.progress_bar(verbosity < 0) as progress:
        answer = evaluate_retrieval(config, progress)
    console.result(answer.to_json(), retrieval_text, as_json)
