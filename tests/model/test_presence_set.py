"""Presence step by step: what exactly is sent, and when."""

from __future__ import annotations

import math
from typing import Any

import attrs
import msgpack
import pytest

from syncd.codes import ErrorCode
from syncd.errors import RequestRejected
from syncd.ids import ChannelName
from syncd.model import presence_set
from syncd.model.presence_encode import (
    client_state,
    member_head,
    member_parts,
    presence_state,
)
from syncd.model.presence_set import Delivery, PresenceSet, PresenceSettings

ROOM = ChannelName("demo:room")
SETTINGS = PresenceSettings(grace_s=15.0, diff_s=0.1, max_members=100, max_channels=50)


@attrs.define
class Driver:
    """A set on a clock of its own; sessions are plain strings."""

    presence: PresenceSet[str] = attrs.field(factory=lambda: PresenceSet(SETTINGS))
    now: float = 100.0

    def announce(
        self, session: str, client: str, state: Any = "here", user: str | None = None
    ) -> None:
        packed = msgpack.packb(state)
        self.presence.announce(session, ROOM, client, user, packed, self.now)

    def leave(self, session: str, client: str, **options: bool) -> None:
        self.presence.leave(session, ROOM, client, self.now, **options)

    def gone(self, session: str) -> None:
        self.presence.session_gone(session, self.now)

    def watch(self, session: str) -> None:
        self.presence.watch(session, ROOM)

    def advance(self) -> list[tuple[str, dict[str, Any], list[str]]]:
        return [_read(d) for d in self.presence.advance(self.now)]

    def after(self, delay_s: float) -> list[tuple[str, dict[str, Any], list[str]]]:
        self.now += delay_s
        return self.advance()

    def ids(self) -> list[str]:
        return [member["member"] for member in self.presence.members(ROOM)]


def _read(delivery: Delivery[str]) -> tuple[str, dict[str, Any], list[str]]:
    kind, body = msgpack.unpackb(delivery.message)
    assert body.pop("channel") == ROOM
    return kind, body, delivery.sessions


def _anonymous(client: str, state: Any = "here") -> dict[str, Any]:
    return {"member": client, "states": [{"client": client, "state": state}]}


@pytest.fixture
def driver() -> Driver:
    """A room that `w` watches, its first state sent."""
    driver = Driver()
    driver.watch("w")
    assert driver.advance() == [("presence_state", {"seq": 0, "members": []}, ["w"])]
    assert driver.after(0.1) == []
    return driver


def test_a_join_is_told_once_the_window_closes_and_not_before(driver: Driver) -> None:
    driver.announce("s", "c1")
    assert driver.presence.next_deadline() == driver.now + 0.1
    assert driver.after(0.09) == []
    [(kind, body, sessions)] = driver.after(0.02)
    assert (kind, sessions) == ("presence_diff", ["w"])
    assert body == {"seq": 1, "joins": [_anonymous("c1")], "updates": [], "leaves": []}


def test_a_join_and_leave_in_one_window_are_never_told(driver: Driver) -> None:
    driver.announce("s", "c1")
    driver.leave("s", "c1")
    assert driver.after(0.1) == []
    assert driver.presence.next_deadline() == math.inf


def test_a_join_and_its_updates_are_one_join_with_the_newest_state(driver: Driver) -> None:
    for state in ("a", "b", {"c": [1, None]}):
        driver.announce("s", "c1", state)
    [(_, body, _)] = driver.after(0.1)
    assert body["joins"] == [_anonymous("c1", {"c": [1, None]})]
    assert body["updates"] == body["leaves"] == []


@pytest.mark.parametrize(("state", "updates"), [("a", []), ("b", [_anonymous("c1", "b")])])
def test_a_leave_and_return_in_one_window_are_an_update_or_nothing(
    driver: Driver, state: str, updates: list[Any]
) -> None:
    driver.announce("s", "c1", "a")
    driver.after(0.1)
    driver.leave("s", "c1")
    driver.announce("s", "c1", state)
    diffs = driver.after(0.1)
    assert [body["updates"] for _, body, _ in diffs] == ([updates] if updates else [])
    assert all(not body["joins"] and not body["leaves"] for _, body, _ in diffs)


def test_an_explicit_leave_has_no_grace(driver: Driver) -> None:
    driver.announce("s", "c1")
    driver.after(0.1)
    driver.leave("s", "c1")
    [(_, body, _)] = driver.after(0.1)
    assert body == {"seq": 2, "joins": [], "updates": [], "leaves": ["c1"]}


