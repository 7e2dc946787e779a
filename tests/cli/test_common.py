"""-v, -q and --config mean the same before a command and after it, at every command."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli.cli.app import cli

OPTIONS = {"config", "verbose", "quiet"}
WARNING = "warning: hash index"
REMARK = "cannot be used"


def tree(command: click.Command, *words: str) -> Iterator[tuple[str, ...]]:
    """The words of every command and group."""
    yield words
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from tree(child, *words, name)


def find(words: tuple[str, ...]) -> click.Command:
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


ALL = [" ".join(words) for words in tree(cli)]
LEAVES = [name for name in ALL if not isinstance(find(tuple(name.split())), click.Group)]


def complete_line(words: tuple[str, ...]) -> list[str]:
    """A command line with all that the command requires, so that options may go anywhere."""
    line = list(words)
    for parameter in find(words).params:
        if parameter.required:
            value = "1" if isinstance(parameter.type, click.IntRange) else "a-path"
            is_option = isinstance(parameter, click.Option)
            line.append(f"{parameter.opts[0]}={value}" if is_option else value)
    return line


def placed(line: list[str], *inserted: object) -> Iterator[list[object]]:
    """The line with something inserted, at one place after the other."""
    for place in range(len(line) + 1):
        yield [*line[:place], *inserted, *line[place:]]


@pytest.fixture
def said(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The words of a command that does nothing but print what its context says."""

    def show(*_: object, **values: object) -> None:
        context = click.get_current_context()
        assert not OPTIONS & values.keys()
        click.echo(json.dumps([context.obj, context.default_map]))

    words = tuple(request.param.split())
    monkeypatch.setattr(find(words), "callback", show)
    return words


@pytest.mark.parametrize("said", LEAVES, indirect=True)
def test_every_command_takes_them_at_every_place(
    tlcli: CommandLine, said: tuple[str, ...], tmp_path: Path
) -> None:
    has_json = any("--json" in parameter.opts for parameter in find(said).params)
    table = f"[{'.'.join(said)}]\n{'json = true' if has_json else ''}\n"
    (config := tmp_path / "c.toml").write_text(table)
    line = complete_line(said)
    assert json.loads(tlcli(*line)) == [0, None]
    for flag, verbosity in {"-q": -1, "--quiet": -1, "-v": 1, "--verbose": 1, "-vq": -1}.items():
        for arguments in placed(line, flag):
            assert json.loads(tlcli(*arguments))[0] == verbosity, arguments
    for arguments in placed(line, "--config", config):
        received = json.loads(tlcli(*arguments))[1]
        assert received == ({"as_json": True} if has_json else {}), arguments


@pytest.mark.parametrize("said", ["rounds list"], indirect=True)
@pytest.mark.parametrize(
    "line",
    ["-q rounds list r -v", "-v rounds list r -q", "rounds -q list -v r", "rounds list -q r -v"],
)
def test_quiet_goes_before_verbose(tlcli: CommandLine, said: object, line: str) -> None:
    assert json.loads(tlcli(*line.split()))[0] == -1


