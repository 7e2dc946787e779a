"""The command group, and the one place where errors become messages and exit codes."""

import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

import tlcli
from tlcli.cli import console
from tlcli.cli.adopt import adopt
from tlcli.cli.backbones import backbones
from tlcli.cli.cache import cache
from tlcli.cli.common import NORMAL, accept_everywhere
from tlcli.cli.compare import compare
from tlcli.cli.data import data
from tlcli.cli.demo import demo
from tlcli.cli.doctor import doctor
from tlcli.cli.evaluate import evaluate
from tlcli.cli.export import export
from tlcli.cli.extend_classes import extend_classes
from tlcli.cli.finetune import finetune
from tlcli.cli.headings import Group, Heading, heading
from tlcli.cli.index import index
from tlcli.cli.merge import merge
from tlcli.cli.moments import moments
from tlcli.cli.predict import predict
from tlcli.cli.pretrain import pretrain
from tlcli.cli.remove_classes import remove_classes
from tlcli.cli.rename_classes import rename_classes
from tlcli.cli.rounds import rounds
from tlcli.cli.triage import triage
from tlcli.errors import Stopped, TlcliError
from tlcli.signals import STOPPING

CONTEXT: dict[str, Any] = {
    "auto_envvar_prefix": "TLCLI",
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "obj": NORMAL,
}


class _OutputClosed(Exception):
    """The reader of standard output has gone; Click would call that a failure."""


SECTIONS = {
    "Train and extend": (
        pretrain,
        adopt,
        extend_classes,
        finetune,
        remove_classes,
        rename_classes,
        merge,
        moments,
    ),
    "Measure and use": (evaluate, compare, predict, triage, index, export),
    "Look after": (rounds, backbones, data, cache, doctor, demo),
}
"""The commands, by what people do, in the order of --help."""


class _Commands(Group):
    """The group, with a closed pipe as an error of its own."""

    def sections(self) -> Mapping[str, Sequence[click.Command]]:
        """The commands by what people do."""
        return SECTIONS

    def invoke(self, context: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(context)
        except BrokenPipeError as error:
            raise _OutputClosed from error


@click.group(cls=_Commands, context_settings=CONTEXT)
@heading(Heading.ALONE)
@click.version_option(tlcli.__version__, prog_name="tlcli")
def cli() -> None:
    """Train image classifiers by transfer learning, and keep adding classes to them.

    DATA is a folder of class folders, a CSV or TSV file with the columns path,label, or - for
    such lines on standard input. Images, folders and tables may be URLs like s3://bucket/photos.

    \b
    Exit codes: 0 done · 2 usage · 3 unusable data · 4 a gate failed · 5 damaged or other run ·
    6 cannot save · 7 no weights here · 75 run in use, or a worker gone · 130/143 stopped · 1 a bug
    """


for commands in SECTIONS.values():
    for command in commands:
        cli.add_command(command)
accept_everywhere(cli)


def main() -> NoReturn:
    """The entry point of `tlcli`."""
    for number in STOPPING:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, _stop)
    _open_streams()
    sys.exit(run(sys.argv[1:]))


_stopped: list[int] = []
"""Signals that came: what is imported, or calls back, may turn `Stopped` into another error."""


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    _stopped.append(number)
    raise Stopped(number)


def _open_streams() -> None:
    """Make standard streams of those that are closed, so that no file gets their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # For reading alone: what is printed fails, as on a closed one.
            null = os.open(os.devnull, os.O_RDONLY)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name may be any bytes: it is printed as it is.
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def run(arguments: list[str]) -> int:
    """Run a command line; the exit code."""
    try:
        cli.main(arguments, prog_name="tlcli", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        console.remark(error.format_message())
        return error.exit_code
    except click.ClickException as error:
        console.complain(_usage_message(error))
        return error.exit_code
    except (Stopped, click.Abort) as error:
        return _ended(getattr(error, "exit_code", 128 + signal.SIGINT))
    except _OutputClosed:
        console.give_up(sys.stdout)
        return 128 + signal.SIGPIPE
    except Exception as error:  # noqa: BLE001
        if _stopped:
            return _ended(Stopped(_stopped[0]).exit_code)
        return _failed(error, arguments)
    return 0


def _ended(exit_code: int) -> int:
    console.complain("stopped; nothing was saved that was not complete")
    return exit_code


def _failed(error: Exception, arguments: list[str]) -> int:
    """Say what went wrong; the exit code."""
    told: Exception | None = error
    if isinstance(error, OSError | MemoryError):
        from tlcli import files

        told = files.failure(error)
    if isinstance(error, console.Unprinted) or (
        isinstance(error, OSError) and error.filename is None
    ):
        console.give_up(sys.stdout)
    if isinstance(told, TlcliError):
        console.complain(f"error: {told}")
        return told.exit_code
    return _bug(arguments)


def _bug(arguments: list[str]) -> int:
    console.complain(f"error: this is a bug in tlcli. Its log is {_write_log(arguments)}")
    return 1


def _usage_message(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    advice = f" See `{context.command_path} --help`." if context else ""
    return f"error: {error.format_message()}{_owners(error)}{advice}"


def _owners(error: click.ClickException) -> str:
    """Which other commands have an option that a command has not; may be empty."""
    if not isinstance(error, click.NoSuchOption):
        return ""
    names = [name for name, child in _every_command(cli) if _has(child, error.option_name)]
    return f" It is an option of {', '.join(map(repr, names))}." if names else ""


def _every_command(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """The commands, also those in groups, with their whole names."""
    for name, child in group.commands.items():
        if isinstance(child, click.Group):
            yield from _every_command(child, f"{above}{name} ")
        else:
            yield f"{above}{name}", child


def _has(command: click.Command, flag: str) -> bool:
    """Whether a command has an option."""
    return any(flag in (*entry.opts, *entry.secondary_opts) for entry in command.params)


def _write_log(arguments: list[str]) -> str:
    """Save the traceback; its path, or the traceback itself where it cannot be saved."""
    import platformdirs

    text = f"tlcli {tlcli.__version__}\n{arguments}\n{traceback.format_exc()}"
    folder = Path(os.environ.get("TLCLI_LOG_DIR") or platformdirs.user_log_dir("tlcli"))
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError:
        return f"not writable, so here it is: {text}"
    return str(path)
