"""The rows of a table are compared by name in the module of the table alone."""

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

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

PACKAGE = Path(training.__file__).parent.parent
WORDS = {backbones.Imagenet.label, backbones.Random.label}
TABLES: dict[str, Collection[str]] = {
    "backbones/openvino_ir.py": backbones.PRECISIONS,
    "backbones/reading.py": backbones.LAYERS,
    "backbones/scalings.py": backbones.SCALINGS,
    "backbones/table.py": {*backbones.BACKBONES, backbones.ADOPTED},
    "backbones/weights.py": WORDS,
    "engines.py": engines.ENGINES,
    "formats/table.py": formats.FORMATS,
    "heads/closed_form.py": heads.PRIORS,
    "heads/recipes.py": {*heads.HEADS, *heads.CLASS_WEIGHTS},
    "images/square.py": images.FITS,
    "memory/table.py": memory.SETTINGS,
    "retrieval/descriptors.py": retrieval.DESCRIPTORS,
    "retrieval/neighbours.py": retrieval.BY,
    "strategies/table.py": {*strategies.STRATEGIES, strategies.ADOPTED},
    "training/augmentation.py": training.SHEETS,
    "training/distribution.py": {*training.DISTRIBUTIONS} - WORDS,
    "training/objectives.py": training.OBJECTIVES,
}
"""Module → the names of its rows."""

ROWS = {name for names in TABLES.values() for name in names}
MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))


def literals(node: ast.expr) -> Iterator[str]:
    """The texts that are written where something is compared with."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        for element in node.elts:
            yield from literals(element)


def compared(node: ast.AST) -> list[ast.expr]:
    """What stands beside `==`, `!=`, behind `in`, `not in`, or in a `case`."""
    if isinstance(node, ast.MatchValue):
        return [node.value]
    if not isinstance(node, ast.Compare):
        return []
    left = [node.left, *node.comparators[:-1]]
    sides = zip(left, node.ops, node.comparators, strict=True)
    equal = (ast.Eq, ast.NotEq)
    found = [side for a, op, b in sides if isinstance(op, equal) for side in (a, b)]
    among = zip(node.ops, node.comparators, strict=True)
    return [*found, *(b for op, b in among if isinstance(op, ast.In | ast.NotIn))]


def comparisons(source: str, names: Collection[str]) -> list[str]:
    """The comparisons with one of the names, with their lines."""
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Compare | ast.MatchValue)
        and any(text in names for side in compared(node) for text in literals(side))
    ]


@pytest.mark.parametrize("module", MODULES)
def test_no_row_is_compared_by_name_outside_the_module_of_its_table(module: str) -> None:
    foreign = ROWS - set(TABLES.get(module, ()))
    assert comparisons((PACKAGE / module).read_text("utf-8"), foreign) == []


@pytest.mark.parametrize(
    "source",
    [
        "x == 'merge'",
        "'merge' != x",
        "a == b == 'merge'",
        "x in ('joint', 'merge')",
        "x not in (None, *KNOWN, 'merge')",
        "x in {'merge'} or y",
        "match x:\n    case 'merge':\n        pass",
    ],
)
def test_a_comparison_is_found(source: str) -> None:
    assert len(comparisons(source, {"merge"})) == 1


@pytest.mark.parametrize(
    "source", ["x = 'merge'", "x == MERGE", "'merge' in rows", "x == 'other'", "f('merge') == 2"]
)
def test_what_compares_no_row_is_left_alone(source: str) -> None:
    assert comparisons(source, {"merge"}) == []


def test_every_module_with_a_table_is_there() -> None:
    assert set(MODULES) >= TABLES.keys()
