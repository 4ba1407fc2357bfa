"""How many examples a property test tries: few where everybody waits for it, many in the soak."""

import os

SOAK_TIMES = 20


def examples(quick):
    """`quick` of them; twenty times as many under `HYPOTHESIS_PROFILE=soak`, which `make soak` sets."""
    return quick * (SOAK_TIMES if os.environ.get("HYPOTHESIS_PROFILE") == "soak" else 1)
