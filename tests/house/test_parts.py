"""The test runner forgets no folder."""

from pathlib import Path

from scripts.run_tests import PACKAGES, PARTS


def test_every_folder_of_tests_belongs_to_exactly_one_part():
    folders = [name for part in PARTS for name in part.folders]
    assert len(folders) == len(set(folders))
    with_tests = {path.relative_to("tests").parts[0] for path in Path("tests").rglob("test_*.py")}
    assert with_tests <= set(folders)


def test_every_package_of_clients_has_a_part():
    folders = {str(path.parent) for path in Path("clients").glob("*/package.json")}
    assert folders == {part.folder for part in PACKAGES}
