"""clients/js keeps the house's rules: generated files agree with the protocol, files stay small, exports are explained."""

import os
import re
from pathlib import Path

from scripts import ts_types

ROOT = Path("clients/js")
MAX_FILE_LINES = 400
_EXPORT = re.compile(
    r"^export (?:abstract )?(?:async )?(?:const|function|class|interface|type) (\w+)"
)


def _sources(*folders):
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.ts*")
        if path.suffix in (".ts", ".tsx")
    )


def test_the_generated_types_are_what_their_script_writes():
    stale = [str(path) for path, text in ts_types.files().items() if path.read_text() != text]
    assert stale == [], "run `make protocol`"


def test_no_file_has_more_than_400_lines():
    written = [
        path for path in _sources("src", "test", "demo", "admin") if path not in _generated()
    ]
    large = {
        str(path): lines
        for path in written
        if (lines := len(path.read_text().splitlines())) > MAX_FILE_LINES
    }
    assert large == {}


def test_every_export_has_a_doc_comment():
    bare = []
    for path in _sources("src", "demo", "admin"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            found = _EXPORT.match(line)
            before = lines[number - 1] if number else ""
            # The signatures of an overloaded function share the comment of the first.
            is_overload = found and before.startswith(f"export function {found[1]}(")
            if found and not is_overload and not before.endswith("*/"):
                bare.append(f"{path}:{number + 1}")
    assert bare == []


def test_the_core_imports_nothing_of_the_shell_and_no_package():
    below = {"wire": ["wire"], "core": ["wire", "core"]}
    wrong = []
    for folder, allowed in below.items():
        for path in _sources(f"src/{folder}"):
            for name in re.findall(r'from "([^"]+)"', path.read_text()):
                target = os.path.normpath(path.parent / name)
                inside = [target.startswith(f"{ROOT}/src/{one}/") for one in allowed]
                if not (name.startswith(".") and any(inside)):
                    wrong.append(f"{path}: {name}")
    assert wrong == []


def _generated():
    return {path.relative_to(ts_types.ROOT) for path in ts_types.files()}
