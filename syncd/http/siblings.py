"""The workers that share this one's port: each answers the others' question for its metrics, so that a scrape of any tells all.

Owns one Unix socket in the workers' folder, which their parent made and which only their user may enter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import trio

from syncd.config import WorkerSeat
from syncd.http.merged_metrics import merge_metrics

__all__ = ["Siblings"]

ANSWER_S = 1.0
"""A worker that does not answer in time is told as down; a scrape has 10 s by default."""
_MAX_BYTES = 8_388_608
_END = b"# EOF\n"
"""What a whole answer ends with, as in OpenMetrics: half a number is a number, too."""


class Siblings:
    """One worker's place among the others."""

    def __init__(self, seat: WorkerSeat) -> None:
        self._seat = seat
        self.tell: Callable[[], bytes] = bytes
        """Returns this worker's own metrics; given by whoever counts."""

    def _path(self, index: int) -> Path:
        return Path(self._seat.socket_of(index))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer the others, until cancelled."""
        path = self._path(self._seat.index)
        path.unlink(missing_ok=True)  # of the process that had this seat before
        with trio.socket.socket(trio.socket.AF_UNIX) as sock:
            await sock.bind(str(path))
            sock.listen(self._seat.count)
            task_status.started()
            await trio.serve_listeners(self._answer, [trio.SocketListener(sock)])

    async def _answer(self, stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(ANSWER_S):
            await stream.send_all(self.tell() + _END)
        await trio.aclose_forcefully(stream)

    async def text_of_all(self) -> str:
        """Return the metrics of every worker that answers within a second, and who does."""
        seat = self._seat
        texts = {seat.index: self.tell()}
        async with trio.open_nursery() as nursery:
            for index in range(seat.count):
                if index != seat.index:
                    nursery.start_soon(self._ask, index, texts)
        by_worker = {str(index): texts[index].decode() for index in sorted(texts)}
        ups = (f'syncd_worker_up{{worker="{n}"}} {float(n in texts)}\n' for n in range(seat.count))
        head = (
            "# HELP syncd_worker_up 1 while the worker tells its metrics.\n"
            "# TYPE syncd_worker_up gauge\n"
        )
        return merge_metrics(by_worker) + head + "".join(ups)

    async def _ask(self, index: int, texts: dict[int, bytes]) -> None:
        text = bytearray()
        with trio.move_on_after(ANSWER_S), contextlib.suppress(OSError, trio.BrokenResourceError):
            async with await trio.open_unix_socket(str(self._path(index))) as stream:
                async for chunk in stream:
                    text += chunk
                    if len(text) > _MAX_BYTES:
                        return
            if text.endswith(_END):
                texts[index] = bytes(text.removesuffix(_END))
