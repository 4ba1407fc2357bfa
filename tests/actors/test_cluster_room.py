"""Nodes know of each other: who is alive, who is present where, and what operators want."""

from __future__ import annotations

import structlog.testing

from syncd.ports_cluster import DisconnectOrder, RevokeOrder
from syncd.ports_operators import Target
from tests.actors.cluster_world import ROOMS, TIMING, Node, Person, World

ROOM = ROOMS[0]


def _cluster(num_nodes: int, seed: int = 1) -> tuple[World, list[Node]]:
    world = World(seed)
    nodes = [world.start() for _ in range(num_nodes)]
    world.run(8)
    return world, nodes


def test_nodes_find_each_other_within_seconds():
    world, nodes = _cluster(4)
    for node in nodes:
        rows = node.room.nodes()
        assert next(row.node for row in rows) == node.name
        assert {row.node for row in rows} == set(world.nodes)
        assert all(row.state.value == "alive" and row.load is not None for row in rows)


def test_a_client_announced_on_one_node_is_seen_on_all_of_them_at_once():
    world, nodes = _cluster(3)
    Person(world, "ada").connect(nodes[0])
    person = Person(world, "bob")
    person.connect(nodes[1])
    person.announce(ROOM, "here")
    world.run(0.5)
    assert [node.told.members for node in nodes] == [{(ROOM, "bob"): "here"}] * 3
    person.leave(ROOM)
    world.run(0.5)
    assert [node.told.members for node in nodes] == [{}] * 3


def test_a_client_that_moves_within_its_grace_is_neither_left_nor_joined():
    world, nodes = _cluster(3)
    person = Person(world, "ada")
    person.connect(nodes[0])
    person.announce(ROOM, "here")
    world.run(1)
    person.vanish()
    world.run(14)
    person.connect(nodes[1])
    world.run(60)
    for node in nodes:
        assert node.told.members == {(ROOM, "ada"): "here"}
        assert len(node.told.joins) == 1
        assert node.told.leaves == []


def test_a_drop_that_overtakes_the_claim_it_is_for_is_not_a_leave():
    """Node 2 takes over; node 1's word that it dropped the client reaches node 3 before node 2's claim does."""
    world, nodes = _cluster(3)
    person = Person(world, "ada")
    person.connect(nodes[0])
    person.announce(ROOM, "here")
    world.run(1)
    person.vanish()
    world.drop = lambda sender, receiver, _payload: (sender, receiver) == (nodes[1], nodes[2])
    person.connect(nodes[1])
    world.run(2)
    assert (ROOM, "ada") not in nodes[0].room._own.claims.by_key
    world.drop = None
    world.run(40)
    assert nodes[2].told.members == {(ROOM, "ada"): "here"}
    assert nodes[2].told.leaves == []


def test_a_killed_nodes_members_are_gone_within_30_s_and_leave_once():
    world, nodes = _cluster(3)
    for number in range(20):
        person = Person(world, f"c{number}")
        person.connect(nodes[number % 3])
        person.announce(ROOM, "here")
    world.run(2)
    gone = {(ROOM, f"c{number}") for number in range(0, 20, 3)}
    killed_at = world.now
    world.kill(nodes[0])
    world.run(12)
    assert len(nodes[1].told.members) == 20, "too soon: its clients are on their way elsewhere"
    world.run(18.5)
    for node in nodes[1:]:
        assert len(node.told.members) == 13
        assert sorted(key for _, key in node.told.leaves) == sorted(gone)
        assert max(at for at, _ in node.told.leaves) - killed_at <= 30.2
        assert ("died", nodes[0].name) in [(fact.value, name) for fact, name in node.facts]
    world.run(60)
    assert all(len(node.told.leaves) == 7 for node in nodes[1:])


