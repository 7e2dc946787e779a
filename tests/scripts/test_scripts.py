"""scripts/check and scripts/test: which arguments lead to which programs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
PROGRAMS = ("ruff", "mypy", "lint-imports", "python")


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., list[str]]:
    """Runs scripts/check on programs that do nothing; the lines of their arguments."""
    called = tmp_path / "called"
    for name in PROGRAMS:
        program = tmp_path / name
        program.write_text('#!/bin/sh\necho "${0##*/} $*" >> "$CALLED"\n')
        program.chmod(0o755)

    def run(*arguments: str) -> list[str]:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CALLED": str(called)}
        subprocess.run([SCRIPTS / "check", *arguments], env=environment, check=True)
        return called.read_text().splitlines()

    return run


def test_without_arguments_everything_is_checked(check: Callable[..., list[str]]) -> None:
    lines = check()
    assert {line.split()[0] for line in lines} == set(PROGRAMS)
    assert any("--cov-fail-under" in line for line in lines)
    assert lines[-1] == "python scripts/other_processors"


def test_slow_alone_checks_everything_and_more(check: Callable[..., list[str]]) -> None:
    lines = check("--slow")
    assert {line.split()[0] for line in lines} == set(PROGRAMS)
    assert "-m slow and not numerics" in lines[-1]


@pytest.mark.parametrize("arguments", [("-k", "NAME"), ("tests/test_cache.py",), ("--maxfail=1",)])
def test_arguments_of_pytest_run_it_alone(
    check: Callable[..., list[str]], arguments: tuple[str, ...]
) -> None:
    assert check(*arguments) == [" ".join(("python -m pytest", *arguments))]


def test_slow_beside_arguments_of_pytest_adds_the_slow_tests(
    check: Callable[..., list[str]],
) -> None:
    assert check("-k", "NAME", "--slow") == ["python -m pytest -m slow or not slow -k NAME"]


@pytest.mark.parametrize("argument", ["--nonsense", "tests/nothing.py", "nonsense"])
def test_what_pytest_does_not_know_is_refused(argument: str) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    command = [str(SCRIPTS / "check"), argument]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Expected --slow")
    assert f"Received: {argument}." in last


@pytest.mark.parametrize(
    "name", ["check", "environment", "quickstart", "retrain", "test", "../.ci/run"]
)
def test_shellcheck_finds_nothing(name: str) -> None:
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("there is no shellcheck here")
    command = [shellcheck, "--shell=bash", "--external-sources", str(SCRIPTS / name)]
    assert subprocess.run(command, cwd=SCRIPTS, check=False).returncode == 0


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme = (SCRIPTS.parent / "README.md").read_text("utf-8")
    assert "\n$ scripts/test " in readme
    assert os.access(SCRIPTS / "test", os.X_OK)
    assert 'scripts/test" --slow\n' in (SCRIPTS.parent / ".ci" / "run").read_text("utf-8")
