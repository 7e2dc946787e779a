"""Docs and configs that cannot drift: they are read, compared and run."""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from tests.conftest import CommandLine
from tests.support import tiny
from tlcli import (
    backbones,
    engines,
    formats,
    heads,
    images,
    memory,
    retrieval,
    strategies,
    training,
)
from tlcli.cli.app import cli
from tlcli.training.augmentation import VIEWS

HERE = Path(__file__).parent.parent
CONFIGS = sorted((HERE / "configs").glob("*.toml"))
PAGES = sorted((*HERE.glob("*.md"), *(HERE / "docs").rglob("*.md")))
ARCHITECTURE = HERE / "docs" / "architecture.md"
ADOPTING = HERE / "docs" / "adopting.md"


def commands(group: click.Group, name: str = "") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for child, command in group.commands.items():
        full = f"{name} {child}".strip()
        found |= commands(command, full) if isinstance(command, click.Group) else {full: command}
    return found


def name_of(command: click.Command) -> str:
    assert command.name
    return command.name


def test_the_command_reference_is_what_help_says() -> None:
    command = [sys.executable, str(HERE / "scripts" / "command_reference.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize("name", commands(cli))
def test_every_command_has_help_for_every_option_and_two_examples(name: str) -> None:
    command = commands(cli)[name]
    assert command.help
    assert len(re.findall(rf"^ +(?:.*\| )?tlcli {name}", command.help, re.M)) >= 2 or (
        name in ("backbones", "demo") and "Examples" in command.help
    )
    options = [entry for entry in command.params if isinstance(entry, click.Option)]
    assert all(entry.help for entry in options)


WEIGHTS = (backbones.Imagenet.label, backbones.Random.label)
NAMED: dict[tuple[str, str], Iterable[str]] = {
    ("pretrain", "head"): heads.HEADS,
    ("pretrain", "priors"): heads.PRIORS,
    ("pretrain", "class_weights"): heads.CLASS_WEIGHTS,
    ("pretrain", "memory"): memory.SETTINGS,
    ("pretrain", "engine"): engines.ENGINES,
    ("pretrain", "precision"): backbones.PRECISIONS,
    ("pretrain", "fit"): images.FITS,
    ("pretrain", "layers"): backbones.LAYERS,
    ("compare", "layers"): backbones.LAYERS,
    ("pretrain", "objective"): training.objectives_of("pretrain"),
    ("finetune", "objective"): training.objectives_of("finetune"),
    ("pretrain", "augment"): training.PRESETS,
    ("pretrain", "weights"): WEIGHTS,
    ("adopt", "scaling"): backbones.SCALINGS,
    ("extend-classes", "strategy"): strategies.STRATEGIES,
    ("compare", "strategies"): strategies.STRATEGIES,
    ("compare", "heads"): heads.HEADS,
    ("finetune", "distribute"): training.DISTRIBUTIONS,
    ("data check", "augment"): training.SHEETS,
    ("index add", "descriptor"): retrieval.DESCRIPTORS,
    ("predict", "by"): retrieval.BY,
    ("export", "format"): formats.FORMATS,
}
"""Command and parameter → the table that the parameter chooses from."""


def help_of(command: str, parameter: str) -> str:
    """What the help says of an option."""
    (found,) = (entry for entry in commands(cli)[command].params if entry.name == parameter)
    assert isinstance(found, click.Option)
    return found.help or ""


@pytest.mark.parametrize(("command", "parameter"), NAMED)
def test_an_option_names_every_row_of_its_table(command: str, parameter: str) -> None:
    """Help is written without the tables, which are slow to import."""
    text = help_of(command, parameter)
    assert [name for name in NAMED[command, parameter] if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    ("command", "parameter", "rows"),
    [
        ("pretrain", "memory", memory.SETTINGS),
        ("pretrain", "objective", training.objectives_of("pretrain")),
        ("finetune", "objective", training.objectives_of("finetune")),
        ("pretrain", "augment", training.PRESETS),
        ("pretrain", "fit", images.FITS),
        ("pretrain", "layers", backbones.LAYERS),
        ("finetune", "augment", training.PRESETS),
        ("finetune", "distribute", training.DISTRIBUTIONS),
        ("data check", "augment", {VIEWS: training.SHEETS[VIEWS]}),
        ("extend-classes", "strategy", strategies.STRATEGIES),
        ("adopt", "scaling", backbones.SCALINGS),
        ("index add", "descriptor", retrieval.DESCRIPTORS),
        ("predict", "by", retrieval.BY),
    ],
)
def test_an_option_says_what_the_rows_of_its_table_say(
    command: str, parameter: str, rows: dict[str, Any]
) -> None:
    text = help_of(command, parameter)
    assert [name for name, row in rows.items() if f"`{name}`: {row.says}" not in text] == []


def test_the_readme_names_every_command() -> None:
    readme = (HERE / "README.md").read_text("utf-8")
    missing = [name for name in commands(cli) if f"`tlcli {name}" not in readme]
    assert not missing


def test_the_readme_groups_the_commands_as_help_does() -> None:
    tables = (HERE / "README.md").read_text("utf-8").partition("\n## Commands\n")[2]
    rows = re.findall(r"^\*\*(.+)\*\*$|^\| `tlcli ([a-z-]+)", tables, re.M)
    order = [title or name for title, name in dict.fromkeys(rows)]
    sections = cli.sections().items()
    assert order == [line for title, group in sections for line in (title, *map(name_of, group))]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_opens_with_a_command_that_works(
    tlcli: CommandLine, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run with the tiny backbone in place of the one that is named, few epochs, small batches."""
    opening, facts = path.read_text("utf-8").splitlines()[:2]
    assert re.search(r"\d+ (s|min).*\d %", facts), "time and accuracy"
    monkeypatch.chdir(tmp_path)
    tiny.draw(tmp_path / "photos", ["apple", "leaf"])
    tiny.draw(tmp_path / "test-photos", ["apple", "leaf"], count=2, seed=1)
    (tmp_path / "configs").symlink_to(HERE / "configs")
    for command in ("FINETUNE", "PRETRAIN"):
        monkeypatch.setenv(f"TLCLI_{command}_EPOCHS", "1")
        monkeypatch.setenv(f"TLCLI_{command}_BATCH_SIZE", "8")
    monkeypatch.setenv("TLCLI_PRETRAIN_IMAGE_SIZE", "32")
    arguments = shlex.split(opening.removeprefix("# tlcli "))
    if "pretrain" not in arguments:
        tlcli("pretrain", "photos", "--out", "run")
    tlcli(*arguments)


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page of docs/."""
    text = (HERE / "docs" / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


@pytest.fixture
def workplace(
    tlcli: CommandLine, tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The current folder, with what the snippets of docs/ speak of."""
    names = ["apple", "leaf", "sky"]
    for folder in ("ci/photos", "photos"):
        tiny.draw(tmp_path / folder, names)
    for folder in ("ci/test-photos", "test-photos"):
        tiny.draw(tmp_path / folder, names, count=3, seed=1)
    tiny.draw(tmp_path / "holiday", ["leaf"], count=2, seed=2)
    (tmp_path / "holiday" / "leaf" / "000.png").rename(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    for run in ("run", "model-run"):
        tlcli("pretrain", "photos", "--out", run)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_the_pipeline_of_ci_md_runs(workplace: Path, number: int) -> None:
    function = f'tlcli() {{ PYTHONPATH={HERE} {sys.executable} -m tests.support.tiny "$@"; }}'
    done = subprocess.run(
        ["bash", "-c", f"{function}\n{blocks('ci.md', 'bash')[number]}"],
        env={**os.environ, "WORK": str(workplace / "work")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    folder = workplace / ("work", ".")[number]
    assert (folder / "report.md").read_text()
    assert (folder / "report.xml").read_text()


@pytest.mark.slow
def test_the_snippet_of_python_md_runs(workplace: Path) -> None:
    snippet, _ = blocks("python.md", "python")
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-c", snippet]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout
    assert "1 ('apple', 'leaf', 'sky') 32" in printed
    assert "photo.jpg leaf" in printed


@pytest.mark.slow
def test_the_model_of_adopting_md_is_trained_and_adopted(
    tlcli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the page has it, but with random weights, small images and one epoch."""
    monkeypatch.chdir(tmp_path)
    tiny.draw(tmp_path / "photos", ["apple", "leaf"])
    (script,) = blocks("adopting.md", "python")
    for there, here in (('"imagenet"', "None"), ("= 160", "= 32"), ("epochs=5", "epochs=1")):
        assert script.count(there) == 1
        script = script.replace(there, here)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    command = re.search(r"`tlcli (adopt cats-and-dogs.+)` takes it", prose(ADOPTING))
    assert command
    assert tlcli.json(*command[1].split())["classes"] == ["apple", "leaf"]


def test_a_shell_completes_commands_and_options() -> None:
    words = "tlcli evaluate --fail"
    environment = {"COMP_WORDS": words, "COMP_CWORD": "2", "_TLCLI_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-m", "tlcli"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["plain,--fail-under"])


def test_there_are_configs() -> None:
    assert len(CONFIGS) >= 3


def prose(page: Path) -> str:
    """A page without its code blocks, where nothing is a link or a heading."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """What a link may name behind #: the headings as GitHub writes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Where the links of a page lead: a file, and what stands behind #."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield (page.parent / path if path else page).resolve(), anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HERE)))
def test_no_link_is_dead(page: Path) -> None:
    dead = [
        f"{path.name}#{anchor}"
        for path, anchor in links(page)
        if not path.exists() or (anchor and anchor not in anchors(path))
    ]
    assert dead == []


def test_every_page_is_in_an_index() -> None:
    indexes = [HERE / "docs" / "README.md", HERE / "docs" / "decisions" / "README.md"]
    listed = {path for page in indexes for path, _ in links(page)}
    assert [page.name for page in PAGES if page not in {*listed, indexes[0]}] == []


def defined(module: Path) -> set[str]:
    """The names that a module defines, those in a class behind its name and a dot."""
    found: set[str] = set()
    if not module.is_file():
        return found
    waiting: list[tuple[str, ast.stmt]] = [
        ("", node) for node in ast.parse(module.read_text("utf-8")).body
    ]
    while waiting:
        place, node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(place + node.name)
        if isinstance(node, ast.ClassDef):
            waiting += [(f"{place}{node.name}.", child) for child in node.body]
        for target in getattr(node, "targets", [getattr(node, "target", None)]):
            if isinstance(target, ast.Name):
                found.add(place + target.id)
    return found


def test_what_the_architecture_names_is_in_the_code() -> None:
    """`rounds/intake.scan` is a name that tlcli/rounds/intake.py defines."""
    words = re.findall(r"`((?:\w+/)*\w+)\.(\w+(?:\.\w+)*)`", prose(ARCHITECTURE))
    package = HERE / "tlcli"
    named = [(package / f"{module}.py", name) for module, name in words if name != "py"]
    named = [(path, name) for path, name in named if path.is_file() or path.parent != package]
    assert len(named) > 80
    assert [f"{path}: {name}" for path, name in named if name not in defined(path)] == []


def test_the_architecture_has_every_floor_and_every_room() -> None:
    layers = re.search(r"^layers =\n((?: .+\n)+)", (HERE / "setup.cfg").read_text("utf-8"), re.M)
    assert layers
    floors = [re.findall(r"tlcli\.(\w+)", line) for line in layers[1].splitlines()]
    (drawn,) = re.findall(r"^```text\n(.*?)^```", ARCHITECTURE.read_text("utf-8"), re.M | re.S)
    assert [re.findall(r"[a-z]\w*", line) for line in drawn.splitlines()] == floors
    rooms = re.findall(r"^\| `(\w+)` \|", prose(ARCHITECTURE), re.M)
    assert sorted(rooms) == sorted(room for floor in floors for room in floor)


# A package whose files are named after commands needs no list of them.
FILES_BY_COMMAND = ("cli", "commands")


@pytest.mark.parametrize(
    "package",
    [
        path.parent
        for path in sorted((HERE / "tlcli").glob("**/__init__.py"))
        if path.parent.name not in ("tlcli", *FILES_BY_COMMAND)
    ],
    ids=lambda path: path.relative_to(HERE).as_posix(),
)
def test_a_package_says_what_is_in_each_file(package: Path) -> None:
    text = ast.get_docstring(ast.parse((package / "__init__.py").read_text("utf-8"))) or ""
    rows = re.findall(r"^(\w+(?:, \w+)*)(?:  |$)", text, re.M)
    files = {path.parent if path.name == "__init__.py" else path for path in package.glob("*.py")}
    files |= {path.parent for path in package.glob("*/__init__.py")}
    assert sorted(", ".join(rows).split(", ")) == sorted(path.stem for path in files - {package})


def test_the_glossary_is_in_the_order_of_the_alphabet() -> None:
    words = re.findall(r"^- \*\*(.+?)\*\*:", prose(ARCHITECTURE), re.M)
    assert len(words) > 40
    assert words == sorted(words, key=str.lower)
