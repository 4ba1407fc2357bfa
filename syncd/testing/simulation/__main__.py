"""Play seeds from the command line: `python -m syncd.testing.simulation --seed 7 --trace`."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from syncd.testing.simulation.bugs import BUGS
from syncd.testing.simulation.cluster_bugs import CLUSTER_BUGS
from syncd.testing.simulation.run import Verdict, run_seed

__all__ = ["main"]


def main() -> int:
    """Play what the arguments say; exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m syncd.testing.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds from there")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--bug", choices=sorted({**BUGS, **CLUSTER_BUGS}), help="plant a bug first")
    parser.add_argument(
        "--hunt",
        action="store_true",
        help="find the first seed for each bug, of several nodes if there are some",
    )
    parser.add_argument("--nodes", type=int, default=1, help="how many share one store")
    options = parser.parse_args()
    if options.hunt:
        bugs = list(BUGS if options.nodes == 1 else CLUSTER_BUGS)
        seeds = range(options.seed, options.seed + options.count)
        return hunt([options.bug] if options.bug else bugs, seeds, options.nodes)
    totals: Counter[str] = Counter()
    num_bad = 0
    started = time.process_time()
    for seed in range(options.seed, options.seed + options.count):
        verdict = run_seed(seed, bug=options.bug, is_traced=options.trace, num_nodes=options.nodes)
        totals.update(verdict.counts)
        for line in verdict.trace:
            print(line)
        if verdict.breaches:
            num_bad += 1
            tell(verdict)
    took_s = time.process_time() - started
    print(f"{options.count} seeds, {num_bad} bad, {took_s / options.count:.3f} s of CPU each")
    for name, count in sorted(totals.items()):
        print(f"  {name}: {count}")
    return 1 if num_bad else 0


def hunt(bugs: list[str], seeds: range, num_nodes: int) -> int:
    """Print the first seed that catches each bug; exit code 1 when one gets away."""
    got_away = 0
    for bug in bugs:
        for candidate in seeds:
            verdict = run_seed(candidate, bug=bug, num_nodes=num_nodes)
            if verdict.breaches:
                print(f"{bug}: seed {candidate}: {verdict.breaches[0]}", flush=True)
                break
        else:
            got_away += 1
            print(f"{bug}: gets away", flush=True)
    return min(got_away, 1)


def tell(verdict: Verdict) -> None:
    """Print what was broken and how to see it again."""
    print(f"seed {verdict.plan.seed} breaks promises:")
    for breach in verdict.breaches:
        print(f"  {breach}")
    print(f"  replay: {verdict.replay}")


if __name__ == "__main__":
    sys.exit(main())
