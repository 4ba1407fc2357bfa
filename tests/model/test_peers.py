"""What a node keeps of the others: stamps that grow, digests that do not depend on order, and who is alive."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from syncd.ids import ChannelName
from syncd.model.peers import MAX_PEERS, REMEMBER_LEFT_S, Claims, ClusterClock, Peers
from syncd.ports_cluster import Claim, ClusterTiming, PeerFact, Withdrawal

TIMING = ClusterTiming()
keys = st.tuples(
    st.sampled_from([ChannelName("demo:a"), ChannelName("demo:b")]), st.text(max_size=3)
)
changes = st.builds(Claim, st.none(), st.binary(max_size=3), st.integers(0, 9)) | st.builds(
    Withdrawal, st.integers(0, 9)
)


@given(st.lists(st.tuples(keys, changes), max_size=30))
def test_a_digest_is_that_of_what_is_claimed_however_it_came_about(history):
    claims = Claims()
    for key, change in history:
        claims.apply({key: change}, 1000)
    afresh = Claims()
    for key, claim in sorted(claims.by_key.items(), reverse=True):
        afresh.apply({key: claim}, 1000)
    assert claims.digest == afresh.digest
    assert (claims.digest == 0) == (not claims.by_key)


@attrs.define
class Wall:
    """A wall clock that a test turns, also backwards."""

    now_s: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


@given(st.lists(st.floats(-10, 10) | st.integers(0, 2**52), max_size=30))
def test_a_stamp_is_later_than_all_that_were_given_or_seen(story):
    wall = Wall()
    clock, latest = ClusterClock(wall), 0
    for event in story:
        if isinstance(event, float):
            wall.now_s += event
        else:
            clock.see(event)
            latest = max(latest, event)
        stamp = clock.next_stamp()
        assert stamp > latest
        latest = stamp


def test_a_clock_that_is_behind_takes_over_the_difference_once():
    wall = Wall()
    clock = ClusterClock(wall)
    ahead = int((wall.now_s + 300) * 1e6)
    assert clock.see(ahead) == 300_000_000
    wall.now_s += 10
    assert clock.see(ahead + 10_000_000) == 0
    assert clock.next_stamp() == ahead + 10_000_001


def test_claims_beyond_the_bound_are_counted_and_not_kept():
    claims = Claims()
    many = {(ChannelName("demo:a"), str(n)): Claim(None, b"", 1) for n in range(5)}
    assert claims.apply(many, 3) == 2
    assert len(claims.by_key) == 3
    assert claims.apply({(ChannelName("demo:a"), "0"): Claim(None, b"", 2)}, 3) == 0


def _peers() -> Peers:
    return Peers(TIMING, lambda: 0.5)


def test_whose_first_message_is_heard_has_told_all_and_whose_is_not_is_asked():
    peers = _peers()
    first, fact = peers.hear("a", 1, 0.0)
    assert fact is PeerFact.JOINED
    assert first is not None
    assert (first.is_shown, first.needs) == (True, False)
    later, _ = peers.hear("b", 7, 0.0)
    assert later is not None
    assert (later.is_shown, later.needs) == (False, True)
    assert peers.wanted(0.4) == []
    assert peers.wanted(0.5) == ["b"]
    assert peers.wanted(5.4) == []
    assert peers.wanted(5.5) == ["b"], "asked again when it did not come"


def test_a_gap_is_counted_and_makes_a_snapshot_wanted_and_a_repetition_is_nothing():
    peers = _peers()
    peer, _ = peers.hear("a", 1, 0.0)
    assert peer is not None
    assert peers.hear("a", 1, 1.0) == (None, None)
    assert peers.hear("a", 5, 1.0) == (peer, None)
    assert peers.num_missed == 3
    assert peer.needs
    assert peers.hear("a", 4, 1.0) == (None, None), "it was made good otherwise"


def test_a_node_that_left_is_not_taken_for_a_new_one_by_what_comes_late():
    peers = _peers()
    peer, _ = peers.hear("a", 1, 0.0)
    assert peer is not None
    peers.left(peer, 0.0)
    assert peers.hear("a", 2, 1.0) == (None, None)
    peers.bury(REMEMBER_LEFT_S)
    assert peers.hear("a", 3, REMEMBER_LEFT_S)[1] is PeerFact.JOINED


def test_the_dead_are_those_not_heard_for_the_whole_time():
    peers = _peers()
    for node, at in (("a", 0.0), ("b", 1.0)):
        peers.hear(node, 1, at)
    assert peers.bury(14.9) == []
    assert [peer.node for peer in peers.bury(15.0)] == ["a"]
    peers.pardon_all(15.5)
    assert peers.bury(30.4) == []
    assert [peer.node for peer in peers.bury(30.5)] == ["b"]


def test_more_nodes_than_a_cluster_has_are_not_heard():
    peers = _peers()
    for number in range(MAX_PEERS):
        peers.hear(str(number), 1, 0.0)
    assert peers.hear("one more", 1, 0.0) == (None, None)
    assert peers.num_unheard == 1
