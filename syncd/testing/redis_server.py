"""A real Redis for tests on a Unix socket in a folder of its own, started again with its data, without, or without the end of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from syncd.testing.redis_process import RedisBase

__all__ = ["RedisServer"]


class RedisServer(RedisBase):
    """One server process; `with` starts it and ends it.

    Args:
        folder: Its own: socket, data and log lie there. Its path must be short (a socket's has 107 bytes at most).
        options: More of the server's, such as `--maxmemory`, `10mb`.
        appendfsync: None keeps nothing on disk.
    """

    def __init__(self, folder: Path, *options: str, appendfsync: str | None = None) -> None:
        self.folder = folder
        self.path = folder / "redis.sock"
        self._options = options
        self.set_appendfsync(appendfsync)
        super().__init__(f"unix://{self.path}", folder / "redis.log")

    def _arguments(self) -> list[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        where = ["--port", "0", "--unixsocket", str(self.path), "--dir", str(self.folder)]
        return [*where, *self._keeps, *self._options]

    def set_appendfsync(self, appendfsync: str | None) -> None:
        """Keep so much on disk from the next start on."""
        keeps = ["--appendonly", "yes", "--appendfsync", appendfsync] if appendfsync else []
        self._keeps = [*keeps, "--save", ""]

    def forget(self) -> None:
        """Delete what lies on disk, between `kill` and `start`."""
        shutil.rmtree(self.folder)

    def lose_tail(self, num_bytes: int) -> None:
        """Cut what was written last, between `kill` and `start`: what a loss of power, or a failover, does where `appendfsync` is not `always`."""
        for path in sorted((self.folder / "appendonlydir").glob("*.incr.aof"))[-1:]:
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.truncate(max(0, size - num_bytes))
