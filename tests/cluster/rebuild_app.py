"""A collection of a slow source, that notes which process has read which row: in the file that `REBUILD_RECORD` names."""

import os
from pathlib import Path

import trio

from syncd import App

NUM_ROWS = 300
ROW_S = 0.02

record = Path(os.environ["REBUILD_RECORD"]).open("a")  # noqa: SIM115 - for as long as the process lives
app = App()
orders = app.collection("orders", read="anyone", write="anyone")


@orders.on_commit
async def keep(_change):
    await trio.lowlevel.checkpoint()


@orders.scanner(page=10)
async def scan(after):
    for number in range(NUM_ROWS):
        key = f"k{number:04}"
        if after is not None and key <= after:
            continue
        await trio.sleep(ROW_S)
        record.write(f"{os.getpid()} {key}\n")
        record.flush()
        yield key, {"n": number, "by": os.getpid()}


@orders.count
async def count():
    return NUM_ROWS
