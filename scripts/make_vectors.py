"""Write protocol/vectors/*.json: frames with what they mean, or with the code they are answered with.

The cases stand in `scripts/vectors/`, the expectations beside the bytes and not computed by the code under test. With --check
nothing is written and the exit code says whether something would be. The form of the files is told in protocol/vectors/README.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from scripts.vectors import client, hostile, server, state
from scripts.vectors.case import Case

VECTORS = Path(__file__).parent.parent / "protocol" / "vectors"

FILES: dict[str, list[Case]] = {
    "client.json": [*client.CASES, *state.CLIENT],
    "hostile.json": hostile.CASES,
    "server.json": [*server.CASES, *state.SERVER],
}


def text_of(cases: list[Case]) -> str:
    """Return the file's text: one case a line, so that a change shows as one line."""
    lines = [json.dumps(case.as_json(), ensure_ascii=True, allow_nan=False) for case in cases]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def main() -> int:
    """Write all files, or with --check only compare."""
    is_same = True
    for name, cases in FILES.items():
        path = VECTORS / name
        new = text_of(cases)
        if not path.exists() or path.read_text() != new:
            is_same = False
            if "--check" not in sys.argv:
                path.write_text(new)
    return int("--check" in sys.argv and not is_same)


if __name__ == "__main__":
    sys.exit(main())
