"""Write protocol/vectors/traces/*.json and channels/*.json: scenes of a client, step by step, with what must hold after each.

The scenes stand in `scripts/traces/` and are played against the Python client's core, which is the reference; what each is about it
asserts itself. With --check nothing is written and the exit code says whether something would be. The form of the files is told in
the README.md of either folder.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.traces import channels, rebase, requests, sending, settling, too_big, watching
from scripts.traces.channel_scene import ChannelScene
from scripts.traces.writer import Scene

VECTORS = Path(__file__).parent.parent / "protocol" / "vectors"
TRACES = VECTORS / "traces"
CHANNELS = VECTORS / "channels"

SCENES: list[Callable[[], Scene]] = [
    *rebase.SCENES,
    *sending.SCENES,
    *too_big.SCENES,
    *watching.SCENES,
    *settling.SCENES,
]


def text_of(make: Callable[[], Scene] | Callable[[], ChannelScene]) -> str:
    """Play a scene and return its file's text: one step a line."""
    scene = make()
    head: dict[str, Any] = {"name": make.__name__.replace("_", " "), "why": inspect.getdoc(make)}
    if isinstance(scene, Scene):
        head["clients"] = scene.claimed
    lines = [json.dumps(step, ensure_ascii=True, allow_nan=False) for step in scene.steps]
    return json.dumps(head)[:-1] + ', "steps": [\n' + ",\n".join(lines) + "\n]}\n"


def files() -> dict[str, str]:
    """Return the text of every file of `TRACES` by name."""
    return {make.__name__ + ".json": text_of(make) for make in SCENES}


def channel_files() -> dict[str, str]:
    """Return the text of every file of `CHANNELS` by name."""
    scenes = [*channels.SCENES, *requests.SCENES]
    return {make.__name__ + ".json": text_of(make) for make in scenes}


def _update(folder: Path, new: dict[str, str], *, is_check: bool) -> bool:
    """Write what is not as it should be, or only look; return whether everything was."""
    stale = [path for path in folder.glob("*.json") if path.name not in new]
    changed = [
        name
        for name, text in new.items()
        if not (folder / name).exists() or (folder / name).read_text() != text
    ]
    if not is_check:
        for path in stale:
            path.unlink()
        for name in changed:
            (folder / name).write_text(new[name])
    return not stale and not changed


def main() -> int:
    """Write all files, or with --check only compare."""
    is_check = "--check" in sys.argv
    is_same = _update(TRACES, files(), is_check=is_check)
    is_same &= _update(CHANNELS, channel_files(), is_check=is_check)
    return int(is_check and not is_same)


if __name__ == "__main__":
    sys.exit(main())
