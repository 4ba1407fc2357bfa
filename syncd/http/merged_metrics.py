"""Metrics of several processes as one text: every sample keeps its value and gets a label that says whose it is.

Nothing is added up: a sum of counters would fall when one process starts anew, and which gauges may be summed is the reader's to say.
`sum without (worker) (rate(...))` is exact, and so is `max by (...)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["merge_metrics"]

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (.+)")


def merge_metrics(texts: Mapping[str, str], label: str = "worker") -> str:
    """Merge texts in Prometheus' format 0.0.4.

    Args:
        texts: By the value of the label, which needs no escape.
        label: Given to every sample.

    Raises:
        ValueError: a line is no sample.
    """
    heads: dict[str, dict[str, str]] = {}
    samples: dict[str, list[str]] = {}
    for value, text in texts.items():
        family = ""
        for line in text.split("\n"):
            if line.startswith("# "):
                kind, family = line.split(" ", 3)[1:3]
                heads.setdefault(family, {}).setdefault(kind, line)
            elif line:
                samples.setdefault(family, []).append(_labelled(line, f'{label}="{value}"'))
    lines: list[str] = []
    for family, head in heads.items():
        lines += head.values()
        lines += samples.get(family, ())
    return "".join(line + "\n" for line in lines)


def _labelled(line: str, pair: str) -> str:
    found = _SAMPLE.fullmatch(line)
    if found is None:
        raise ValueError(f"not a sample: {line!r}")
    name, labels, value = found.groups()
    return f"{name}{{{pair},{labels}}} {value}" if labels else f"{name}{{{pair}}} {value}"
