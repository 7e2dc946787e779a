"""The commands that use a run without changing it."""

from pathlib import Path
from typing import Any

import click

from tlcli.cli import console
from tlcli.cli.options import (
    NamedByFlag,
    Share,
    config_of,
    data_argument,
    engine_option,
    flag_option,
    json_option,
    max_bad_option,
    option,
    run_argument,
)
from tlcli.config import EvaluateConfig, ExportConfig, PredictConfig
from tlcli.errors import DataError, GateFailed, UsageError


@click.command()
@run_argument
@data_argument
@click.option(
    "--round", type=click.IntRange(min=1), metavar="N", help="Instead of the current one."
)
@click.option(
    "--all-rounds",
    is_flag=True,
    help="Every figure after every round, not the accuracy alone.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="RUN2",
    help="Compare with another run, image by image, and say whether the difference may be chance "
    "(McNemar's test).",
)
@click.option(
    "--ignore-unknown", is_flag=True, help="Leave out classes that the run does not know."
)
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
@click.option(
    "--report",
    "reports",
    cls=NamedByFlag,
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Write a report: FILE.html with plots and the worst mistakes, FILE.md for a pull request; "
    "may be given twice.",
)
@click.option(
    "--junit",
    type=click.Path(path_type=Path),
    metavar="FILE.xml",
    help="Write the gates as the tests of a JUnit file.",
)
@max_bad_option
@engine_option(EvaluateConfig)
@json_option
@click.pass_obj
def evaluate(
    verbosity: int, /, reports: tuple[Path, ...], junit: Path | None, as_json: bool, **options: Any
) -> None:
    """Measure a run on labelled images that it has not learned.

    Gives accuracy over all with 95 % confidence intervals, per class, for old and new classes and
    after every round, forgetting and calibration.

    \b
    Examples:
      tlcli evaluate run test-photos
      tlcli evaluate run test-photos --json --fail-under 0.9 --max-regression 0.02
      tlcli evaluate run test-photos --against other-run --report report.html
    """
    from tlcli import reports as forms
    from tlcli.stages.evaluating import evaluate as stage

    for path in reports:
        forms.require_evaluation_report(path)
    if junit is not None:
        forms.require_file(junit, "--junit")
    with console.progress_bar(verbosity < 0) as progress:
        report = stage(config_of(EvaluateConfig, options), progress)
    content = report.to_json()
    for path in reports:
        forms.write_evaluation(content, path)
    if junit is not None:
        forms.write_junit(content, junit)
    console.result(content, forms.evaluation_text, as_json)
    if failed := [gate.to_text() for gate in report.gates if not gate.passed]:
        raise GateFailed(f"Expected every gate to pass. Received: {'; '.join(failed)}.")


@click.command()
@run_argument
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--round", type=click.IntRange(min=1), metavar="N", help="Instead of the current one."
)
@option(
    PredictConfig,
    "--top",
    type=click.IntRange(min=1),
    metavar="K",
    help="How many classes an answer of --json lists.",
)
@option(
    PredictConfig,
    "--threshold",
    type=Share(),
    help="Answer `unknown` where the best class is less probable.",
)
@option(
    PredictConfig,
    "--copy-into",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Copy each image into DIR/its class; no file is replaced.",
)
@engine_option(PredictConfig)
@flag_option("--csv", "as_csv", "Print CSV with a header.")
@flag_option("--json", "as_json", "Print one JSON object a line and image.")
@click.pass_obj
def predict(verbosity: int, /, as_csv: bool, as_json: bool, **options: Any) -> None:
    """Label images: files, folders, patterns, or - for paths on standard input.

    Prints a line an image as soon as it is known: label, probability, path, with tabs between.
    Probabilities are calibrated. A file that is no image is answered with its error; exit code 3
    when there was no image at all.

    \b
    Examples:
      tlcli predict run photo.jpg holiday/
      find inbox -name '*.jpg' | tlcli predict run - --json
      tlcli predict run inbox --threshold 0.8 --copy-into sorted
    """
    from tlcli.reports import PREDICTION_LINES
    from tlcli.stages.predicting import predict as stage

    if as_csv and as_json:
        raise UsageError("Expected --csv or --json. Received: both. Leave one out.")
    header, line = PREDICTION_LINES["csv" if as_csv else "json" if as_json else "text"]
    answered = 0
    with console.progress_bar(verbosity < 0) as progress:
        answers = stage(config_of(PredictConfig, options), progress)
        for number, prediction in enumerate(answers):
            for text in header if number == 0 else ():
                click.echo(text)
            answered += prediction.error is None
            click.echo(line(prediction.to_json()))
    if not answered:
        raise DataError("Expected at least one image. Received: none that can be read.")


@click.command()
@run_argument
@option(
    ExportConfig,
    "--format",
    metavar="NAME",
    help="`keras` (.keras), `savedmodel` (a folder), `litert` (.tflite), `onnx` (.onnx), or "
    "`openvino` (.xml and .bin).",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Where to; an earlier export that is there is replaced.",
)
@click.option(
    "--int8",
    is_flag=True,
    help="Weights and activations in 8 bits: a third of the size (litert).",
)
@option(
    ExportConfig,
    "--calibrate",
    metavar="DATA",
    help="Images for --int8, up to 500 of a folder or table; with labels, the accuracy is "
    "reported.",
)
@json_option
@click.pass_obj
def export(verbosity: int, /, as_json: bool, **options: Any) -> None:
    """Write the current round as a model that runs without tlcli.

    Raw RGB images (float32, 0 to 255, at the model's size) go in, class probabilities come out;
    the class names are in the file. Before it gets its name, the file is run by its own runtime
    and compared with the run: exit code 4 when they differ. See docs/export.md.

    \b
    Examples:
      tlcli export run --out flowers.keras
      tlcli export run --format litert --int8 --calibrate photos --out flowers.tflite --json
    """
    from tlcli.reports import export_text
    from tlcli.stages.exporting import export as stage

    with console.progress_bar(verbosity < 0) as progress:
        exported = stage(config_of(ExportConfig, options), progress)
    console.result(exported.to_json(), export_text, as_json)
