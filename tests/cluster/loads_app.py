"""A collection of an expensive source, that notes which process asks it, and answers once the gate is there: files in the folder that `LOADS_FOLDER` names."""

import os
from pathlib import Path

import trio

from syncd import App

folder = Path(os.environ["LOADS_FOLDER"])
app = App()
reports = app.collection(
    "reports", read="anyone", ttl="1 h", load_timeout="60 s", single_flight="cluster"
)


@reports.loader
async def load(key):
    with (folder / "record").open("a") as record:
        record.write(f"{os.getpid()}\n")
    while not (folder / "gate").exists():  # noqa: ASYNC110 - another process makes it
        await trio.sleep(0.02)
    return {"by": os.getpid(), "of": key}
