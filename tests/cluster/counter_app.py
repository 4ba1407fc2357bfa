"""The application of the kill scenarios: counters that clients add to."""

from syncd import App

app = App()
counters = app.collection("counters", history_size=1_000_000)


@counters.mutator
def add(tx, key: str):
    return tx.incr(key)