def test_a_lost_session_leaves_exactly_when_its_grace_ends(driver: Driver) -> None:
    driver.announce("s", "c1")
    driver.after(0.1)
    driver.gone("s")
    assert driver.presence.next_deadline() == driver.now + 15.0
    assert driver.after(14.99) == []
    assert driver.ids() == ["c1"]
    assert driver.after(0.01) == []
    assert driver.ids() == []
    [(_, body, _)] = driver.after(0.1)
    assert body["leaves"] == ["c1"]
    assert driver.presence.next_deadline() == math.inf


def test_a_return_within_the_grace_is_not_told_at_all(driver: Driver) -> None:
    driver.announce("s1", "c1")
    driver.after(0.1)
    driver.gone("s1")
    driver.after(14.9)
    driver.announce("s2", "c1")
    assert driver.after(0.1) == []
    assert driver.after(60) == []
    assert driver.ids() == ["c1"]


def test_the_end_of_a_replaced_session_removes_nothing(driver: Driver) -> None:
    driver.announce("old", "c1")
    driver.announce("new", "c1", "again")
    driver.gone("old")
    driver.after(0.1)
    assert driver.after(60) == []
    assert driver.ids() == ["c1"]


def test_a_late_leave_of_a_replaced_session_removes_nothing(driver: Driver) -> None:
    driver.announce("old", "c1")
    driver.announce("new", "c1")
    driver.leave("old", "c1", is_own_only=True)
    assert driver.ids() == ["c1"]
    driver.leave("new", "c1", is_own_only=True)
    assert driver.ids() == []


def test_a_client_that_another_session_takes_over_is_in_view_for_its_grace(driver: Driver) -> None:
    driver.announce("s1", "c1")
    driver.announce("s1", "c2")
    driver.after(0.1)
    assert driver.presence.release_client("s1", "c1", driver.now) == [ROOM]
    assert driver.after(5) == []
    driver.announce("s2", "c1")
    assert driver.after(0.1) == []
    assert driver.presence.release_client("s2", "c1", driver.now) == [ROOM]
    ((_, body, _),) = driver.after(15) or driver.after(0.1)
    assert [body["leaves"], driver.ids()] == [["c1"], ["c2"]]


def test_a_new_session_may_leave_for_a_client_that_is_in_its_grace(driver: Driver) -> None:
    driver.announce("s1", "c1")
    driver.gone("s1")
    driver.leave("s2", "c1")
    assert driver.ids() == []
    driver.after(0.1)
    assert driver.after(60) == []


def test_a_user_of_several_clients_is_one_member_until_the_last_goes(driver: Driver) -> None:
    driver.announce("s1", "c1", "phone", user="ann")
    driver.announce("s2", "c2", "desk", user="ann")
    [(_, body, _)] = driver.after(0.1)
    states = [{"client": "c1", "state": "phone"}, {"client": "c2", "state": "desk"}]
    assert body["joins"] == [{"member": "ann", "user": "ann", "states": states}]
    driver.leave("s1", "c1")
    [(_, body, _)] = driver.after(0.1)
    assert body["updates"] == [{"member": "ann", "user": "ann", "states": states[1:]}]
    driver.leave("s2", "c2")
    [(_, body, _)] = driver.after(0.1)
    assert body["leaves"] == ["ann"]


def test_a_user_back_with_a_new_client_does_not_flicker(driver: Driver) -> None:
    driver.announce("s1", "c1", user="ann")
    driver.after(0.1)
    driver.gone("s1")
    driver.after(5)
    driver.announce("s2", "c2", user="ann")
    diffs = driver.after(0.1) + driver.after(10) + driver.after(0.1)
    assert [len(body["updates"]) for _, body, _ in diffs] == [1, 1]
    assert all(not body["joins"] and not body["leaves"] for _, body, _ in diffs)
    assert [s["client"] for s in diffs[1][1]["updates"][0]["states"]] == ["c2"]


def test_a_client_that_signs_in_moves_from_its_own_name_to_the_users(driver: Driver) -> None:
    driver.announce("s1", "c1")
    driver.after(0.1)
    driver.gone("s1")
    driver.announce("s2", "c1", user="ann")
    [(_, body, _)] = driver.after(0.1)
    assert [m["member"] for m in body["joins"]] == ["ann"]
    assert body["leaves"] == ["c1"]
    assert driver.after(60) == []