@pytest.mark.parametrize("name", ALL)
def test_no_option_is_there_twice_and_help_ends_with_them(tlcli: CommandLine, name: str) -> None:
    params = find(tuple(name.split())).params
    flags = [flag for entry in params for flag in (*entry.opts, *entry.secondary_opts)]
    assert len(flags) == len(set(flags))
    assert [entry.name for entry in params[-3:]] == ["config", "verbose", "quiet"]
    options = tlcli(*name.split(), "--help").partition("\nEverywhere:\n")[2]
    assert options.index("--config FILE") < options.index("-v, --verbose")
    assert options.index("-q, --quiet") < options.index("-h, --help")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images; the cache is empty."""
    monkeypatch.setenv("TLCLI_CACHE_DIR", str(tmp_path / "cache"))
    return tiny.draw(tmp_path / "data", ["apple", "leaf"], count=2)


@pytest.fixture
def index(data: Path, tmp_path: Path) -> Path:
    """Where `data check` keeps hashes; what is wrong with it is a warning or a remark."""
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache" / "hashes.sqlite"


@pytest.mark.parametrize(
    ("line", "warns"),
    [
        ("check DATA", True),
        ("check DATA -v", True),
        ("check DATA -q", False),
        ("check --quiet DATA", False),
        ("-q check DATA", False),
        ("check DATA -v -q", False),
    ],
)
def test_quiet_after_the_command_silences_warnings(
    tlcli: CommandLine, data: Path, index: Path, line: str, warns: bool
) -> None:
    index.write_bytes(b"no index" * 1000)
    tlcli("data", *line.replace("DATA", str(data)).split())
    assert (WARNING in tlcli.err) is warns
    assert warns or not tlcli.err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("check DATA", False),
        ("check DATA -v", True),
        ("check DATA --verbose --json", True),
        ("-v check DATA", True),
        ("check DATA -q", False),
        ("check -v DATA -q", False),
    ],
)
def test_verbose_after_the_command_says_more(
    tlcli: CommandLine, data: Path, index: Path, line: str, says: bool
) -> None:
    index.mkdir()
    tlcli("data", *line.replace("DATA", str(data)).split())
    assert (REMARK in tlcli.err) is says


def test_errors_are_said_all_the_same(tlcli: CommandLine, tmp_path: Path) -> None:
    assert "missing" in tlcli.error(2, "data", "check", tmp_path / "missing", "-q")


def test_after_two_dashes_and_as_a_value_it_is_a_name(
    tlcli: CommandLine, data: Path, first_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data / "leaf")
    Path("000.png").rename("-q")
    assert tlcli("predict", first_run, "-v", "--", "-q").split("\t")[::2] == ["leaf", "-q\n"]
    assert "-v" in tlcli("predict", first_run, "--", "-q", "-v")
    assert tlcli("predict", first_run, "001.png", "--copy-into", "-v").startswith("leaf")
    assert Path("-v", "leaf", "001.png").is_file()


def test_a_dash_is_standard_input(
    tlcli: CommandLine, data: Path, first_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data / "leaf" / "000.png"
    for line in (["-", "-q"], ["-q", "-"]):
        listing = io.TextIOWrapper(io.BytesIO(f"{path}\n".encode()))
        monkeypatch.setattr("sys.stdin", listing)
        assert tlcli("predict", first_run, *line).startswith("leaf\t")


def test_the_environment_has_one_variable_for_all_commands(
    tlcli: CommandLine, data: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.mkdir()
    monkeypatch.setenv("TLCLI_DATA_CHECK_VERBOSE", "1")
    monkeypatch.setenv("TLCLI_DATA_CHECK_CONFIG", "missing.toml")
    tlcli("data", "check", data)
    assert REMARK not in tlcli.err
    monkeypatch.setenv("TLCLI_VERBOSE", "1")
    tlcli("data", "check", data)
    assert REMARK in tlcli.err
    tlcli("data", "check", data, "-q")
    assert REMARK not in tlcli.err


def head(tlcli: CommandLine, *line: object) -> object:
    """The head of the run that a command line makes."""
    return tlcli.json(*line)["head"]


def test_a_config_after_the_command_has_the_same_precedence(
    tlcli: CommandLine, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config := tmp_path / "c.toml").write_text('[pretrain]\nhead = "ridge"\n')
    line = ("pretrain", data, "--config", config, "--out")
    assert head(tlcli, *line, tmp_path / "a") == "ridge"
    assert head(tlcli, "--config", config, *line[:2], "--out", tmp_path / "before") == "ridge"
    assert head(tlcli, *line, tmp_path / "b", "--head", "ncm") == "ncm"
    monkeypatch.setenv("TLCLI_PRETRAIN_HEAD", "lda")
    assert head(tlcli, *line, tmp_path / "c") == "lda"
    assert head(tlcli, *line, tmp_path / "d", "--head", "ncm") == "ncm"


@pytest.mark.parametrize("said", ["rounds list"], indirect=True)
def test_of_several_config_files_the_last_counts_alone(
    tlcli: CommandLine, said: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = tmp_path / "first.toml", tmp_path / "last.toml"
    first.write_text("[rounds.list]\njson = true\n")
    last.write_text("[rounds.show]\nround = 1\n")
    both = ("--config", first, "rounds", "list", "run", "--config", last)
    assert json.loads(tlcli(*both)) == [0, {}]
    between = ("--config", last, "rounds", "--config", first, "list", "run")
    assert json.loads(tlcli(*between)) == [0, {"as_json": True}]
    monkeypatch.setenv("TLCLI_CONFIG", str(tmp_path / "missing.toml"))
    assert json.loads(tlcli("rounds", "list", "run", "--config", last)) == [0, {}]
    assert "missing.toml" in tlcli.error(2, "rounds", "list", "run")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, "c.toml"),
        ("[rounds", "c.toml"),
        ("[rounds.list]\njsn = true\n", "'jsn'"),
        ("[rouds]\n", "'rouds'"),
        ("quiet = true\n", "'quiet'"),
        ("[rounds.list]\nquiet = true\n", "'quiet'"),
        ("[rounds]\nverbose = true\n", "'verbose'"),
        ('[rounds.list]\nconfig = "other.toml"\n', "'config'"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_bad_config_at_every_place(
    tlcli: CommandLine, tmp_path: Path, text: str | None, named: str, place: int
) -> None:
    config = tmp_path / "c.toml"
    if text is not None:
        config.write_text(text)
    line = list(placed(["rounds", "list", "run"], "--config", config))[place]
    error = tlcli.error(2, *line)
    assert named in error
    assert str(config) in error


@pytest.mark.parametrize("line", ["predict run -", "rounds list -", "cache -", "finetune --q"])
def test_a_shell_completes_them_after_a_command(line: str) -> None:
    words = ["tlcli", *line.split()]
    place = str(len(words) - 1)
    done = subprocess.run(
        [sys.executable, "-m", "tlcli"],
        env=os.environ
        | {"COMP_WORDS": " ".join(words), "COMP_CWORD": place, "_TLCLI_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = {"plain,--quiet"} | ({"plain,-q", "plain,-v"} if line.endswith(" -") else set())
    assert expected <= set(done.stdout.split())
