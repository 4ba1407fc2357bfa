"""What an actor that starts anew is handed: what others hold for it (DESIGN 5.12)."""

from __future__ import annotations

from syncd.actors.broadcaster import Broadcaster
from syncd.actors.cache_owner import CacheOwner
from syncd.actors.presence import Presence
from syncd.actors.rebuild_coordinator import RebuildCoordinator
from syncd.errors import ActorStopped, MailboxFull
from syncd.gateway.admin import GatewayAdmin
from syncd.gateway.hub import Hub
from syncd.ports import ResumeSubscriptions
from syncd.ports_collections import ResumeWatches

__all__ = ["Resuming"]


class Resuming:
    """The gateway's subscriptions and announcements, for the actor that has lost them."""

    def __init__(
        self,
        hub: Hub,
        admin: GatewayAdmin,
        broadcaster: Broadcaster,
        cache_owner: CacheOwner,
        presence: Presence,
        rebuilds: RebuildCoordinator,
    ) -> None:
        self._rebuilds = rebuilds
        self._hub = hub
        self._admin = admin
        self._broadcaster = broadcaster
        self._cache_owner = cache_owner
        self._presence = presence

    def broadcaster(self) -> None:
        """Every open subscription, from its position; and where rebuilds stand, which its channels have forgotten."""
        self._rebuilds.tell_again()
        subscriptions = self._admin.open_subscriptions()
        if subscriptions:
            self._broadcaster.mailbox.put_reply(ResumeSubscriptions(subscriptions))

    def watches(self) -> None:
        """Every open watch."""
        subscriptions = self._admin.open_watches()
        if subscriptions:
            self._cache_owner.mailbox.put_reply(ResumeWatches(subscriptions))

    def presence(self) -> None:
        """Every announced state, and every watcher."""
        commands = self._admin.presence_commands()
        if not commands:
            return
        try:
            self._presence.submit_nowait(commands, 0)
        except (MailboxFull, ActorStopped):
            self._hub.to_presence.extend(commands)
