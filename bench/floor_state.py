"""The floor of mutations: `python -m bench.floor_state FILE COUNT` writes the rows of COUNT mutations in a bare SQLite loop.

An event, the entry, its client's `last` and an outcome each, batches of 100, the file and PRAGMAs of the store, every entry there
before. Prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.store_mutations import NUM_ENTRIES, make_mutations, run_bare

_BATCH = 100


def run(path: Path, count: int) -> dict[str, float]:
    """Write them; rows are prepared outside the clock."""
    mutations = make_mutations(count, num_channels=1, num_first=NUM_ENTRIES)
    timing = run_bare(path, mutations, _BATCH, NUM_ENTRIES)
    return {"rows": count, "wall_s": timing.elapsed_s, "cpu_s": timing.cpu_s}


if __name__ == "__main__":
    print(json.dumps(run(Path(sys.argv[1]), int(sys.argv[2]))))
