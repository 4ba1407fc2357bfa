"""`syncd`, with a fault point: while the file named by $SYNCD_KILL_AT exists, the process dies right after a commit is on the disk.

A program for `ServerProcess`. The switch is read here and nowhere in the product.
"""

import os
import signal
import sys
from pathlib import Path

from syncd.cli.main import main
from syncd.store.sqlite import SqliteStore

commit = SqliteStore.commit


def commit_and_die(store):
    """Commit; then, if told so, die before anybody hears of it."""
    commit(store)
    switch = Path(os.environ["SYNCD_KILL_AT"])
    if switch.exists():
        switch.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


SqliteStore.commit = commit_and_die
sys.exit(main())
