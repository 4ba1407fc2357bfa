"""Which server keeps all it answered: only from one that did to one that does, an epoch goes on over a restart."""

import structlog.testing

from tests.conformance.redis_lives import append, back, head, join, make_server, restart

__all__ = ["join", "make_server"]  # fixtures


def aof_size(server):
    (path,) = (server.folder / "appendonlydir").glob("*.incr.aof")
    return path.stat().st_size


def test_a_life_that_may_have_lost_its_end_is_not_gone_on_with_by_one_that_keeps_all(
    make_server, join
):
    """Found by an audit: whoever moved to `always`, as the docs advise, got positions of before with other content."""
    server = make_server("everysec")
    store = join(server)
    append(store, 2)
    size = aof_size(server)
    told = append(store, 2)[-1]
    server.set_appendfsync("always")
    restart(server, num_lost_bytes=aof_size(server) - size)
    assert back(store).epoch != told.epoch
    (again,) = append(store)
    assert (again.epoch, again.offset) != (told.epoch, 3)


def test_from_the_first_restart_between_two_that_keep_all_epochs_go_on(make_server, join):
    server = make_server("everysec")
    store = join(server)
    append(store)
    server.set_appendfsync("always")
    restart(server)
    back(store)
    append(store)
    told = head(store)
    restart(server)
    assert back(store) == told


def test_what_a_server_was_set_to_while_it_ran_counts_as_the_weakest_that_was_seen(
    make_server, join
):
    server = make_server("always")
    store = join(server)
    append(store)
    server.ask("CONFIG", "SET", "appendfsync", "everysec")
    store.look()
    told = append(store, 2)[-1]
    size = aof_size(server)
    append(store)
    server.ask("CONFIG", "SET", "appendfsync", "always")
    store.look()
    restart(server, num_lost_bytes=aof_size(server) - size)
    assert back(store).epoch != told.epoch


def test_a_note_that_was_lost_with_what_it_is_about_is_not_missed(make_server, join):
    """What is told from then on is told in another era, which is lost with the note."""
    server = make_server("always")
    store, size = join(server), 0
    append(store)
    before = head(store)
    size = aof_size(server)
    server.ask("CONFIG", "SET", "appendfsync", "everysec")
    store.look()
    told = append(store)[0]
    restart(server, num_lost_bytes=aof_size(server) - size)
    assert back(store) == before
    (again,) = append(store)
    assert (again.epoch, again.offset) != (told.epoch, told.offset)


def test_a_server_that_brings_nothing_to_disk_while_it_rewrites_keeps_not_all(make_server, join):
    """With `always` alone it was trusted, and yet loses half a minute when the power fails during a rewrite."""
    server = make_server("always", "--no-appendfsync-on-rewrite", "yes")
    store = join(server)
    told = append(store)[0]
    restart(server)
    assert back(store).epoch != told.epoch


def test_a_server_that_is_set_so_while_it_runs_begins_a_new_era(make_server, join):
    server = make_server("always")
    store = join(server)
    told = append(store)[0]
    server.ask("CONFIG", "SET", "no-appendfsync-on-rewrite", "yes")
    store.look()
    assert head(store).epoch != told.epoch


def test_trimming_looks_at_the_server_once_a_second(make_server, join):
    server = make_server("always")
    now = [0.0]
    store = join(server, timer=lambda: now[0])
    told = append(store)[0]
    server.ask("CONFIG", "SET", "appendfsync", "everysec")
    store.trim(0, 1.0)
    assert head(store).epoch == told.epoch
    now[0] = 1.1
    store.trim(0, 1.0)
    assert head(store).epoch != told.epoch


def test_data_of_before_this_was_noted_is_taken_for_what_may_have_lost_its_end(make_server, join):
    server = make_server("always")
    store = join(server)
    told = append(store)[0]
    server.ask("HDEL", "{syncd}:meta", "kept")
    store.look()
    assert head(store).epoch == told.epoch
    restart(server)
    assert back(store).epoch != told.epoch


def test_a_look_at_a_server_that_is_as_it_was_writes_nothing(make_server, join):
    server = make_server("always")
    store = join(server)
    append(store)
    size = aof_size(server)
    store.look()
    assert aof_size(server) == size


def test_a_server_that_comes_to_throw_keys_away_is_told_of_once(make_server, join):
    """The policy was looked at with the start alone, and without `maxmemory` not even then."""
    server = make_server("always", "--maxmemory-policy", "allkeys-lru")

    def told(*settings):
        for setting, value in settings:
            server.ask("CONFIG", "SET", setting, value)
        with structlog.testing.capture_logs() as logs:
            store.look()
            store.look()
        return [(each["log_level"], each["event"], each["policy"]) for each in logs]

    store = join(server)
    assert told() == []
    assert told(("maxmemory", "100mb")) == [("error", "redis_evicts", "allkeys-lru")]
    assert told() == []
    assert told(("maxmemory-policy", "noeviction")) == []
    evicts = ("maxmemory-policy", "volatile-ttl")
    assert told(evicts) == [("error", "redis_evicts", "volatile-ttl")]
