"""What is published is whole: of Python here; of JavaScript see clients/js/scripts/pack.mjs."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = Path("syncd", "http", "static")


def _contents(kind):
    builders = pytest.importorskip(f"hatchling.builders.{kind}", reason="make test installs it")
    builder = getattr(builders, f"{kind.title()}Builder")(str(ROOT))
    return {Path(file.distribution_path) for file in builder.recurse_included_files()}


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_what_is_built_for_python_has_every_page_of_the_node(kind):
    pages = {path.relative_to(ROOT) for path in (ROOT / PAGES).rglob("*.*")}
    assert PAGES / "board" / "board.js" in pages
    assert pages - _contents(kind) == set()


def test_the_wheel_has_nothing_but_the_package():
    assert {path.parts[0] for path in _contents("wheel")} == {"syncd"}


def test_the_wheel_says_that_its_types_are_told():
    """Without the file type checkers look at nothing in an installed package (PEP 561)."""
    assert Path("syncd", "py.typed") in _contents("wheel")