def test_the_last_words_of_a_dead_node_bring_nobody_back():
    """What it said may come late, after everybody has buried it: its members are not shown again."""
    world, nodes = _cluster(2)
    person = Person(world, "ada")
    person.connect(nodes[0])
    person.announce(ROOM, "here")
    world.run(1)
    late: list[bytes] = []
    world.drop = lambda sender, _receiver, payload: (
        sender is nodes[0] and (late.append(payload) or True)
    )
    person.announce(ROOM, "still here")
    world.kill(nodes[0])
    world.run(40)
    assert nodes[1].told.members == {}
    assert late
    nodes[1].waiting.extend(late)
    world.run(60)
    assert nodes[1].told.members == {}
    assert len(nodes[1].told.joins) == len(nodes[1].told.leaves) == 1


def test_while_our_own_link_is_down_nobody_dies_and_afterwards_peers_have_their_time_again():
    world, nodes = _cluster(3)
    person = Person(world, "ada")
    person.connect(nodes[0])
    person.announce(ROOM, "here")
    world.run(1)
    world.cut(nodes[2])
    world.run(300)
    assert nodes[2].told.members == {(ROOM, "ada"): "here"}
    assert {row.state.value for row in nodes[2].room.nodes()[1:]} == {"silent"}
    world.mend(nodes[2])
    world.run(30)
    assert nodes[2].told.leaves == []
    assert {row.state.value for row in nodes[2].room.nodes()} == {"alive"}


def test_what_was_missed_behind_a_cut_link_is_made_good():
    world, nodes = _cluster(3)
    stays, goes, comes = (Person(world, name) for name in ("stays", "goes", "comes"))
    for person in (stays, goes):
        person.connect(nodes[0])
        person.announce(ROOM, "here")
    world.run(1)
    world.cut(nodes[2])
    goes.leave(ROOM)
    comes.connect(nodes[1])
    comes.announce(ROOM, "new")
    stays.announce(ROOM, "changed")
    world.run(8)
    world.mend(nodes[2])
    world.run(TIMING.orphan_s + 4)
    assert nodes[2].told.members == {(ROOM, "stays"): "changed", (ROOM, "comes"): "new"}
    assert [key for _, key in nodes[2].told.leaves] == [(ROOM, "goes")]


def test_a_node_that_stood_still_buries_nobody_and_is_taken_back_with_its_members():
    world, nodes = _cluster(3)
    people = [Person(world, f"c{number}") for number in range(3)]
    for person, node in zip(people, nodes, strict=True):
        person.connect(node)
        person.announce(ROOM, "here")
    world.run(2)
    nodes[2].stalled_until = world.now + 60
    world.run(58)
    assert len(nodes[0].told.members) == 2
    world.run(15)
    assert [len(node.told.members) for node in nodes] == [3, 3, 3]
    assert nodes[2].told.leaves == []


def test_a_node_that_leaves_gives_its_clients_the_usual_grace():
    world, nodes = _cluster(3)
    back, away = Person(world, "back"), Person(world, "away")
    for person in (back, away):
        person.connect(nodes[0])
        person.announce(ROOM, "here")
    world.run(1)
    world.stop(nodes[0])
    world.run(10)
    back.connect(nodes[1])
    world.run(4)
    assert nodes[2].told.leaves == []
    world.run(3)
    assert [key for _, key in nodes[2].told.leaves] == [(ROOM, "away")]
    world.run(30)
    assert nodes[2].told.members == {(ROOM, "back"): "here"}


def test_a_client_taken_over_by_another_node_is_taken_from_the_older_session():
    world, nodes = _cluster(2)
    person = Person(world, "ada")
    person.connect(nodes[0])
    person.announce(ROOM, "here")
    world.run(1)
    person.desert()
    person.connect(nodes[1])
    person.leave(ROOM)
    world.run(1)
    assert nodes[0].sessions.by_client == {}
    assert [node.told.members for node in nodes] == [{}, {}]


def test_the_later_of_two_sessions_keeps_the_client_whatever_comes_first():
    world, nodes = _cluster(2)
    world.drop = lambda _sender, receiver, _payload: receiver is nodes[0]
    person = Person(world, "ada")
    person.connect(nodes[1])
    world.run(1)
    person.desert()
    person.connect(nodes[0])  # which has not heard of the other session
    world.drop = None
    world.run(10)
    assert "ada" in nodes[0].sessions.by_client
    assert "ada" not in nodes[1].sessions.by_client


