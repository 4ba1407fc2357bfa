"""Floors: the least a Python process can do for the same bytes. `python -m bench.floor fanout|echo PORT [PAYLOAD_BYTES]`.

`fanout` waits for a trigger and makes one non-blocking `send` of the same bytes per delivery, and nothing else. `echo` is one epoll,
one `recv` and one `send` a message.
"""

from __future__ import annotations

import gc
import select
import socket
import sys
from collections.abc import Callable

__all__ = ["frame_of"]

_TRIGGER_BYTES = 12


def frame_of(sequence: bytes, padding: bytes) -> bytes:
    """An unmasked WebSocket frame: eight bytes of number and padding."""
    size = len(sequence) + len(padding)
    head = bytes((0x82, size)) if size < 126 else b"\x82\x7e" + size.to_bytes(2, "big")
    return head + sequence + padding


def _listen(port: int) -> socket.socket:
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _read_line(sock: socket.socket) -> list[str]:
    line = b""
    while not line.endswith(b"\n"):
        got = sock.recv(64)
        if not got:
            return []
        line += got
    return line.decode().split()


def fanout(port: int, payload_bytes: int) -> None:
    """Accept subscribers until the publisher comes, then serve its triggers: `channel (4) number (8)`."""
    listener = _listen(port)
    sends: dict[int, list[Callable[[bytes], int]]] = {}
    padding = bytes(payload_bytes - 8)
    kept: list[socket.socket] = []
    while True:
        sock, _ = listener.accept()
        words = _read_line(sock)
        if not words:
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kept.append(sock)
        sock.send(b"+")
        if words[0] == "pub":
            break
        sock.setblocking(False)  # noqa: FBT003 - its only argument
        sends.setdefault(int(words[1].rpartition(":")[2]), []).append(sock.send)
    gc.disable()
    _serve(sock, sends, padding)


def _serve(
    publisher: socket.socket, sends: dict[int, list[Callable[[bytes], int]]], padding: bytes
) -> None:
    left = b""
    while True:
        got = publisher.recv(4096)
        if not got:
            return
        data = left + got
        end = len(data) - len(data) % _TRIGGER_BYTES
        left = data[end:]
        for at in range(0, end, _TRIGGER_BYTES):
            frame = frame_of(data[at + 4 : at + _TRIGGER_BYTES], padding)
            for send in sends[int.from_bytes(data[at : at + 4], "big")]:
                send(frame)


def echo(port: int) -> None:
    """Send back what comes."""
    listener = _listen(port)
    listener.setblocking(False)  # noqa: FBT003 - its only argument
    epoll = select.epoll()
    epoll.register(listener.fileno(), select.EPOLLIN)
    sockets: dict[int, socket.socket] = {}
    lanes: dict[int, tuple[Callable[[int], bytes], Callable[[bytes], int]]] = {}
    gc.disable()
    while True:
        for fd, _ in epoll.poll(-1, 512):
            lane = lanes.get(fd)
            if lane is None:
                sock, _ = listener.accept()
                sock.setblocking(False)  # noqa: FBT003 - its only argument
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                epoll.register(sock.fileno(), select.EPOLLIN)
                sockets[sock.fileno()] = sock
                lanes[sock.fileno()] = sock.recv, sock.send
                continue
            data = lane[0](16_384)
            if data:
                lane[1](data)
            else:
                epoll.unregister(fd)
                del lanes[fd]
                sockets.pop(fd).close()


if __name__ == "__main__":
    if sys.argv[1] == "fanout":
        fanout(int(sys.argv[2]), int(sys.argv[3]))
    else:
        echo(int(sys.argv[2]))
