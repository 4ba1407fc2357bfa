"""Several nodes on one store in simulated trouble: what one commits reaches clients of all, once and in order, whatever is lost on the way.

In a third of the seeds another store takes over that lacks the end of what was acknowledged: then epochs are new, clients are reset, and no
position is told of two events.
"""

import os
from collections import Counter

import pytest

from syncd.testing.simulation import run_seed
from syncd.testing.simulation.cluster_bugs import CLUSTER_BUGS

NUM_SEEDS = int(os.environ.get("SYNCD_CLUSTER_SEEDS", "18"))
NUM_SOAK_SEEDS = int(os.environ.get("SYNCD_CLUSTER_SOAK_SEEDS", "2000"))
SOAK_CHUNK = 50
NODES = 3

MUST_HAPPEN = {
    "acknowledged", "acknowledged and lost", "audits", "buses cut", "conflicts", "crashes after commit", "crashes anywhere", "crashes before commit",
    "events lost", "failovers", "forwarded", "invalidations", "late commits", "mutations deduplicated", "mutations resent", "new epochs",
    "outcomes ok", "outcomes rejected", "read back", "reads judged", "recovered", "settled runs", "stops", "store away", "watches recovered",
}  # fmt: skip
"""Counters without which a batch of seeds proves nothing."""


def play(seeds):
    totals = Counter()
    for seed in seeds:
        verdict = run_seed(seed, num_nodes=NODES)
        assert not verdict.breaches, "\n".join([*verdict.breaches, f"replay: {verdict.replay}"])
        totals.update(verdict.counts)
    return totals


@pytest.mark.slow
def test_no_promise_is_broken_between_nodes_in_any_of_these_seeds():
    totals = play(range(NUM_SEEDS))
    assert MUST_HAPPEN - set(totals) == set()


@pytest.mark.slow
def test_a_seed_of_several_nodes_does_the_same_every_time():
    first, second = run_seed(3, num_nodes=NODES), run_seed(3, num_nodes=NODES)
    assert first.fingerprint == second.fingerprint


@pytest.mark.soak
@pytest.mark.parametrize("bug", sorted(CLUSTER_BUGS))
def test_each_bug_between_nodes_is_found_within_200_seeds(bug):
    assert any(run_seed(seed, bug=bug, num_nodes=NODES).breaches for seed in range(200))


@pytest.mark.soak
@pytest.mark.parametrize("start", range(0, NUM_SOAK_SEEDS, SOAK_CHUNK))
def test_no_promise_is_broken_between_nodes_in_any_of_many_seeds(start):
    play(range(start, min(start + SOAK_CHUNK, NUM_SOAK_SEEDS)))
