"""Let memory that large values leave go back to the system at once.

glibc keeps a freed block for reuse when it is below a threshold, and raises that threshold to the largest block freed so far, up to
32 MiB. Values of many sizes then leave gaps: a storm of 0.1 to 3 MB values over 200 MB of limit held 350 to 400 MB in four threads.
With the threshold fixed at 256 KiB it held 205. The price is about 0.25 ms of page faults for each megabyte allocated in blocks
above it, in the whole process.
"""

from __future__ import annotations

import ctypes
import os
import threading

__all__ = ["LARGE_LIMIT_BYTES", "THRESHOLD_BYTES", "return_large_blocks"]

LARGE_LIMIT_BYTES = 32 * 2**20
"""Caches limited to less cannot leave gaps worth a change to the process."""

THRESHOLD_BYTES = 256 * 1024
"""Blocks above it go back at once. The largest value that collections hold by default is just that large: they leave it as it is."""

_M_MMAP_THRESHOLD = -3
_DECIDED_BY = ("MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Whoever sets one of these in the environment has decided for themselves."""

_lock = threading.Lock()
_state = {"is_done": False}


def return_large_blocks() -> bool:
    """Fix the threshold, once a process. Returns whether it is fixed: not where the C library or the environment says otherwise."""
    with _lock:
        if not _state["is_done"] and not any(name in os.environ for name in _DECIDED_BY):
            try:
                mallopt = ctypes.CDLL(None).mallopt
            except (AttributeError, OSError, TypeError):  # not glibc
                return False
            _state["is_done"] = bool(mallopt(_M_MMAP_THRESHOLD, THRESHOLD_BYTES))
        return _state["is_done"]
