"""The presence actor: answers, order of sending, slices, refusals, crashes and stopping."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import attrs
import msgpack
import pytest
import structlog
import trio
import trio.testing
from trio.testing import MockClock

from syncd.actors import presence as presence_module
from syncd.actors.kit import Actor, ActorHealth, Health, supervise
from syncd.actors.presence import Presence
from syncd.codes import ErrorCode
from syncd.config import Limits, Timing
from syncd.errors import ActorStopped, MailboxFull, SyncdError
from syncd.ids import ChannelName, Epoch
from syncd.ports import Identity, SessionPort
from syncd.ports_presence import (
    Announce,
    PresenceCommand,
    PresenceHandle,
    QueryPresence,
    SessionGone,
    UnwatchPresence,
    WatchPresence,
)

ROOM = ChannelName("demo:room")


@attrs.define(eq=False)
class FakeSession(SessionPort):
    """A session that notes what it is told."""

    id: str
    identity: Identity = attrs.field(factory=Identity)
    closed: bool = False
    takes: bool = True
    is_broken: bool = False
    replies: list[tuple[int, ErrorCode | None]] = attrs.field(factory=list)
    raw: list[bytes] = attrs.field(factory=list)
    remembered: dict[tuple[str, str], bytes | None] = attrs.field(factory=dict)

    def reply_ok(self, request_id: int, epoch: Epoch | None = None, offset: int = 0) -> None:
        self.replies.append((request_id, None))

    def reply_error(self, request_id: int, error: SyncdError) -> None:
        self.replies.append((request_id, error.code))

    def has_room(self) -> bool:
        raise NotImplementedError

    def remember_presence(self, channel: ChannelName, client: str, state: bytes | None) -> None:
        self.remembered[channel, client] = state

    def send_presence(self, channel: ChannelName, message: bytes) -> bool:
        if self.is_broken:
            raise ZeroDivisionError
        if self.takes:
            self.raw.append(message)
        return self.takes

    def told(self) -> list[tuple[Any, ...]]:
        """Return what came, in short: ("state", seq, ids) or ("diff", seq, joined, updated, left)."""
        return [_short(*msgpack.unpackb(message)) for message in self.raw]


def _short(kind: str, body: dict[str, Any]) -> tuple[Any, ...]:
    ids = {
        field: [m["member"] for m in body[field]]
        for field in ("members", "joins", "updates")
        if field in body
    }
    if kind == "presence_state":
        return ("state", body["seq"], ids["members"])
    return ("diff", body["seq"], ids["joins"], ids["updates"], body["leaves"])


@attrs.define
class Desk:
    """A running presence actor and what a gateway would do to it."""

    presence: Presence
    nursery: trio.Nursery
    health: ActorHealth
    flushes: list[float]
    on_restart: list[PresenceCommand] = attrs.field(factory=list)

    async def do(self, *commands: PresenceCommand) -> None:
        self.presence.submit_nowait(commands, 100)
        await trio.testing.wait_all_tasks_blocked()

    async def supervise(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        def resubmit() -> None:
            if self.on_restart:
                self.presence.submit_nowait(self.on_restart, 0)

        await supervise(self.presence, self.health, on_restart=resubmit, task_status=task_status)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Printing tracebacks in colour would take longer than all tests together."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
async def desk(nursery: trio.Nursery) -> AsyncIterator[Desk]:
    flushes: list[float] = []
    presence = Presence(Limits(), Timing(), lambda: flushes.append(trio.current_time()))
    desk = Desk(presence, nursery, ActorHealth("presence"), flushes)
    await nursery.start(desk.supervise)
    yield desk
    nursery.cancel_scope.cancel()


def _announce(
    session: FakeSession,
    client: str,
    state: Any = "here",
    *,
    request_id: int | None = 1,
    channel: ChannelName = ROOM,
) -> Announce:
    packed = None if state is None else msgpack.packb(state)
    return Announce(session, request_id, channel, client, packed)


def _ann(session_id: str = "s") -> FakeSession:
    return FakeSession(session_id, Identity(user="ann"))


async def test_the_actor_fills_its_ports() -> None:
    presence = Presence(Limits(), Timing(), lambda: None)
    actor: Actor = presence
    handle: PresenceHandle = presence
    session: SessionPort = FakeSession("s")
    assert (actor.name, session.closed) == ("presence", False)
    handle.submit_nowait([SessionGone(session)], 0)


async def test_an_announcement_is_answered_at_once_and_told_after_the_window(
    autojump_clock: MockClock, desk: Desk
) -> None:
    watcher, session = FakeSession("w"), _ann()
    await desk.do(WatchPresence(watcher, ROOM), _announce(session, "c1", request_id=7))
    assert session.replies == [(7, None)]
    assert [kind for kind, *_ in watcher.told()] == ["state"]
    await trio.sleep(0.11)
    told = watcher.told()
    assert told[0][0] == "state"
    ids = set(told[0][2])
    for _, _, joined, _, _ in told[1:]:
        ids |= set(joined)
    assert ids == {"ann"}
    assert desk.flushes


async def test_a_lost_session_is_told_after_its_grace_and_its_return_is_not(
    autojump_clock: MockClock, desk: Desk
) -> None:
    watcher, session = FakeSession("w"), FakeSession("s")
    await desk.do(_announce(session, "c1"), _announce(session, "c2"))
    await desk.do(WatchPresence(watcher, ROOM))
    session.closed = True
    await desk.do(SessionGone(session))
    await trio.sleep(14.9)
    await desk.do(_announce(FakeSession("s2"), "c1"))
    await trio.sleep(0.05)
    assert [kind for kind, *_ in watcher.told()] == ["state"]
    await trio.sleep(0.2)
    assert watcher.told()[1:] == [("diff", watcher.told()[0][1] + 1, [], [], ["c2"])]


async def test_a_leave_sent_just_before_the_connection_closed_counts(
    autojump_clock: MockClock, desk: Desk
) -> None:
    session = FakeSession("s")
    await desk.do(_announce(session, "c1"))
    session.closed = True
    await desk.do(_announce(session, "c1", None), SessionGone(session))
    assert desk.presence.statistics().num_members == 0


async def test_a_late_leave_of_a_closed_session_spares_who_took_over(
    autojump_clock: MockClock, desk: Desk
) -> None:
    old, new = FakeSession("old"), FakeSession("new")
    await desk.do(_announce(old, "c1"), _announce(new, "c1"))
    old.closed = True
    await desk.do(_announce(old, "c1", None), SessionGone(old))
    await trio.sleep(60)
    assert desk.presence.statistics().num_members == 1


async def test_nothing_of_a_session_that_ended_stays(autojump_clock: MockClock, desk: Desk) -> None:
    session = FakeSession("s", closed=True)
    await desk.do(SessionGone(session))
    await desk.do(_announce(session, "c1"), WatchPresence(session, ROOM))
    assert session.replies == [(1, ErrorCode.CLIENT_DENIED)]
    assert desk.presence.statistics().num_channels == 0


async def test_unwatching_ends_what_a_session_is_sent(
    autojump_clock: MockClock, desk: Desk
) -> None:
    watcher = FakeSession("w")
    await desk.do(WatchPresence(watcher, ROOM))
    await desk.do(UnwatchPresence(watcher, ROOM), _announce(FakeSession("s"), "c1"))
    await trio.sleep(1)
    assert len(watcher.raw) == 1


async def test_a_full_channel_refuses_the_announcer_alone() -> None:
    presence = Presence(Limits(presence_members=1), Timing(), lambda: None)
    session = FakeSession("s")
    async with trio.open_nursery() as nursery:
        await nursery.start(presence.run)
        presence.submit_nowait(
            [_announce(session, "c1"), _announce(session, "c2", request_id=2)], 0
        )
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert session.replies == [(1, None), (2, ErrorCode.LIMIT_EXCEEDED)]


async def test_a_query_is_answered_with_decoded_members(
    autojump_clock: MockClock, desk: Desk
) -> None:
    answers: list[Any] = []
    await desk.do(_announce(_ann(), "c1", {"x": 1}), QueryPresence(ROOM, answers.append))
    states = [{"client": "c1", "state": {"x": 1}}]
    assert answers == [[{"member": "ann", "user": "ann", "states": states}]]


async def test_a_slow_watcher_gets_a_fresh_state_instead_of_what_it_missed(
    autojump_clock: MockClock, desk: Desk
) -> None:
    slow, quick = FakeSession("slow"), FakeSession("quick")
    await desk.do(WatchPresence(slow, ROOM), WatchPresence(quick, ROOM))
    slow.takes = False
    for n in range(3):
        await desk.do(_announce(FakeSession("s"), f"c{n}"))
        await trio.sleep(0.2)
    assert len(quick.raw) == 4
    await trio.sleep(5)
    slow.takes = True
    await trio.sleep(presence_module.SETTLE_S + 0.1)
    assert [kind for kind, *_ in slow.told()] == ["state", "state"]
    assert slow.told()[1][1:] == (quick.told()[-1][1], ["c0", "c1", "c2"])
    await desk.do(_announce(FakeSession("s"), "c9"))
    await trio.sleep(0.2)
    assert slow.raw[-1] is quick.raw[-1]


async def test_ten_thousand_watchers_share_one_encoded_diff_and_others_run_between(
    autojump_clock: MockClock,
    desk: Desk,
) -> None:
    watchers = [FakeSession(f"w{n}") for n in range(10_000)]
    await desk.do(*(WatchPresence(w, ROOM) for w in watchers))
    session = FakeSession("s")
    await desk.do(*(_announce(session, f"c{n}") for n in range(10_000)))
    reached: list[int] = []
    desk.presence._flush = lambda: reached.append(sum(len(w.raw) == 2 for w in watchers))
    await trio.sleep(0.2)
    assert {len(w.raw) for w in watchers} == {2}
    assert len({id(w.raw[0]) for w in watchers}) == 1
    assert len({id(w.raw[1]) for w in watchers}) == 1
    assert desk.presence.statistics().num_diffs == 1
    steps = [after - before for before, after in itertools.pairwise([0, *reached])]
    assert max(steps) <= presence_module.SLICE


async def test_fan_out_gives_other_tasks_a_turn_after_every_slice(
    autojump_clock: MockClock, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "SLICE", 10)
    watchers = [FakeSession(f"w{n}") for n in range(95)]
    seen: list[int] = []

    async def look() -> None:
        while True:
            seen.append(sum(bool(w.raw) for w in watchers))
            await trio.lowlevel.checkpoint()

    channels = [ChannelName(f"demo:{n % 7}") for n in range(95)]
    desk.presence.submit_nowait(list(map(WatchPresence, watchers, channels)), 0)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            while seen[-1:] != [95]:
                await trio.lowlevel.checkpoint()
            scope.cancel()
    steps = [after - before for before, after in itertools.pairwise(seen)]
    assert max(steps) <= 10


# ------------------------------------------------------------------------------------------------ faults


async def test_a_command_that_fails_fails_alone(
    autojump_clock: MockClock, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = FakeSession("good"), FakeSession("bad")
    answers: list[Any] = []

    def explode(*_: object) -> None:
        raise ZeroDivisionError

    bad.identity = Identity(user="\ud800")
    monkeypatch.setattr(desk.presence._set, "members", explode)
    await desk.do(
        _announce(good, "c1"),
        _announce(bad, "c2"),
        QueryPresence(ROOM, answers.append),
        QueryPresence(ROOM, explode),
        WatchPresence(good, ChannelName("\ud800")),
        _announce(good, "c3", request_id=3),
    )
    assert good.replies == [(1, None), (3, None)]
    assert bad.replies == [(1, ErrorCode.INTERNAL_ERROR)]
    assert [answer.code for answer in answers] == [ErrorCode.INTERNAL_ERROR]
    assert desk.health.num_restarts == 0


async def test_a_session_that_cannot_be_sent_to_fails_alone(
    autojump_clock: MockClock, desk: Desk
) -> None:
    bad, good = FakeSession("bad", is_broken=True), FakeSession("good")
    await desk.do(WatchPresence(bad, ROOM), WatchPresence(good, ROOM))
    await desk.do(_announce(FakeSession("s"), "c1"))
    await trio.sleep(0.2)
    assert len(good.raw) == 2
    assert desk.health.num_restarts == 0
    bad.is_broken = False
    await trio.sleep(2)
    assert [kind for kind, *_ in bad.told()] == ["state"]


def _crash_at_next_advance(desk: Desk) -> None:
    def explode(now: float) -> list[Any]:
        raise ZeroDivisionError

    desk.presence._set.advance = explode  # type: ignore[method-assign]


async def test_after_a_crash_watchers_get_one_whole_state_and_no_flicker(
    autojump_clock: MockClock, desk: Desk
) -> None:
    watcher, sessions = FakeSession("w"), [FakeSession(f"s{n}") for n in range(3)]
    announcements = [_announce(s, s.id) for s in sessions]
    await desk.do(*announcements, WatchPresence(watcher, ROOM))
    await desk.do(_announce(sessions[0], "s0", "newer"))
    await trio.sleep(0.2)
    seq = watcher.told()[-1][1]

    gone = sessions.pop()
    await desk.do(SessionGone(gone))
    again = [_announce(s, s.id, request_id=None) for s in sessions]
    desk.on_restart = [again[0], WatchPresence(watcher, ROOM), again[1]]
    asker = FakeSession("asker")
    answers: list[Any] = []
    _crash_at_next_advance(desk)
    num_replies = [len(s.replies) for s in sessions]
    await desk.do(_announce(asker, "c9"), QueryPresence(ROOM, answers.append))
    assert asker.replies == [(1, None)]
    assert len(answers) == 1
    assert (desk.health.state, desk.health.num_restarts) == (Health.OK, 1)

    num_told = len(watcher.raw)
    await trio.sleep(0.9)
    assert len(watcher.raw) == num_told
    await trio.sleep(0.2)
    [(kind, new_seq, ids)] = watcher.told()[num_told:]
    assert (kind, ids) == ("state", ["s0", "s1"])
    assert new_seq > seq
    assert [len(s.replies) for s in sessions] == num_replies
    await desk.do(_announce(sessions[0], "s0", "newest"))
    await trio.sleep(20)
    assert watcher.told()[num_told + 1 :] == [("diff", new_seq + 1, [], ["s0"], [])]


async def test_what_was_taken_and_not_served_at_a_crash_is_answered_with_an_error(
    autojump_clock: MockClock, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence_module, "SLICE", 1)
    session = FakeSession("s")
    answers: list[Any] = []
    _crash_at_next_advance(desk)
    desk.presence.submit_nowait(
        [
            _announce(session, "c1", request_id=1),
            _announce(session, "c2", request_id=2),
            _announce(session, "c3", request_id=None),
            QueryPresence(ROOM, answers.append),
        ],
        0,
    )
    await trio.testing.wait_all_tasks_blocked()
    assert session.replies == [(1, None), (2, ErrorCode.INTERNAL_ERROR)]
    assert [answer.code for answer in answers] == [ErrorCode.INTERNAL_ERROR]
    await desk.do(_announce(session, "c4", request_id=4))
    assert session.replies[-1] == (4, None)


async def test_counts_go_on_over_a_crash(autojump_clock: MockClock, desk: Desk) -> None:
    watcher = FakeSession("w")
    await desk.do(WatchPresence(watcher, ROOM))
    await desk.do(_announce(FakeSession("s"), "c1"))
    await trio.sleep(0.2)
    _crash_at_next_advance(desk)
    await desk.do(SessionGone(watcher))
    statistics = desk.presence.statistics()
    assert (statistics.num_diffs, statistics.num_deliveries) == (1, 2)
    assert (statistics.num_members, statistics.num_watchers) == (0, 0)


# ------------------------------------------------------------------------------------------------ stopping, bounds


async def test_a_cancelled_actor_answers_all_who_wait_and_refuses_the_rest() -> None:
    presence = Presence(Limits(), Timing(), lambda: None)
    session = FakeSession("s")
    answers: list[Any] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(presence.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    with pytest.raises(ActorStopped):
        presence.submit_nowait([_announce(session, "c1")], 0)

    presence = Presence(Limits(), Timing(), lambda: None)
    presence.submit_nowait([_announce(session, "c1"), QueryPresence(ROOM, answers.append)], 0)
    presence.close()
    presence.close()
    await presence.run()
    assert session.replies == [(1, ErrorCode.SHUTTING_DOWN)]
    assert [answer.code for answer in answers] == [ErrorCode.SHUTTING_DOWN]


async def test_a_cancel_amid_a_batch_answers_the_rest_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(presence_module, "SLICE", 1)
    scope = trio.CancelScope()
    presence = Presence(Limits(), Timing(), scope.cancel)
    session = FakeSession("s")
    presence.submit_nowait([_announce(session, f"c{n}", request_id=n) for n in range(3)], 0)
    with scope:
        await presence.run()
    stopped = ErrorCode.SHUTTING_DOWN
    assert session.replies == [(0, None), (1, stopped), (2, stopped)]


async def test_closing_ends_the_actor_without_a_crash(
    autojump_clock: MockClock, desk: Desk
) -> None:
    desk.presence.close()
    await trio.testing.wait_all_tasks_blocked()
    assert (desk.health.state, desk.health.num_restarts) == (Health.STOPPED, 0)


async def test_the_mailbox_is_bounded_and_submit_waits(nursery: trio.Nursery) -> None:
    presence = Presence(Limits(), Timing(), lambda: None)
    gone = SessionGone(FakeSession("s"))
    presence.submit_nowait([gone] * presence_module.MAILBOX_COMMANDS, 0)
    with pytest.raises(MailboxFull):
        presence.submit_nowait([gone], 0)
    async with trio.open_nursery() as feeding:
        feeding.start_soon(presence.submit, [gone], 0)
        await trio.testing.wait_all_tasks_blocked()
        assert feeding.child_tasks
        await nursery.start(presence.run)
    nursery.cancel_scope.cancel()


async def test_an_idle_actor_has_no_timer(autojump_clock: MockClock, desk: Desk) -> None:
    watcher, session = FakeSession("w"), FakeSession("s")
    await desk.do(WatchPresence(watcher, ROOM), _announce(session, "c1"))
    await trio.sleep(1)
    num_flushes = len(desk.flushes)
    await trio.sleep(3600)
    assert len(desk.flushes) == num_flushes
