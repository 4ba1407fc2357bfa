"""What several routes answer with, as JSON."""

from __future__ import annotations

from typing import Any

from syncd.errors import SyncdError
from syncd.http.asking import Answer
from syncd.ids import Position

__all__ = ["position_json", "publish_result"]


def position_json(position: Position) -> dict[str, Any]:
    """Return a position as JSON shows it."""
    return {"epoch": position.epoch, "offset": position.offset}


def publish_result(answer: Answer) -> dict[str, Any]:
    """Return what a publication is answered with, or raise what it was refused with."""
    if isinstance(answer, SyncdError):
        raise answer
    return {"position": position_json(answer) if isinstance(answer, Position) else None}
