"""What ruff's security rules cannot see, and are therefore not asked: see `lint.ignore` in pyproject.toml."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "app" / "slackwater", ROOT / "handler" / "slackwater_lambda")
APP = SOURCES[0]

CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")
SQL = re.compile(r"\b(select|insert\s+into|update\s+\w+\.|delete\s+from|where|order\s+by)\b", re.IGNORECASE)

CHECKED = frozenset({"seen.condition"})
"""Made of names of parameters only, whatever a filter says: tests/unit/identity/test_filter_sql.py."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules() -> Iterator[Path]:
    for source in SOURCES:
        yield from sorted(source.rglob("*.py"))


# SQL (S608)


class Statements:
    """The SQL that a module composes while it serves: in its coroutines, as everything else is composed when it is imported."""

    def __init__(self, text: str) -> None:
        tree = ast.parse(text)
        self.calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        self.functions = [node for node in ast.walk(tree) if isinstance(node, Function)]
        self.literal = {
            function.name
            for function in self.functions
            if function.returns is not None and "LiteralString" in ast.unparse(function.returns)
        }

    def strays(self) -> Iterator[str]:
        """What gets into SQL and is not fixed, with its line."""
        for function in self.functions:
            if not isinstance(function, ast.AsyncFunctionDef):
                continue
            for string in ast.walk(function):
                if isinstance(string, ast.JoinedStr) and self.is_sql(string):
                    yield from (
                        f"{part.lineno}: {ast.unparse(part.value)}"
                        for part in string.values
                        if isinstance(part, ast.FormattedValue) and not self.is_fixed(part.value, function)
                    )

    def is_sql(self, string: ast.JoinedStr) -> bool:
        text = "".join(str(part.value) for part in string.values if isinstance(part, ast.Constant))
        return SQL.search(text) is not None

    def is_fixed(self, value: ast.expr, function: Function) -> bool:
        """Whether it is one of some strings in the source, whatever a caller sends."""
        match value:
            case ast.Constant():
                return True
            case ast.Attribute() if ast.unparse(value) in CHECKED:
                return True
            case ast.Attribute(attr=name):
                return CONSTANT.fullmatch(name) is not None
            case ast.Name(id=name):
                given = self.given_to(name, function)
                return CONSTANT.fullmatch(name) is not None or (
                    bool(given) and all(self.is_fixed(each, function) for each in given)
                )
            case ast.Subscript(value=table):
                return self.is_fixed(table, function)
            case ast.IfExp(body=one, orelse=other) | ast.BinOp(left=one, right=other):
                return self.is_fixed(one, function) and self.is_fixed(other, function)
            case ast.JoinedStr(values=parts):
                return all(
                    self.is_fixed(part.value, function)
                    for part in parts
                    if isinstance(part, ast.FormattedValue)
                )
            case ast.Call(
                func=ast.Attribute(value=ast.Constant(), attr="join"), args=[ast.GeneratorExp(elt=part)]
            ):
                return self.is_fixed(part, function)
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return name in self.literal or all(self.is_fixed(each, function) for each in arguments)
        return False

    def given_to(self, name: str, function: Function) -> list[ast.expr]:
        """What a local name is set to, or the module itself gives to a private function under that name."""
        found: list[ast.expr] = []
        parameters = [each.arg for each in function.args.args]
        if name in parameters and function.name.startswith("_"):
            calls = [each for each in self.calls if ast.unparse(each.func) == function.name]
            found += [each.args[parameters.index(name)] for each in calls]
        for node in ast.walk(function):
            if isinstance(node, ast.Assign):
                names = [
                    each.id
                    for target in node.targets
                    for each in ast.walk(target)
                    if isinstance(each, ast.Name)
                ]
                found += [node.value] if name in names else []
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found += [node.value] if node.target.id == name and node.value is not None else []
        return found


def test_no_value_of_a_request_gets_into_sql() -> None:
    strays = [
        f"{module.relative_to(APP)}:{stray}"
        for module in modules()
        if module.name == "queries.py"
        or {"runtime", "postgres"} & set(module.parts)  # elsewhere ruff is asked
        for stray in Statements(module.read_text()).strays()
    ]

    assert strays == []


@pytest.mark.parametrize(
    ("value", "fixed"),
    [
        ("_COLUMNS", True),
        ("queue.DUE", True),
        ("_NAMES[query.sort_by]", True),
        ("'asc' if query.up else 'desc'", True),
        ("', '.join(_NAMES[name] for name in query.select)", True),
        ("local", True),
        ("query.sort_by", False),
        ("other", False),
        ("', '.join(query.select)", False),
        ("', '.join(name for name in query.select)", False),
        ("f'{_A} {query.b}'", False),
        ("query.text.replace('a', 'b')", False),
        ("str(query.limit)", False),
    ],
)
def test_such_a_value_is_recognised(value: str, fixed: bool) -> None:
    """Or the test above would find nothing anywhere."""
    source = f"""
async def search(query):
    local = _A if query.a else 'b'
    other = query.a or 'b'
    return f"select * from t order by {{{value}}}"
"""
    assert (list(Statements(source).strays()) == []) is fixed


# Assertions (S101)


def tells_a_type(test: ast.expr) -> bool:
    """`x is not None` or `isinstance(x, …)`: what the code around knows and a type checker does not."""
    match test:
        case ast.Compare(ops=[ast.IsNot()], comparators=[ast.Constant(value=None)]):
            return True
        case ast.Call(func=ast.Name(id="isinstance")):
            return True
        case ast.BoolOp(op=ast.And(), values=parts):
            return all(map(tells_a_type, parts))
    return False


def test_an_assertion_tells_a_type_and_decides_nothing() -> None:
    """As `python -O` leaves them out."""
    deciding = [
        f"{module.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node.test)}"
        for module in modules()
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Assert) and not tells_a_type(node.test)
    ]

    assert deciding == []


def test_an_assertion_that_decides_is_recognised() -> None:
    def of(text: str) -> bool:
        return tells_a_type(ast.parse(text, mode="eval").body)

    assert of("a is not None and isinstance(b, str)")
    assert not of("owner == found.owner")
    assert not of("a is not None or allowed")
