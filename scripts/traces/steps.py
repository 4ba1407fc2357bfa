"""Steps that every scene has: frames that come, a connection that ends, time that passes."""

from __future__ import annotations

from typing import Any

from scripts.vectors.case import pack, plain
from syncd.client.core import ClientCore

__all__ = ["Steps"]


class Steps:
    """What both kinds of scenes do to the core. A scene writes its steps down in `_step`."""

    core: ClientCore
    now: float

    def _step(self, do: str, **fields: Any) -> object:
        raise NotImplementedError

    def receive(self, *messages: list[Any]) -> None:
        """One frame comes."""
        frame = b"".join(map(pack, messages))
        self.core.receive(frame, self.now)
        self._step("receive", hex=frame.hex(), decoded=plain(list(messages)))

    def lose(self, code: int = 1006) -> None:
        """The connection ends."""
        self.core.closed(self.now, code)
        self._step("lose", code=code)

    def time(self, seconds: float) -> None:
        """Time passes, and nothing else."""
        self.now += seconds
        self.core.tick(self.now)
        self._step("time", now_ms=int(self.now * 1000))
