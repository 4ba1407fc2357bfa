"""How many events a second each channel had between two looks at all of them. Pure; owned by the HTTP side's table of channels."""

from __future__ import annotations

from collections.abc import Mapping

from syncd.ids import ChannelName
from syncd.ports import ChannelInfo

__all__ = ["ChannelRates"]


class ChannelRates:
    """Remembers the last look."""

    def __init__(self) -> None:
        self._at_s = 0.0
        self._seen: Mapping[ChannelName, ChannelInfo] = {}

    def rates(
        self, infos: Mapping[ChannelName, ChannelInfo], at_s: float
    ) -> dict[str, float | None]:
        """Return events a second since the last look, by channel; None for what was not there then.

        Args:
            infos: All channels, now.
            at_s: A monotonic clock.
        """
        passed_s = at_s - self._at_s
        seen, self._seen, self._at_s = self._seen, infos, at_s
        return {name: _rate(seen.get(name), info, passed_s) for name, info in infos.items()}


def _rate(before: ChannelInfo | None, now: ChannelInfo, passed_s: float) -> float | None:
    if before is None or before.epoch != now.epoch or passed_s <= 0:
        return None
    return round(max(0, now.num_events - before.num_events) / passed_s, 2)
