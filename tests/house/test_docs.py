"""What the documents point at exists."""

import re
from pathlib import Path

import pytest

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
