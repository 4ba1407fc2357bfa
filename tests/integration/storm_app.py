"""The application of the storm: values of 0.1 to 3 MB, made anew by a loader, in front of which the node caches."""

import trio

from syncd import App

app = App()
blobs = app.collection(
    "blobs", ttl="1 h", volatile=True, max_bytes="200 MB", max_value_bytes="4 MB", read="anyone"
)


@blobs.loader
async def load(key: str):
    """Return text or bytes; the key says which, and how much."""
    await trio.lowlevel.checkpoint()
    size, number = map(int, key.split("-"))
    fill = chr(97 + number % 26)
    return fill * size if number % 2 else fill.encode() * size
