"""The presence actor in a cluster: what it tells the peers, what it does with what they tell, and what a crash costs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from unittest import mock

import attrs
import pytest
import structlog.testing
import trio
import trio.testing

from syncd.actors.kit import ActorHealth
from syncd.actors.presence import Presence
from syncd.config import Limits, Timing
from syncd.ids import ChannelName
from syncd.model.presence_merged import MergedPresence
from syncd.ports_cluster import (
    Claim,
    ClusterTiming,
    PeerChanges,
    PeerClaims,
    PeerGone,
    PresenceChange,
    PresenceKey,
    Withdrawal,
)
from syncd.ports_presence import Announce, ReleaseClient, SessionGone, WatchPresence
from tests.actors.test_presence_actor import ROOM, Desk, FakeSession

OTHER = ChannelName("demo:other")
HERE = b"\xa4here"


@attrs.define
class FakeCluster:
    """Keeps what it is told, and stamps it."""

    node: str = "n1"
    timing: ClusterTiming = attrs.field(factory=ClusterTiming)
    stamp: int = 100
    changes: list[dict[PresenceKey, PresenceChange]] = attrs.field(factory=list)
    num_anew: int = 0

    def next_stamp(self) -> int:
        self.stamp += 1
        return self.stamp

    def told(self, changes: dict[PresenceKey, PresenceChange]) -> None:
        self.changes.append(changes)

    def presence_anew(self) -> None:
        self.num_anew += 1


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
async def desk(nursery: trio.Nursery, cluster: FakeCluster) -> AsyncIterator[Desk]:
    flushes: list[float] = []
    presence = Presence(Limits(), Timing(), lambda: flushes.append(trio.current_time()), cluster)
    desk = Desk(presence, nursery, ActorHealth("presence"), flushes)
    await nursery.start(desk.supervise)
    yield desk
    nursery.cancel_scope.cancel()


def _claim(stamp: int, state: bytes = HERE) -> dict[PresenceKey, PresenceChange]:
    return {(ROOM, "c1"): Claim(None, state, stamp)}


def _bare(watcher: FakeSession) -> list[object]:
    """What a watcher was told, without `seq`: the members of a state; joins, updates and leaves of a diff."""
    return [told[2] if told[0] == "state" else told[2:] for told in watcher.told()]


async def test_what_changes_in_a_batch_is_told_in_one_go_and_nothing_twice(
    desk, cluster, autojump_clock
):
    session = FakeSession("s1")
    await desk.do(
        Announce(session, 1, ROOM, "c1", b"\x01"),
        Announce(session, 2, ROOM, "c1", HERE),
        Announce(session, 3, OTHER, "c1", HERE),
    )
    await desk.do(Announce(session, 4, ROOM, "c1", HERE))
    assert cluster.changes == [
        {(ROOM, "c1"): Claim(None, HERE, 102), (OTHER, "c1"): Claim(None, HERE, 103)}
    ]


async def test_a_leave_is_told_when_it_takes_effect_after_the_grace(desk, cluster, autojump_clock):
    session = FakeSession("s1")
    await desk.do(Announce(session, 1, ROOM, "c1", HERE))
    await desk.do(SessionGone(session))
    await trio.sleep(14.9)
    assert len(cluster.changes) == 1
    await trio.sleep(0.2)
    assert cluster.changes[1:] == [{(ROOM, "c1"): Withdrawal(101)}]


async def test_members_of_peers_are_shown_with_our_own_and_leave_with_their_node(
    desk, cluster, autojump_clock
):
    session, watcher = FakeSession("s1"), FakeSession("w")
    await desk.do(Announce(session, 1, ROOM, "c0", HERE), WatchPresence(watcher, ROOM))
    await desk.do(PeerChanges("n2", _claim(50)))
    await trio.sleep(0.2)
    assert _bare(watcher) == [["c0"], (["c1"], [], [])]
    await desk.do(PeerGone("n2", is_clean=False))
    await trio.sleep(ClusterTiming().orphan_s + 0.2)
    assert _bare(watcher)[2:] == [([], [], ["c1"])]
    assert len(cluster.changes) == 1, "who leaves elsewhere is not ours to tell"


async def test_a_client_that_a_peer_claims_later_is_let_go_and_its_session_forgets_it(
    desk, cluster, autojump_clock
):
    session, watcher = FakeSession("s1"), FakeSession("w")
    await desk.do(Announce(session, 1, ROOM, "c1", HERE), WatchPresence(watcher, ROOM))
    await desk.do(PeerChanges("n2", _claim(50)))
    assert session.remembered == {(ROOM, "c1"): HERE}, "theirs was earlier"
    await desk.do(PeerChanges("n2", _claim(200)))
    assert session.remembered == {(ROOM, "c1"): None}
    assert cluster.changes[1:] == [{(ROOM, "c1"): Withdrawal(200, is_moved=True)}]
    await desk.do(SessionGone(session))
    await trio.sleep(30)
    assert _bare(watcher) == [["c1"]]


async def test_a_released_client_leaves_after_the_grace_and_the_others_of_its_session_stay(
    desk, cluster, autojump_clock
):
    session = FakeSession("s1")
    watcher = FakeSession("w")
    await desk.do(
        Announce(session, 1, ROOM, "c1", HERE),
        Announce(session, 2, ROOM, "c2", HERE),
        WatchPresence(watcher, ROOM),
    )
    await desk.do(ReleaseClient(session, "c1"))
    await trio.sleep(14)
    assert len(watcher.told()) == 1
    await trio.sleep(2)
    assert _bare(watcher)[1:] == [([], [], ["c1"])]
    assert session.remembered == {(ROOM, "c1"): None, (ROOM, "c2"): HERE}


async def test_what_a_snapshot_does_not_tell_is_gone_when_it_had_time_to_come_back(
    desk, cluster, autojump_clock
):
    watcher = FakeSession("w")
    await desk.do(WatchPresence(watcher, ROOM), PeerChanges("n2", _claim(50)))
    await desk.do(PeerClaims("n2", set()))
    await trio.sleep(5)
    assert not any("c1" in left for *_, left in watcher.told()[1:])
    await trio.sleep(6)
    assert watcher.told()[-1][-1] == ["c1"]


async def test_after_a_crash_the_room_is_asked_for_the_peers_and_ours_are_claimed_anew(
    desk, cluster, autojump_clock
):
    session = FakeSession("s1")
    await desk.do(Announce(session, 1, ROOM, "c1", HERE))
    desk.on_restart = [Announce(session, None, ROOM, "c1", HERE)]
    answers = [ZeroDivisionError, *([[]] * 20)]
    with mock.patch.object(MergedPresence, "advance", side_effect=answers):
        await desk.do(WatchPresence(session, ROOM))
    await trio.sleep(3)
    assert desk.health.num_restarts == 1
    assert cluster.num_anew == 1
    assert cluster.changes[-1].keys() == {(ROOM, "c1")}


async def test_a_peers_many_changes_leave_others_their_turn(desk, cluster, autojump_clock):
    """A thousand changes are a slice, in however few commands they come."""
    many = [
        PeerChanges("n2", {(ROOM, f"c{part}-{n}"): Claim(None, HERE, 1) for n in range(500)})
        for part in range(6)
    ]
    before = len(desk.flushes)
    await desk.do(*many)
    assert len(desk.flushes) - before == 3
