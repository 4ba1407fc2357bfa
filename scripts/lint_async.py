"""Run flake8-async for the rules ruff lacks, over every tracked Python file of the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_DISABLED = (
    "ASYNC114",  # fires on every actor that forwards task_status
    "ASYNC128",  # the same
    "ASYNC910",  # "checkpoints on every path" is not our contract: sync cores answer at once
    "ASYNC911",  # the same
    "ASYNC912",  # the same family; it cannot see that a loop inside always waits
    "ASYNC913",  # the same family; a supervised loop always waits in its nursery
    "ASYNC124",  # handlers and methods of a Protocol are async because their callers are
    "ASYNC127",  # httpx is what the frameworks of our users bring; moving on is theirs to begin
    "ASYNC200",  # needs a list of blocking calls; ruff's ASYNC2xx cover ours
)


def main() -> int:
    """Return flake8-async's exit code."""
    files = sorted(str(path) for path in Path("syncd").rglob("*.py"))
    program = Path(sys.executable).with_name("flake8-async")
    # The rebuild closes what a scanner makes (`rebuild_coordinator.reading`), which is what ASYNC900 is about.
    scanners = "--transform-async-generator-decorators=*.scanner"
    return subprocess.run(
        [program, "--disable", ",".join(_DISABLED), scanners, *files], check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
