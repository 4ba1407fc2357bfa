"""When the prediction of a mutation may go: what its outcome waits for, and which entries hold what became of it. Pure.

Owned by `StateCore`. The rule (promise SETTLE): a prediction is laid over an entry exactly as long as what is shown of the entry
does not hold what became of its mutation. Events say whose change they are, pages of snapshots up to which mutation of each
client they are as of (SPEC 17); so nothing has to be guessed from when something came.
"""

from __future__ import annotations

from collections.abc import Mapping

from syncd.client.local_tx import Place
from syncd.client.watch import Watch
from syncd.client.watching import WatchTable
from syncd.ids import ChannelName, Position

__all__ = ["Settling"]


class Settling:
    """Looks at the watches for the mutations."""

    def __init__(self, watching: WatchTable) -> None:
        self._watching = watching

    def still_to_tell(self, positions: Mapping[ChannelName, Position]) -> dict[int, Position]:
        """Return, by watch, how far those of these channels have to come whose events an outcome may overtake.

        These are all but the complete ones: live, and nothing that they missed is still to come.
        """
        return {
            watch.id: position
            for name, position in positions.items()
            for watch in self._watching.may_be_on(name)
            if not (watch.is_live and watch.is_sure)
        }

    def have_told(self, waits: Mapping[int, Position]) -> bool:
        """Return whether each of these watches is over or has told, and shows, what happened up to there."""
        watches = (self._watching.watches.get(watch_id) for watch_id in waits)
        # One that is left and waits for its answer may never have it (SPEC 17), and shows nothing to anybody.
        return all(
            watch is None or watch.is_leaving or self._has_shown(watch, waits[watch.id])
            for watch in watches
        )

    def _has_shown(self, watch: Watch, position: Position) -> bool:
        channel = self._watching.channels.get(watch.channel or "")
        is_turned = channel is None or channel.next is None  # else it waits for others in its epoch
        return is_turned and watch.has_told(position)

    def take_news(self) -> tuple[set[Place], bool]:
        """Return what of that which is shown holds what became of further mutations, since this was asked last.

        Returns:
            Entries, and whether it may be so of any.
        """
        places, is_all = set[Place](), False
        for channel in self._watching.channels.values():
            shown = channel.shown
            if shown is not None and (shown.news or shown.has_news):
                places.update((channel.collection, key) for key in shown.news)
                is_all = is_all or shown.has_news
                shown.news, shown.has_news = set(), False
        return places, is_all

    def forget(self) -> None:
        """Nothing is pending, or what is has other numbers now: what entries hold is not asked for any more."""
        for channel in self._watching.channels.values():
            channel.forget_seen()