def test_members_and_states_are_told_in_order_of_arrival(driver: Driver) -> None:
    for n in (3, 1, 2):
        driver.announce("s", f"c{n}")
    driver.announce("s", "c3", "changed")
    driver.after(0.1)
    driver.watch("late")
    [(_, body, _)] = driver.advance()
    assert [m["member"] for m in body["members"]] == ["c3", "c1", "c2"]


def test_a_state_amid_a_window_is_as_of_its_seq_and_the_diff_applies_on_top(
    driver: Driver,
) -> None:
    driver.announce("s", "c1")
    driver.after(0.1)
    driver.leave("s", "c1")
    driver.announce("s", "c2")
    driver.watch("late")
    [(kind, body, sessions)] = driver.advance()
    assert (kind, sessions) == ("presence_state", ["late"])
    assert body == {"seq": 1, "members": [_anonymous("c1")]}
    [(kind, body, sessions)] = driver.after(0.1)
    assert (kind, sessions, body["seq"]) == ("presence_diff", ["w", "late"], 2)
    assert body["leaves"] == ["c1"]


def test_a_watcher_gets_the_state_instead_of_a_diff_that_is_due_with_it(
    driver: Driver,
) -> None:
    driver.announce("s", "c1")
    driver.now += 0.1
    driver.watch("w")
    driver.watch("late")
    assert [(kind, body["seq"], who) for kind, body, who in driver.advance()] == [
        ("presence_state", 1, ["w", "late"])
    ]


def test_watching_again_sends_a_fresh_state_and_counts_once(driver: Driver) -> None:
    driver.watch("w")
    assert [kind for kind, _, _ in driver.advance()] == ["presence_state"]
    assert driver.presence.num_watchers == 1


def test_a_state_is_encoded_once_for_all_who_come_within_a_window(driver: Driver) -> None:
    driver.announce("s", "c1")
    driver.after(0.1)
    messages = []
    for n in range(3):
        driver.watch(f"late{n}")
        messages += [d.message for d in driver.presence.advance(driver.now)]
        driver.now += 0.01
    assert len(messages) == 3
    assert messages[0] is messages[1] is messages[2]


def test_a_state_kept_for_a_window_is_not_sent_after_a_change_nobody_watched() -> None:
    driver = Driver()
    driver.announce("s", "c1")
    driver.watch("w1")
    driver.advance()
    driver.presence.unwatch("w1", ROOM)
    driver.announce("s", "c2")
    driver.watch("w2")
    [(_, body, _)] = driver.advance()
    assert body["members"] == [_anonymous("c1"), _anonymous("c2")]


def test_a_diff_for_many_watchers_is_one_message(driver: Driver) -> None:
    for n in range(5000):
        driver.watch(f"w{n}")
    driver.advance()
    for n in range(60):
        driver.announce("s", f"c{n}")
    driver.now += 0.1
    [delivery] = driver.presence.advance(driver.now)
    assert len(delivery.sessions) == 5001
    assert driver.presence.num_diffs == 1


def test_who_refuses_gets_no_diff_until_it_takes_a_fresh_state(driver: Driver) -> None:
    driver.announce("s", "c1")
    driver.after(0.1)
    driver.presence.refused("w", ROOM, driver.now)
    driver.announce("s", "c2")
    assert driver.after(0.1) == []
    [(kind, body, _)] = driver.after(presence_set.RETRY_S)
    assert (kind, body["seq"]) == ("presence_state", 2)
    driver.presence.refused("w", ROOM, driver.now)
    assert driver.after(0.2) == []
    [(kind, body, _)] = driver.after(presence_set.RETRY_S)
    assert (kind, [m["member"] for m in body["members"]]) == ("presence_state", ["c1", "c2"])
    driver.announce("s", "c3")
    assert [body["seq"] for _, body, _ in driver.after(0.1)] == [3]


def test_refusals_of_strangers_are_ignored(driver: Driver) -> None:
    driver.presence.refused("nobody", ROOM, driver.now)
    driver.presence.refused("w", ChannelName("demo:other"), driver.now)
    assert driver.presence.next_deadline() == math.inf


