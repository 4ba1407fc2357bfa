"""A Redis with replicas: any of them may answer after a restart, and nothing that it says of itself tells that it was one and is behind."""

import pytest

from syncd.testing.process import free_port
from syncd.testing.redis_process import wait_until
from tests.conformance.redis_lives import append, back, head, join, make_server, restart

__all__ = ["join", "make_server"]  # fixtures

META = "{syncd}:meta"


@pytest.fixture
def make_master(make_server):
    """A server that may have replicas."""

    def make(appendfsync="always"):
        where = ("--port", str(free_port()), "--bind", "127.0.0.1")
        return make_server(appendfsync, *where, "--repl-diskless-sync-delay", "0")

    return make


def follow(replica, master):
    port = master.ask("CONFIG", "GET", "port")[1].decode()
    replica.ask("REPLICAOF", "127.0.0.1", port)
    wait_until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"), "a replica")
    wait_until(lambda: b"state=online" in master.ask("INFO", "replication"), "a replica")
    wait_until(lambda: writes_its_file(replica), "a file of what it was sent")


def writes_its_file(replica):
    info = replica.ask("INFO", "persistence")
    return b"aof_rewrite_in_progress:0" in info and b"aof_rewrite_scheduled:0" in info


def offset(server):
    info = server.ask("INFO", "replication").decode()
    return dict(line.split(":", 1) for line in info.split() if ":" in line)["master_repl_offset"]


def promote(replica, master):
    """It has all there is, and gets nothing of what comes now."""
    wait_until(lambda: offset(replica) == offset(master), "a replica that has all")
    replica.ask("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("is_there_first", [True, False])
def test_a_replica_that_was_promoted_and_restarted_before_anybody_looked(
    make_master, join, is_there_first
):
    """Found by an audit: a restart wipes out that it was promoted, and it gave offsets again."""
    master, replica = make_master(), make_master()
    if is_there_first:
        follow(replica, master)
    store = join(master)
    append(store, 2)
    if not is_there_first:
        follow(replica, master)
        store.look()
        append(store)
    num_kept = head(store).top
    promote(replica, master)
    told = append(store, 2)[-1]
    master.kill()
    restart(replica)
    assert b"master_replid2:0000" in replica.ask("INFO", "replication")
    survivor = join(replica)
    found = head(survivor)
    assert found.top == num_kept
    assert found.epoch != told.epoch


def test_a_replica_that_is_behind_the_note_of_it_is_behind_the_era_too(make_master, join):
    """The note that there are replicas may be what it lacks: what is told after it is of another era, which it lacks as well."""
    master, replica = make_master(), make_master()
    store = join(master)
    before = append(store)[0]
    follow(replica, master)
    promote(replica, master)
    follow(make_master(), master)
    store.look()
    told = append(store)[0]
    restart(replica)
    survivor = join(replica)
    assert head(survivor).epoch == before.epoch
    (again,) = append(survivor)
    assert (again.epoch, again.offset) != (told.epoch, told.offset)


def test_while_there_were_replicas_every_restart_begins_a_new_era_and_only_one(make_master, join):
    """An honest one too: it cannot be told from a replica."""
    master, replica = make_master(), make_master()
    follow(replica, master)
    store = join(master)
    append(store)
    told = head(store)
    restart(master)
    renewed = back(store)
    assert renewed.epoch != told.epoch
    append(store)
    wait_until(lambda: b"state=online" in master.ask("INFO", "replication"), "a replica")
    store.look()
    assert head(store).epoch == renewed.epoch
    replica.kill()
    restart(master)
    assert back(store).epoch != renewed.epoch, "there may be more replicas than those seen now"


def ask_for_a_copy(replica, master):
    """It is to wait for the copy, as one that starts together with its master does for five seconds."""
    master.ask("CONFIG", "SET", "repl-diskless-sync-delay", "600")
    replica.ask("REPLICAOF", "127.0.0.1", master.ask("CONFIG", "GET", "port")[1].decode())
    wait_until(lambda: b"state=wait_bgsave" in master.ask("INFO", "replication"), "a replica")


def test_a_replica_that_was_there_before_the_first_node_does_not_end_the_first_era(
    make_master, join
):
    """Found by tests of the compose files: with the copy, seconds after the first answers, another era began."""
    master, replica = make_master(), make_master()
    ask_for_a_copy(replica, master)
    store = join(master)
    append(store)
    told = head(store)
    master.ask("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    wait_until(lambda: b"state=online" in master.ask("INFO", "replication"), "a replica")
    store.look()
    assert head(store) == told
    replica.kill()
    restart(master)
    assert back(store).epoch != told.epoch, "it might have been the replica, and behind"


def test_an_operator_who_has_no_replicas_any_more_says_so(make_master, join):
    master, replica = make_master(), make_master()
    follow(replica, master)
    store = join(master)
    append(store)
    replica.kill()
    master.ask("HDEL", META, "replicas")
    restart(master)
    back(store)
    append(store)
    told = head(store)
    restart(master)
    assert back(store) == told


def test_a_master_that_followed_another_meanwhile_is_another(make_master, join):
    """Its process is the same, its data is what the other had."""
    master, other = make_master(None), make_master(None)
    store = join(master)
    append(store, 2)
    follow(other, master)
    store.look()
    append(store)
    promote(other, master)
    told = append(store)[0]
    follow(master, other)
    promote(master, other)
    store.close()
    assert back(store).epoch != told.epoch
    (again,) = append(store)
    assert (again.epoch, again.offset) != (told.epoch, told.offset)


def test_a_copy_that_is_read_for_a_backup_is_no_replica(make_master, join):
    """`redis-cli --rdb` reads as a replica does; it is never online."""
    master = make_master()
    store = join(master)
    append(store)
    told = head(store)
    with master.client() as client, client.pubsub() as reader:
        reader.execute_command("REPLCONF", "rdb-only", 1)
        reader.parse_response()
        reader.execute_command("SYNC")
        wait_until(lambda: b"connected_slaves:1" in master.ask("INFO", "replication"), "a reader")
        store.look()
    assert head(store).epoch == told.epoch
