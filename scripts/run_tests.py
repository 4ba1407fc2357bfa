"""Run the tests in parts, each against a printed time budget, and hold the coverage gates.

Usage: python -m scripts.run_tests [PART...]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import attrs

PATIENCE = 5
"""A part that takes this many times its budget hangs, and is killed."""

DATA = Path(".cache/coverage")


@attrs.frozen
class Part:
    """One group of test folders."""

    name: str
    folders: tuple[str, ...]
    budget_s: int
    is_measured: bool = True
    """Whether its coverage counts."""
    workers_per_core: float = 0.0
    """0: one process. Tests that own their clocks, or wait for conditions, do not mind each other; where they wait for servers, more of
    them than there are cores leave none idle."""


PARTS = (
    Part("house", ("house",), 40, is_measured=False),
    Part(
        "unit",
        ("wire", "model", "cache", "actors", "gateway", "http", "cli", "bench", "bus"),
        60,
        workers_per_core=1,
    ),
    Part("signals", ("signals",), 40),
    Part("conformance", ("conformance",), 60, workers_per_core=1),
    Part("simulation", ("simulation",), 120, is_measured=False, workers_per_core=1),
    Part("integration", ("integration", "soak"), 420, workers_per_core=1.5),
    Part("cluster", ("cluster",), 180, is_measured=False),
    Part("e2e", ("e2e",), 180, is_measured=False, workers_per_core=1),
)
"""Every folder of tests/ belongs to exactly one part; a house test says so."""


@attrs.frozen
class PackagePart:
    """The checks of one npm package: its script `check`."""

    name: str
    folder: str
    budget_s: int


PACKAGES = (PackagePart("js", "clients/js", 180),)


@attrs.frozen
class Gate:
    """Least coverage, lines and branches together, of some files."""

    include: str
    percent: int


GATES = (Gate("syncd/wire/*", 85), Gate("syncd/model/*", 85), Gate("syncd/*", 80))


def num_cores() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_part(part: Part) -> bool:
    """Run one part and print how it went against its budget."""
    folders = [
        f"tests/{name}" for name in part.folders if any(Path("tests", name).glob("**/test_*.py"))
    ]
    if not folders:
        print(f"== {part.name}: no tests", flush=True)
        return True
    print(f"== {part.name}: {' '.join(folders)} (budget {part.budget_s} s)", flush=True)
    measure = ["-m", "coverage", "run"] if part.is_measured else []
    num_workers = int(part.workers_per_core * num_cores())
    spread = ["-n", str(num_workers), "--dist", "worksteal"] if num_workers else []
    command = [sys.executable, *measure, "-m", "pytest", "-q", "-m", "not soak", *spread, *folders]
    return run_timed(part.name, command, part.budget_s)


def run_package(part: PackagePart) -> bool:
    """Lint, check, test and build one npm package, whose modules `make npm` has installed."""
    print(f"== {part.name}: {part.folder} (budget {part.budget_s} s)", flush=True)
    os.environ["SYNCD_PYTHON"] = sys.executable
    return run_timed(part.name, ["npm", "run", "--silent", "check"], part.budget_s, part.folder)


def run_timed(name: str, command: list[str], budget_s: int, folder: str = ".") -> bool:
    """Run a command in a folder and print how it went against its budget."""
    started = time.monotonic()
    try:
        timeout_s = budget_s * PATIENCE
        code = subprocess.run(command, timeout=timeout_s, check=False, cwd=folder).returncode
    except subprocess.TimeoutExpired:
        code = -1
    took_s = time.monotonic() - started
    word = "ok" if code == 0 else "killed, it hung" if code == -1 else "FAILED"
    over = " - over budget" if took_s > budget_s else ""
    print(f"== {name}: {word}, {took_s:.1f} s of {budget_s} s{over}\n", flush=True)
    return code == 0


def hold_gates() -> bool:
    """Combine what was measured and compare it with the gates."""
    coverage = [sys.executable, "-m", "coverage"]
    subprocess.run([*coverage, "combine", "--quiet"], check=True)
    is_held = True
    for gate in GATES:
        print(f"== coverage of {gate.include}, at least {gate.percent} %", flush=True)
        report = [*coverage, "report", f"--include={gate.include}", f"--fail-under={gate.percent}"]
        is_held &= subprocess.run(report, check=False).returncode == 0
    return is_held


def main() -> int:
    """Run the named parts, or all of them and the gates."""
    names = sys.argv[1:]
    unknown = set(names) - {part.name for part in (*PARTS, *PACKAGES)}
    if unknown:
        print(f"No such part: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would each compile all
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(Path(".cache/hypothesis").resolve()))
    parts = [part for part in PARTS if not names or part.name in names]
    failed = [part.name for part in parts if not run_part(part)]
    packages = [part for part in PACKAGES if not names or part.name in names]
    failed += [part.name for part in packages if not run_package(part)]
    if not names and not failed and not hold_gates():
        failed.append("coverage")
    print(f"FAILED: {', '.join(failed)}" if failed else "All tests passed.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
