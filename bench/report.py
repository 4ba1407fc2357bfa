"""Figures, their targets, the table on screen and the JSON kept in bench/results."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Row", "machine", "save", "table"]


@dataclass
class Row:
    """One figure. `limit` is what the project promises; without one it is only told."""

    scenario: str
    figure: str
    value: float
    unit: str
    limit: float | None = None
    is_minimum: bool = False
    """The value may not be below the limit, instead of not above."""
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        """Whether the promise holds; None without one."""
        if self.limit is None:
            return None
        return self.value >= self.limit if self.is_minimum else self.value <= self.limit


def table(rows: list[Row]) -> str:
    """The table: figure, value, target, verdict."""
    lines = []
    last = ""
    for row in rows:
        if row.scenario != last:
            lines.append(f"\n{row.scenario}")
            last = row.scenario
        sign = ">=" if row.is_minimum else "<="
        target = "" if row.limit is None else f"{sign} {row.limit:g}"
        verdict = {None: "", True: "pass", False: "FAIL"}[row.is_met]
        value = f"{row.value:,.0f}" if row.value >= 1000 else f"{row.value:.4g}"
        lines.append(
            f"  {row.figure:<44}{value:>10} {row.unit:<9}{target:>9}  {verdict:<5} {row.note}".rstrip()
        )
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the figures were measured on, and how busy it was."""
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "trio": importlib.metadata.version("trio"),
        "load_before": os.getloadavg()[0],
    }


def save(rows: list[Row], facts: dict[str, Any], folder: Path) -> Path:
    """Write `<date>-<commit>.json`, with a counter when there is one already."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    stem = f"{time.strftime('%Y-%m-%d', time.gmtime())}-{commit or 'unknown'}"
    path, count = folder / f"{stem}.json", 1
    while path.exists():
        count += 1
        path = folder / f"{stem}-{count}.json"
    figures = [{**asdict(row), "is_met": row.is_met} for row in rows]
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**facts, "commit": commit, "figures": figures}, indent=1) + "\n")
    return path
