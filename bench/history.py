"""Whether a run is worse than those recorded before it: the gate of `make bench`.

Only ratios are compared, with the median of the last runs recorded on machines of the same class by the same plan: absolute values
move with the machine, and one run of a shared one says little. A figure that looks worse is measured again; noise only ever makes
a ratio worse, so the best of all its measurements counts.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import Row

__all__ = ["History", "Worse", "best_of", "read_history"]

WORSE = 1.2
"""A ratio may be this many times its history; for one that must be high, its history this many times the ratio."""
MIN_RUNS = 3
"""With fewer there is no history to compare with."""
LAST_RUNS = 9

_CLASS = ("cpu", "cores", "plan")
_NOT_OURS = ("floor", "websockets", "trio-websocket", "cachetools")
"""How figures begin that are of floors and rivals."""

Figure = tuple[str, str]
"""Scenario and figure."""


@dataclass(frozen=True)
class Worse:
    """One figure that is worse than its history."""

    figure: Figure
    value: float
    median: float
    num_runs: int

    def text(self) -> str:
        """One line for the terminal."""
        scenario, figure = self.figure
        return (
            f"{scenario}: {figure} is {self.value:.4g}, the median of {self.num_runs} recorded runs on such a machine "
            f"{self.median:.4g}"
        )


class History:
    """Recorded ratios of one class of machines, the oldest first."""

    def __init__(self, records: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
        self._values: dict[Figure, list[float]] = {}
        for record in records:
            if _class(record) != _class(facts) or record.get("is_worse"):
                continue
            for row in record["figures"]:
                self._values.setdefault((row["scenario"], row["figure"]), []).append(row["value"])

    def worse(self, rows: Sequence[Row]) -> list[Worse]:
        """Return the ratios of ours that are a fifth worse than their median."""
        found = []
        for row in rows:
            figure = (row.scenario, row.figure)
            values = self._values.get(figure, [])[-LAST_RUNS:]
            if not _is_compared(row) or len(values) < MIN_RUNS:
                continue
            median = statistics.median(values)
            if row.value < median / WORSE if row.is_minimum else row.value > median * WORSE:
                found.append(Worse(figure, row.value, median, len(values)))
        return found

    @property
    def num_runs(self) -> int:
        """Runs of the figure that was recorded most often."""
        return max(map(len, self._values.values()), default=0)


def best_of(first: Sequence[Row], again: Sequence[Row]) -> list[Row]:
    """Return the rows, each ratio of them as good as either measurement had it."""
    others = {(row.scenario, row.figure): row for row in again}
    return [_better(row, others.get((row.scenario, row.figure))) for row in first]


def _better(row: Row, other: Row | None) -> Row:
    if other is None or not _is_compared(row):
        return row
    is_better = other.value > row.value if row.is_minimum else other.value < row.value
    return other if is_better else row


def read_history(folder: Path, facts: Mapping[str, Any]) -> History:
    """Read what `report.save` has written, in the order of its names: by date."""
    paths = sorted(folder.glob("*.json"))
    return History((json.loads(path.read_text()) for path in paths), facts)


def _class(facts: Mapping[str, Any]) -> tuple[object, ...]:
    python = ".".join(str(facts.get("python", "")).split(".")[:2])
    return (python, *(facts.get(name) for name in _CLASS))


def _is_compared(row: Row) -> bool:
    return row.unit.split()[:1] == ["x"] and not row.figure.startswith(_NOT_OURS)
