"""What the documents point at exists."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import click
import pytest

from syncd.cli.main import cli

SKIPPED = {".venv", "node_modules", ".git", ".cache", ".pytest_cache"}
DOCUMENTS = sorted(path for path in Path().rglob("*.md") if not SKIPPED & set(path.parts))
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def _anchors(text):
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = re.sub(r"[^\w\- ]", "", heading.lower())
        yield plain.replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_every_link_resolves(path):
    broken = []
    for link in _LINK.findall(_FENCE.sub("", path.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        if not target.exists() or (anchor and anchor not in _anchors(target.read_text())):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_paths_named_in_backticks_exist(name):
    text = _FENCE.sub("", Path(name).read_text())
    named = re.findall(r"`((?:syncd|tests|docs|protocol|scripts|bench|examples)/[\w./-]+)`", text)
    assert [path for path in named if not Path(path).exists()] == []


def test_every_make_target_named_in_the_documents_exists():
    targets = set(re.findall(r"^([a-z]+):", Path("Makefile").read_text(), re.MULTILINE))
    named = {
        target for path in DOCUMENTS for target in re.findall(r"`make ([a-z]+)", path.read_text())
    }
    assert named - targets == set()


def test_decisions_are_numbered_without_gaps():
    numbers = sorted(int(path.name[:4]) for path in Path("docs/adr").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


COMMAND = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*(?:\S*/)?syncd ([a-z].*)$", re.MULTILINE)
CONTINUED = re.compile(r" *\\\n *")


def _commands_in(path):
    """Return the arguments of every `syncd ...` line in the document's blocks, without what a shell adds."""
    for block in _FENCE.findall(path.read_text()):
        for line in COMMAND.findall(CONTINUED.sub(" ", block)):
            words = shlex.split(line, comments=True)
            ends = [n for n, word in enumerate(words) if word in ("|", "&&", "&", ";", ">")]
            yield words[: min(ends, default=len(words))]


@pytest.fixture
def parse(monkeypatch):
    """Reads a command line as `syncd` would, and runs nothing."""
    monkeypatch.setattr(click.Command, "invoke", lambda _command, _context: None)
    return lambda words: cli.main(words, standalone_mode=False)


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_every_command_line_is_one_that_syncd_understands(path, parse):
    for words in _commands_in(path):
        try:
            parse(words)
        except click.BadParameter as error:
            if not error.message.endswith("does not exist."):  # a file that is only an example
                raise


def test_command_lines_are_found_and_wrong_ones_noticed(parse):
    assert sum(len(list(_commands_in(path))) for path in DOCUMENTS) > 20
    with pytest.raises(click.UsageError):
        parse(["serve", "--port", "1"])
    with pytest.raises(click.UsageError):
        parse(["cache", "stat"])


PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _programs_in(path):
    for text in PYTHON.findall(path.read_text()):
        yield compile(text, str(path), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("path", DOCUMENTS, ids=str)
def test_every_program_in_python_is_one_and_imports_what_there_is(path):
    for program in _programs_in(path):
        for node in ast.walk(program):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "syncd":
                module = importlib.import_module(node.module)
                assert [each.name for each in node.names if not hasattr(module, each.name)] == []


def test_programs_are_found():
    assert sum(len(list(_programs_in(path))) for path in DOCUMENTS) > 10
