"""20,000 worlds of the JavaScript client's simulator: tabs of two users, with everything that can go wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.soak, pytest.mark.process]

CLIENT = Path(__file__).parents[2] / "clients" / "js"
NUM_SEEDS = int(os.environ.get("SYNCD_SIM_SEEDS", "20000"))
S_A_SEED = 2.0
"""The same bound as the test's own: a seed takes 0.1 s on a core of its own."""


def test_tabs_keep_their_promises_in_every_world() -> None:
    npx = shutil.which("npx")
    assert npx is not None, "Node is missing: scripts/system_packages.sh installs it."
    subprocess.run(
        [npx, "vitest", "run", "test/simulation/simulation.test.ts"],
        cwd=CLIENT,
        env={**os.environ, "SYNCD_SIM_SEEDS": str(NUM_SEEDS)},
        check=True,
        timeout=60 + NUM_SEEDS * S_A_SEED,
    )