def test_a_full_channel_refuses_new_members_only(driver: Driver) -> None:
    for n in range(SETTINGS.max_members):
        driver.announce("s", f"c{n}")
    with pytest.raises(RequestRejected) as refused:
        driver.announce("s", "one more")
    assert refused.value.code is ErrorCode.LIMIT_EXCEEDED
    driver.announce("s", "c0", "still welcome")
    driver.leave("s", "c1")
    driver.announce("s", "one more")
    assert driver.presence.num_members == SETTINGS.max_members


def test_one_users_clients_in_a_channel_are_bounded(driver: Driver) -> None:
    for n in range(presence_set.MAX_CLIENTS_PER_MEMBER):
        driver.announce("s", f"c{n}", user="ann")
    with pytest.raises(RequestRejected):
        driver.announce("s", "one more", user="ann")
    driver.announce("s", "c0", "still welcome", user="ann")
    driver.announce("s", "one more", user="bob")


def test_channels_are_bounded_and_freed() -> None:
    driver = Driver()
    for n in range(SETTINGS.max_channels):
        name = ChannelName(f"demo:{n}")
        driver.presence.announce("s", name, "c", None, b"\x01", driver.now)
    with pytest.raises(RequestRejected):
        driver.announce("s", "c")
    driver.presence.leave("s", ChannelName("demo:7"), "c", driver.now)
    driver.announce("s", "c")
    driver.gone("s")
    driver.after(15)
    assert driver.presence.num_channels == driver.presence.num_members == 0


def test_the_seq_of_a_channel_never_goes_back_not_even_over_its_end(driver: Driver) -> None:
    driver.announce("s", "c1")
    driver.after(0.1)
    driver.leave("s", "c1")
    driver.presence.unwatch("w", ROOM)
    assert driver.presence.num_channels == 0
    driver.after(1)
    driver.watch("w")
    [(_, body, _)] = driver.advance()
    assert body["seq"] >= 2


def test_while_settling_nobody_is_sent_anything_and_then_one_whole_state() -> None:
    driver = Driver(PresenceSet(SETTINGS, first_seq=8, settle_until=101.0))
    driver.watch("w")
    driver.announce("s", "c1")
    assert driver.after(0.5) == []
    driver.announce("s", "c2")
    assert driver.after(0.4) == []
    [(kind, body, sessions)] = driver.after(0.1)
    assert (kind, sessions) == ("presence_state", ["w"])
    assert [m["member"] for m in body["members"]] == ["c1", "c2"]
    assert body["seq"] >= 8


def test_a_flood_of_expiries_is_worked_off_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence_set, "EXPIRIES_PER_ADVANCE", 10)
    driver = Driver()
    for n in range(25):
        driver.announce("s", f"c{n}")
    driver.gone("s")
    driver.now += 15
    counts = []
    while driver.presence.next_deadline() <= driver.now:
        driver.advance()
        counts.append(driver.presence.num_members)
    assert counts == [15, 5, 0]


@pytest.mark.parametrize(("client", "user"), [("\ud800", None), ("c1", "\ud800")])
def test_what_cannot_be_encoded_changes_nothing(client: str, user: str | None) -> None:
    driver = Driver()
    with pytest.raises(UnicodeEncodeError):
        driver.announce("s", client, user=user)
    with pytest.raises(UnicodeEncodeError):
        driver.presence.watch("w", ChannelName("demo:\ud800"))
    assert driver.presence.num_channels == 0
    driver.announce("s", "c1", "kept")
    with pytest.raises(UnicodeEncodeError):
        driver.announce("s2", "c1", user="\ud800")
    assert driver.ids() == ["c1"]
    driver.gone("s")
    driver.after(15)
    assert driver.presence.num_channels == 0


def test_a_query_decodes_every_state_and_tells_nothing_of_an_unknown_channel() -> None:
    driver = Driver()
    driver.announce("s", "c1", {"x": [1, {2: None}]}, user="ann")
    states = [{"client": "c1", "state": {"x": [1, {2: None}]}}]
    members = [{"member": "ann", "user": "ann", "states": states}]
    assert driver.presence.members(ROOM) == members
    assert driver.presence.members(ChannelName("demo:none")) == []


def test_headers_of_long_lists_and_large_seqs_are_well_formed() -> None:
    parts = member_parts(member_head("c", None), [client_state("c", b"\x01")])
    for length in (0, 15, 16, 65_535, 65_536):
        _, body = msgpack.unpackb(presence_state(ROOM, 2**33, [parts] * length))
        assert body["members"] == [_anonymous("c", 1)] * length
        assert body["seq"] == 2**33