def test_a_node_whose_clock_is_behind_does_not_lose_the_clients_that_came_to_it():
    world = World(3)
    ahead = world.start(skew_s=300.0)
    person = Person(world, "ada")
    person.connect(ahead)
    person.announce(ROOM, "here")
    world.run(5)
    person.vanish()
    behind = world.start(skew_s=0.0)
    person.connect(behind)  # before it has heard anybody
    world.run(90)
    assert [node.told.members for node in (ahead, behind)] == [{(ROOM, "ada"): "here"}] * 2
    assert ahead.told.leaves == []


def test_an_order_is_carried_out_everywhere_and_counted():
    world, nodes = _cluster(3)
    for number, node in enumerate(nodes):
        for client in range(number):
            Person(world, f"c{number}{client}").connect(node)
    answers: list[None] = []
    poll = nodes[0].room.order(_disconnect("ada"), lambda: answers.append(None))
    assert not poll.is_complete
    world.run(0.5)
    assert poll.is_complete
    assert poll.answers == {nodes[1].name: 1, nodes[2].name: 2}
    assert len(answers) == 2
    nodes[0].room.forget(poll)


def test_a_dead_node_does_not_answer_and_the_poll_says_so():
    world, nodes = _cluster(3)
    world.kill(nodes[2])
    poll = nodes[0].room.order(_disconnect("ada"), lambda: None)
    world.run(0.5)
    assert poll.expected - poll.answers.keys() == {nodes[2].name}
    nodes[0].room.forget(poll)


def test_revocations_reach_nodes_that_were_away_and_that_start_later_and_outlive_their_node():
    world, nodes = _cluster(3)
    until = 2_000_000_000.0
    world.cut(nodes[2])
    nodes[0].sessions.revocations["eve"] = until  # as the operator's node does first
    poll = nodes[0].room.order(_revoke("eve", until), lambda: None)
    nodes[0].room.forget(poll)
    world.run(1)
    assert nodes[1].sessions.revocations == {"eve": until}
    assert nodes[2].sessions.revocations == {}
    world.mend(nodes[2])
    world.run(8)
    assert nodes[2].sessions.revocations == {"eve": until}
    for node in nodes[:2]:
        world.kill(node)
    fresh = world.start()
    world.run(8)
    assert fresh.sessions.revocations == {"eve": until}


def test_a_revocation_given_while_the_bus_is_away_goes_out_when_it_is_back():
    world, nodes = _cluster(2)
    world.cut(nodes[0])
    nodes[0].sessions.revocations["eve"] = 2e9
    nodes[0].room.forget(nodes[0].room.order(_revoke("eve", 2e9), lambda: None))
    world.run(3)
    world.mend(nodes[0])
    world.run(3)
    assert nodes[1].sessions.revocations == {"eve": 2e9}


def test_terms_of_groups_are_raised_everywhere_and_an_old_one_learns_the_newer():
    world, nodes = _cluster(2)
    groups = [node.sessions.group_terms for node in nodes]
    groups[0]["ada", "shop"] = 3
    nodes[0].room.entered("ada", "shop", 3)
    groups[1]["ada", "shop"] = 7
    nodes[1].room.entered("ada", "shop", 7)
    world.run(2)
    assert [group["ada", "shop"] for group in groups] == [7, 7]


def test_a_full_presence_mailbox_delays_what_peers_say_and_loses_nothing():
    world, nodes = _cluster(2)
    people = [Person(world, f"c{number}") for number in range(5)]
    for person in people:
        person.connect(nodes[0])
        person.announce(ROOM, "here")
    nodes[1].is_full = True
    world.run(2)
    people[0].leave(ROOM)
    world.run(2)
    nodes[1].is_full = False
    world.run(TIMING.orphan_s + 1)
    assert nodes[1].told.members == nodes[0].told.members
    assert len(nodes[1].told.members) == 4
    assert nodes[1].room.statistics().num_overflows > 0


