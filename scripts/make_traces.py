"""Write protocol/vectors/traces/*.json: scenes of a client, step by step, with what must be visible after each.

The scenes stand in `scripts/traces/` and are played against the Python client's core, which is the reference; what each is about it
asserts itself. With --check nothing is written and the exit code says whether something would be. The form of the files is told in
protocol/vectors/traces/README.md.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path

from scripts.traces import rebase, sending, settling, watching
from scripts.traces.writer import Scene

TRACES = Path(__file__).parent.parent / "protocol" / "vectors" / "traces"

SCENES: list[Callable[[], Scene]] = [
    *rebase.SCENES,
    *sending.SCENES,
    *watching.SCENES,
    *settling.SCENES,
]


def text_of(make: Callable[[], Scene]) -> str:
    """Play a scene and return its file's text: one step a line."""
    scene = make()
    head = {"name": make.__name__.replace("_", " "), "why": inspect.getdoc(make)}
    lines = [json.dumps(step, ensure_ascii=True, allow_nan=False) for step in scene.steps]
    opening = json.dumps(head)[:-1] + ', "clients": ' + json.dumps(scene.claimed)
    return opening + ', "steps": [\n' + ",\n".join(lines) + "\n]}\n"


def files() -> dict[str, str]:
    """Return the text of every file by name."""
    return {make.__name__ + ".json": text_of(make) for make in SCENES}


def main() -> int:
    """Write all files, or with --check only compare."""
    is_check = "--check" in sys.argv
    new = files()
    stale = [path for path in TRACES.glob("*.json") if path.name not in new]
    changed = [
        name
        for name, text in new.items()
        if not (TRACES / name).exists() or (TRACES / name).read_text() != text
    ]
    if not is_check:
        for path in stale:
            path.unlink()
        for name in changed:
            (TRACES / name).write_text(new[name])
    return int(is_check and bool(stale or changed))


if __name__ == "__main__":
    sys.exit(main())
