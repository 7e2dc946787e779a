"""The command group, and the one place where errors become messages and exit codes."""

import errno
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

import tlcli
from tlcli.cli import console
from tlcli.cli.adopt import adopt
from tlcli.cli.backbones import backbones
from tlcli.cli.cache import cache
from tlcli.cli.compare import compare
from tlcli.cli.data import data
from tlcli.cli.demo import demo
from tlcli.cli.doctor import doctor
from tlcli.cli.evaluate import evaluate
from tlcli.cli.everywhere import NORMAL, accept_everywhere
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
from tlcli.cli.rounds import rounds
from tlcli.errors import Stopped, StorageError, TlcliError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Where standard output goes, most often: other files are saved with errors of their own."""

CONTEXT = {
    "auto_envvar_prefix": "TLCLI",
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "obj": NORMAL,
}


class _OutputClosed(Exception):
    """The reader of standard output has gone; Click would call that a failure."""


SECTIONS = {
    "Train and extend": (pretrain, adopt, extend_classes, finetune, remove_classes, merge, moments),
    "Measure and use": (evaluate, compare, predict, index, export),
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
    such lines on standard input.

    \b
    Exit codes: 0 done · 2 usage · 3 unusable data · 4 a gate failed · 5 damaged or other run ·
    6 cannot save · 7 no weights here · 75 run in use · 130/143 stopped · 1 a bug
    """


for commands in SECTIONS.values():
    for command in commands:
        cli.add_command(command)
accept_everywhere(cli)


def main() -> NoReturn:
    """The entry point of `tlcli`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name may be any bytes: it is printed as it is.
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    sys.exit(run(sys.argv[1:]))


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise Stopped(number)


def run(arguments: list[str]) -> int:
    """Run a command line; the exit code."""
    try:
        cli.main(arguments, prog_name="tlcli", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        console.complain(_usage_message(error))
        return error.exit_code
    except TlcliError as error:
        console.complain(f"error: {error}")
        return error.exit_code
    except (Stopped, click.Abort) as error:
        console.complain("stopped; nothing was saved that was not complete")
        return getattr(error, "exit_code", 128 + signal.SIGINT)
    except _OutputClosed:
        _give_up_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in _FULL:
            return _bug(arguments)
        _give_up_output()
        console.complain(f"error: Expected to be able to write. Received: {error.strerror}.")
        return StorageError.exit_code
    except Exception:  # noqa: BLE001
        return _bug(arguments)
    return 0


def _give_up_output() -> None:
    """Keep the interpreter from failing again when it flushes standard output at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bug(arguments: list[str]) -> int:
    console.complain(f"error: this is a bug in tlcli. Its log is {_write_log(arguments)}")
    return 1


def _usage_message(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    advice = f" See `{context.command_path} --help`." if context else ""
    return f"error: {error.format_message()}{advice}"


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