def test_a_presence_actor_that_crashes_is_given_the_peers_again_and_peers_are_told_who_was_lost():
    world, nodes = _cluster(2)
    here, lost, there = (Person(world, name) for name in ("here", "lost", "there"))
    for person, node in ((here, nodes[0]), (lost, nodes[0]), (there, nodes[1])):
        person.connect(node)
        person.announce(ROOM, "x")
    world.run(1)
    lost.vanish()  # in its grace when the crash comes
    nodes[0].crash_presence({(ROOM, "here"): (here.session, b"\xa1x")})
    world.run(4)
    expected = {(ROOM, "here"): "x", (ROOM, "there"): "x"}
    assert [node.told.members for node in nodes] == [expected, expected]


def test_a_bad_payload_is_counted_and_nothing_else():
    world, nodes = _cluster(2)
    good = Person(world, "ada")
    good.connect(nodes[0])
    nodes[1].waiting += [b"", b"\xc1", b"\x94", b"[" * 5000, b"\x94\xa1n\xa4beat\x01\xc0"]
    good.announce(ROOM, "here")
    with structlog.testing.capture_logs() as logs:
        world.run(1)
    assert [entry["event"] for entry in logs] == ["bad_peer_message"], "once"
    assert nodes[1].room.statistics().num_bad == 5
    assert nodes[1].told.members == {(ROOM, "ada"): "here"}


def test_a_node_does_not_take_its_own_echo_for_another_node():
    world, nodes = _cluster(2)
    echo: list[bytes] = []
    world.drop = lambda sender, _receiver, payload: (
        (sender is nodes[0] and echo.append(payload)) or False
    )
    Person(world, "ada").connect(nodes[0])
    world.run(8)
    assert echo
    nodes[0].waiting += echo
    world.run(1)
    assert len(nodes[0].room.nodes()) == 2
    assert nodes[0].room.statistics().num_bad == 0


def test_a_message_that_cannot_be_carried_out_fails_alone(monkeypatch):
    world, nodes = _cluster(2)
    with monkeypatch.context() as patched, structlog.testing.capture_logs() as logs:
        patched.setattr(nodes[1].sessions, "disconnect", None)
        for _ in range(3):
            nodes[0].room.forget(nodes[0].room.order(_disconnect("ada"), lambda: None))
        world.run(1)
    assert [entry["event"] for entry in logs] == ["peer_message_failed"]
    person = Person(world, "ada")
    person.connect(nodes[0])
    person.announce(ROOM, "here")
    world.run(1)
    assert nodes[1].told.members == {(ROOM, "ada"): "here"}


def test_a_peer_that_claims_other_things_than_it_told_is_asked_again():
    world, nodes = _cluster(2)
    person = Person(world, "ada")
    person.connect(nodes[0])
    person.announce(ROOM, "here")
    world.run(1)
    nodes[1].room._peers.by_node[nodes[0].name].claims.drop((ROOM, "ada"))
    world.run(12)
    assert nodes[1].room.statistics().num_faults == 1
    assert (ROOM, "ada") in nodes[1].room._peers.by_node[nodes[0].name].claims.by_key


def test_more_changes_than_are_kept_while_the_bus_is_away_become_a_snapshot(monkeypatch):
    monkeypatch.setattr("syncd.actors.bridge.speaking.MAX_PENDING", 10)
    world, nodes = _cluster(2)
    world.cut(nodes[0])
    people = [Person(world, f"c{number}") for number in range(25)]
    for person in people:
        person.connect(nodes[0])
        person.announce(ROOM, "here")
    world.mend(nodes[0])
    world.run(6)
    assert len(nodes[1].told.members) == 25
    assert nodes[0].room.statistics().num_snapshots >= 1


def _disconnect(user: str) -> DisconnectOrder:
    return DisconnectOrder(Target(user=user), reconnect=False, reason="")


def _revoke(user: str, until_s: float) -> RevokeOrder:
    return RevokeOrder(Target(user=user), until_s)
