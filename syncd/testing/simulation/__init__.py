"""A whole node and its clients in one Trio run: virtual time, seeded scheduling, links that fail, crashes that lose what was not synced.

`run_seed` plays one seed and returns a `Verdict`; `python -m syncd.testing.simulation` does so from the command line. What is simulated is the
world (links, disk latency, death of the process, clocks, chance); sessions, actors, the SQLite store and the client's core are the real ones.
"""

from syncd.testing.simulation.plan import Plan
from syncd.testing.simulation.run import Verdict, run_plan, run_seed

__all__ = ["Plan", "Verdict", "run_plan", "run_seed"]
