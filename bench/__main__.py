"""`python -m bench [--quick] [--only NAME]...`: measure, print the table, keep the figures."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import urllib.parse
from collections.abc import Collection
from pathlib import Path

from bench.history import History, best_of, read_history
from bench.process import LOAD_CORE, SERVER_CORE, Attached, preferred
from bench.report import Row, machine, save, table
from bench.scenarios import FULL, QUICK, SCENARIOS, Plan, Scenario
from bench.targets import Lab
from bench.worker import LoadFailed, raise_file_limit

_FILES = 12_000
_RESULTS = Path(__file__).parent / "results"
_ATTEMPTS = 3
"""Measurements of a scenario with a ratio worse than its history, before that is believed."""


def _arguments() -> argparse.Namespace:
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="fewer, shorter rounds: under 3 minutes"
    )
    parser.add_argument("--only", action="append", choices=names, help="this scenario (repeatable)")
    parser.add_argument("--no-save", action="store_true", help="do not keep the figures")
    parser.add_argument(
        "--accept", action="store_true", help="let this run count as history though it is worse"
    )
    parser.add_argument("--url", help="measure a running server, pinned by you (needs --pid)")
    parser.add_argument("--pid", type=int, help="process id of the server at --url")
    parser.add_argument(
        "--profile", type=Path, metavar="DIR", help="sample syncd with py-spy (figures not kept)"
    )
    parser.add_argument(
        "--nice",
        type=int,
        default=0,
        help="priority for all processes of the bench; -15 on a busy machine (needs root)",
    )
    arguments = parser.parse_args()
    if (arguments.url is None) != (arguments.pid is None):
        parser.error("--url and --pid go together")
    return arguments


def _measure(scenario: Scenario, lab: Lab, plan: Plan) -> tuple[list[Row], str | None]:
    """Run one scenario; a failed one is told and does not stop the others."""
    started = time.monotonic()
    budget = scenario.budget_s * (1 if plan is QUICK else 4)
    print(f"{scenario.name}: up to about {budget:.0f} s", end="", file=sys.stderr, flush=True)
    try:
        return scenario.run(lab, plan), None
    except (LoadFailed, RuntimeError, OSError):
        return [], traceback.format_exc()
    finally:
        lab.stop()
        print(f" ... took {time.monotonic() - started:.0f} s", file=sys.stderr)


def _run(
    names: Collection[str], profile: Path | None, plan: Plan, attached: Attached | None
) -> tuple[list[Row], list[str]]:
    """Run the scenarios of these names, all if there is none."""
    lab = Lab(attached, profile)
    rows: list[Row] = []
    failures: list[str] = []
    try:
        for scenario in SCENARIOS:
            if not names or scenario.name in names:
                found, failure = _measure(scenario, lab, plan)
                rows += found
                if failure is not None:
                    failures.append(f"{scenario.name} failed:\n{failure}")
    finally:
        lab.close()
    return rows, failures


def _again(
    rows: list[Row],
    history: History,
    arguments: argparse.Namespace,
    plan: Plan,
    attached: Attached | None,
) -> list[Row]:
    """Measure again what looks worse than its history; returns the best of each ratio."""
    for _ in range(_ATTEMPTS - 1):
        names = {each.figure[0] for each in history.worse(rows)}
        if not names:
            break
        print(f"Worse than recorded, measured again: {', '.join(sorted(names))}", file=sys.stderr)
        rows = best_of(rows, _run(names, arguments.profile, plan, attached)[0])
    return rows


def main() -> int:
    """Return 0 when every promise held and no ratio is worse than recorded, 1 when not, 2 when a scenario failed."""
    arguments = _arguments()
    if raise_file_limit() < _FILES:
        print(f"10,000 connections need {_FILES} open files (ulimit -n).", file=sys.stderr)
        return 2
    if SERVER_CORE == LOAD_CORE:
        print(
            "One core only: server and load generator share it, figures are worse.", file=sys.stderr
        )
    attached = None
    if arguments.url is not None:
        attached = Attached(urllib.parse.urlsplit(arguments.url).port or 80, arguments.pid)
    plan = QUICK if arguments.quick else FULL
    facts = {**machine(), "plan": "quick" if arguments.quick else "full"}
    facts["nice"] = arguments.nice
    print(", ".join(f"{name} {value}" for name, value in facts.items()), file=sys.stderr)
    with preferred(arguments.nice):
        rows, failures = _run(arguments.only or (), arguments.profile, plan, attached)
        history = read_history(_RESULTS, facts)
        rows = _again(rows, history, arguments, plan, attached)
    print(table(rows))
    print("\n".join(failures), file=sys.stderr)
    worse = history.worse(rows)
    print(f"\nCompared with {history.num_runs} recorded runs on such a machine.")
    for each in worse:
        print(f"WORSE {each.text()}")
    if not arguments.no_save and arguments.profile is None and not failures:
        facts["is_worse"] = bool(worse) and not arguments.accept
        print(f"\nKept in {save(rows, facts, _RESULTS)}")
    is_missed = any(row.is_met is False for row in rows) or (bool(worse) and not arguments.accept)
    return 2 if failures else int(is_missed)


if __name__ == "__main__":
    sys.exit(main())
