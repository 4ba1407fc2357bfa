"""One test vector and how it is written down."""

from __future__ import annotations

from typing import Any

import attrs
import msgpack

__all__ = ["Case", "pack", "plain", "runs"]


def pack(value: object) -> bytes:
    """Encode one value the plain way."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def runs(*parts: tuple[bytes, int]) -> list[tuple[bytes, int]]:
    """Name bytes that are long because they repeat: each part so many times."""
    return list(parts)


def plain(value: object) -> Any:
    """Return a value as JSON holds it: bin as {"$bin": hex}."""
    match value:
        case bytes():
            return {"$bin": value.hex()}
        case dict():
            return {key: plain(item) for key, item in value.items()}
        case list():
            return [plain(item) for item in value]
        case _:
            return value


@attrs.frozen
class Case:
    """A frame, who sends it, and what the other side makes of it."""

    name: str
    frame: bytes | list[tuple[bytes, int]]
    """The bytes, or parts that repeat."""
    decoded: list[Any] = attrs.field(factory=list)
    """Messages `[type, body]` that count, in order; before the error if there is one."""
    error: str | None = None
    """The code answered to the first message that does not count."""
    request_id: int | None = None
    """The `id` of that answer."""
    direction: str = "client"

    def as_json(self) -> dict[str, Any]:
        """Return the case as it stands in the file."""
        entry: dict[str, Any] = {"name": self.name, "direction": self.direction}
        if isinstance(self.frame, bytes):
            entry["hex"] = self.frame.hex()
        else:
            entry["hex"] = [[part.hex(), times] for part, times in self.frame]
        if self.decoded or self.error is None:
            entry["decoded"] = plain(self.decoded)
        if self.error is not None:
            entry["error"] = self.error
        if self.request_id is not None:
            entry["id"] = self.request_id
        return entry
