"""Rooms stay small: past these sizes a file or function wants to be two."""

import ast
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_TEST_FILE_LINES = 500
"""More than of a room: a file of tests reads as a list, one after the other, and a test tells its scenario in one piece. Past
this it tells of several features, and who looks for the tests of one does not find them by the file's name."""

LARGER_FILES: dict[str, str] = {}
"""Path to the reason why this one may be larger."""

LARGER_FUNCTIONS: dict[str, str] = {}
"""`path:name` to the reason."""


def _sources():
    return sorted(
        path for room in ("syncd", "scripts", "bench") for path in Path(room).rglob("*.py")
    )


def _functions(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            start = first.end_lineno if has_docstring else node.lineno
            yield node.name, node.end_lineno - start


def test_no_file_has_more_than_400_lines():
    large = {
        str(path): lines
        for path in _sources()
        if (lines := len(path.read_text().splitlines())) > MAX_FILE_LINES
    }
    assert {path: lines for path, lines in large.items() if path not in LARGER_FILES} == {}
    assert set(LARGER_FILES) <= set(large), "an exception nobody needs any more"


def test_no_file_of_tests_has_more_than_500_lines():
    large = {
        str(path): lines
        for path in sorted(Path("tests").rglob("*.py"))
        if "node_modules" not in path.parts
        and (lines := len(path.read_text().splitlines())) > MAX_TEST_FILE_LINES
    }
    assert large == {}, "split it by what its tests are about"


def test_no_function_has_more_than_50_lines_besides_its_docstring():
    large = {
        f"{path}:{name}": lines
        for path in _sources()
        for name, lines in _functions(path)
        if lines > MAX_FUNCTION_LINES
    }
    assert {name: lines for name, lines in large.items() if name not in LARGER_FUNCTIONS} == {}
    assert set(LARGER_FUNCTIONS) <= set(large), "an exception nobody needs any more"
