"""The dashboard's routes: tables in pages, sorted and filtered, looked at seldom enough to cost nothing."""

import itertools

import pytest
import trio

from syncd.http.dashboard_api import LOOK_SHARE, MAX_LISTED, Look
from syncd.logs import recent_problems
from tests.integration.http_fakes import World, make_config


@pytest.fixture
def world():
    return World(make_config())


async def listed(world, path, row):
    status, answer = await world.ask("GET", f"/api/admin/{path}")
    assert status == 200, answer
    (name,) = set(answer) - {"num_found", "is_complete"}
    return [each[row] for each in answer[name]]


async def test_stats_tell_now_and_the_last_minutes(world):
    status, answer = await world.ask("GET", "/api/admin/stats")
    assert status == 200
    assert answer["columns"] == {"at_ms": [1000, 2000], "connections": [3, 4]}
    assert answer["now"]["sample"]["connections"] == 4


async def test_channels_are_sorted_filtered_and_paged(world, autojump_clock):
    for name, length in (("demo:b", 2), ("demo:a", 2), ("demo:c", 9), ("live:x", 1)):
        world.broadcaster.logs[name] = [b""] * length
    assert await listed(world, "channels?order=channel", "channel") == [
        "demo:a",
        "demo:b",
        "demo:c",
        "live:x",
    ]
    path = "channels?order=offset&descending=true&contains=demo"
    assert await listed(world, path, "channel") == ["demo:c", "demo:a", "demo:b"]
    assert await listed(world, f"{path}&skip=1&limit=1", "channel") == ["demo:a"]
    status, answer = await world.ask("GET", f"/api/admin/{path}&limit=1")
    assert (status, answer["num_found"], answer["is_complete"]) == (200, 3, True)


async def test_a_channels_rate_is_seen_at_the_second_look(world, autojump_clock):
    world.broadcaster.logs["demo:a"] = []
    assert await listed(world, "channels", "rate_per_s") == [None]
    await trio.sleep(2)
    world.broadcaster.logs["demo:a"] = [b""] * 10
    assert await listed(world, "channels", "rate_per_s") == [5.0]


async def test_sessions_with_the_fullest_outboxes_come_first(world):
    path = "sessions?order=outbox_bytes&descending=true"
    assert await listed(world, path, "session") == ["s-0", "s-1", "s-2"]
    assert await listed(world, f"{path}&contains=bob", "session") == ["s-2"]
    assert await listed(world, f"{path}&contains=c-1", "user") == ["ada"]


async def test_one_session_tells_its_channels(world):
    status, answer = await world.ask("GET", "/api/admin/sessions/s-0")
    assert (status, answer) == (200, {"session": "s-0", "channels": ["demo:a"]})
    assert (await world.ask("GET", "/api/admin/sessions/s-9"))[0] == 400


@pytest.mark.parametrize(
    "path", ["channels?order=size", "sessions?order=channel", "channels?limit=501", "errors?x=1"]
)
async def test_what_no_table_knows_is_refused(world, path):
    status, answer = await world.ask("GET", f"/api/admin/{path}")
    assert (status, answer["error"]["code"]) == (400, "bad_request")


async def test_errors_are_those_of_the_log_newest_first(world):
    for number in range(3):
        recent_problems(None, "warning", {"event": f"trouble_{number}", "level": "warning"})
    recent_problems(None, "info", {"event": "all_is_well", "level": "info"})
    status, answer = await world.ask("GET", "/api/admin/errors?limit=2")
    assert status == 200
    assert [row["event"] for row in answer["errors"]] == ["trouble_2", "trouble_1"]


# ------------------------------------------------------------------------------------------------ looks


async def test_a_look_is_as_seldom_as_it_is_dear(autojump_clock):
    """Looks cost at most a hundredth of the time, however many dashboards ask: the clock is moved by hand while one looks."""
    look, seen, cost_s = Look(), [], 0.2

    def each():
        seen.append(trio.current_time())
        autojump_clock.jump(cost_s)
        yield "row"

    begun = trio.current_time()
    while trio.current_time() - begun < 100:
        await look.renew(each)
        assert look.rows == ["row"]
        await trio.sleep(0.25)
    passed_s = trio.current_time() - begun
    assert len(seen) >= 2
    assert len(seen) * cost_s <= passed_s * LOOK_SHARE + cost_s
    assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(seen))


async def test_a_look_ends_after_the_first_rows_and_says_so(autojump_clock):
    look = Look()
    assert await look.renew(lambda: iter(range(MAX_LISTED + 1)))
    assert (len(look.rows), look.is_complete) == (MAX_LISTED, False)


async def test_a_look_that_is_cancelled_leaves_the_last_one(autojump_clock):
    look = Look()
    await look.renew(lambda: iter(["old"]))
    await trio.sleep(5)
    with trio.CancelScope() as scope:
        scope.cancel("the browser went away")
        await look.renew(lambda: iter(range(10_000)))
    assert look.rows == ["old"]
    assert await look.renew(lambda: iter(["new"]))
