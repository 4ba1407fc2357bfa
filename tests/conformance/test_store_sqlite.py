"""What only a file can do: survive, be copied, be in use, be full, be damaged, be of another age."""

import contextlib
import itertools
import resource
import shutil
import sqlite3
import subprocess
import sys

import pytest

from syncd.errors import ConfigError, StoreUnavailable
from syncd.ids import ChannelName
from syncd.ports_log import LogQuery
from syncd.store import sqlite_file
from syncd.store.base import NODE_SECRET, Retention, StoreFailed, StoreOptions
from syncd.store.sqlite import SqliteStore
from syncd.store.sqlite_file import mark_copy, open_file, translated


def write(store, *requests):
    results = store.begin(requests)
    store.commit()
    return results


def offsets(store, channel):
    return [e.offset for e in store.read(LogQuery(ChannelName(channel))).events]


def copy_as_kill_9_would_leave_it(tmp_path, name="log.db", to="copy.db"):
    """Copy the file and its log byte by byte while the store has both open."""
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(tmp_path / (name + suffix), tmp_path / (to + suffix))
    return to


# ------------------------------------------------------------------------------------------------ survival


def test_a_closed_store_opens_with_everything_in_it(make_sqlite, event):
    store = make_sqlite()
    (first,) = write(store, event("demo:a", uid="u"))
    secret = store.meta_get(NODE_SECRET)
    store.close()
    store = make_sqlite()
    assert store.meta_get(NODE_SECRET) == secret
    again, after = write(store, event("demo:a", uid="u"), event("demo:a"))
    assert (again.epoch, again.offset, again.is_duplicate) == (first.epoch, 1, True)
    assert (after.epoch, after.offset) == (first.epoch, 2)


def test_what_was_committed_survives_a_kill_and_what_was_not_leaves_no_trace(
    make_sqlite, event, tmp_path
):
    store = make_sqlite()
    write(store, *[event("demo:a", uid=str(n)) for n in range(10)])
    store.begin([event("demo:a"), event("demo:b")])
    survivor = make_sqlite(copy_as_kill_9_would_leave_it(tmp_path))
    assert offsets(survivor, "demo:a") == list(range(1, 11))
    assert offsets(survivor, "demo:b") == []
    assert write(survivor, event("demo:a", uid="3"))[0].is_duplicate
    assert write(survivor, event("demo:a"))[0].offset == 11


def test_the_epoch_of_an_unwritten_channel_survives_a_kill(make_sqlite, tmp_path):
    store = make_sqlite()
    told = store.load(ChannelName("demo:a"), 1, 1).head.epoch
    survivor = make_sqlite(copy_as_kill_9_would_leave_it(tmp_path))
    assert survivor.load(ChannelName("demo:a"), 1, 1).head.epoch == told


def test_asking_about_channels_writes_no_row(make_sqlite, tmp_path):
    store = make_sqlite()
    for n in range(100):
        store.load(ChannelName(f"demo:{n}"), 1, 1)
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        assert connection.execute("SELECT count(*) FROM channel").fetchone() == (0,)


def test_channels_beyond_the_cache_keep_their_place(make_sqlite, options, event):
    small = StoreOptions(options.retention_of, cached_channels=2, entropy=options.entropy)
    store = make_sqlite(options=small)
    names = [f"demo:{n}" for n in range(5)]
    for _, name in itertools.product(range(3), names):
        write(store, event(name))
    write(store, *[event(name) for name in names for _ in range(2)])
    assert store.statistics().num_channels_cached == 2
    assert [offsets(store, name) for name in names] == [[1, 2, 3, 4, 5]] * 5


def test_a_file_is_readable_by_its_owner_alone(make_sqlite, tmp_path):
    make_sqlite()
    for name in ("log.db", "log.db-wal"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0


def test_size_counts_the_log_beside_the_file(make_sqlite, event):
    store = make_sqlite()
    before = store.statistics().size_bytes
    write(store, event("demo:a", bytes(100_000)))
    assert store.statistics().size_bytes >= before + 100_000


# ------------------------------------------------------------------------------------------------ copies


def test_a_marked_copy_begins_new_epochs_and_keeps_its_events_and_keys(
    make_sqlite, event, tmp_path
):
    store = make_sqlite()
    (first,) = write(store, event("demo:a", uid="u"))
    unwritten = store.load(ChannelName("demo:b"), 1, 1).head.epoch
    store.close()
    shutil.copyfile(tmp_path / "log.db", tmp_path / "copy.db")
    mark_copy(tmp_path / "copy.db")
    copy = make_sqlite("copy.db")
    (again,) = write(copy, event("demo:a", uid="u"))
    assert again.epoch != first.epoch
    assert (again.offset, again.is_duplicate) == (1, True)
    assert copy.load(ChannelName("demo:b"), 1, 1).head.epoch != unwritten
    copy.close()
    assert make_sqlite("copy.db").load(ChannelName("demo:a"), 1, 1).head.epoch == again.epoch
    assert make_sqlite("log.db").load(ChannelName("demo:a"), 1, 1).head.epoch == first.epoch


# ------------------------------------------------------------------------------------------------ one owner


def test_a_second_node_on_the_same_file_is_refused(make_sqlite, event):
    store = make_sqlite()
    with pytest.raises(ConfigError, match="in use by another process"):
        make_sqlite()
    write(store, event("demo:a"))
    with pytest.raises(ConfigError, match="in use by another process"):
        make_sqlite()


def test_another_process_cannot_even_read(make_sqlite, event, tmp_path):
    write(make_sqlite(), event("demo:a"))
    look = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('SELECT * FROM event')"
    looked = subprocess.run(
        [sys.executable, "-c", look, tmp_path / "log.db"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "database is locked" in looked.stderr


def test_the_file_is_free_again_after_closing(make_sqlite):
    make_sqlite().close()
    make_sqlite()


def test_a_place_that_cannot_be_written_is_a_configuration_error(make_sqlite):
    with pytest.raises(ConfigError, match="--db"):
        make_sqlite("missing/log.db")


# ------------------------------------------------------------------------------------------------ schema


def test_an_older_file_is_copied_and_migrated_in_one_transaction(make_sqlite, event, tmp_path):
    store = make_sqlite()
    write(store, event("demo:a"))
    store.close()
    number = len(sqlite_file.MIGRATIONS)
    newer = (*sqlite_file.MIGRATIONS, ("CREATE TABLE extra (id INTEGER)",))
    with contextlib.closing(
        open_file(tmp_path / "log.db", lock_wait_s=0, migrations=newer)
    ) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (number + 1,)
        assert connection.execute("SELECT count(*) FROM event").fetchone() == (1,)
    told = f"has schema {number + 1}, this program knows up to {number}"
    with pytest.raises(ConfigError, match=told):
        make_sqlite()
    assert offsets(make_sqlite(f"log.db.before-v{number + 1}"), "demo:a") == [1]


def test_a_migration_that_fails_leaves_the_file_as_it_was(make_sqlite, event, tmp_path):
    store = make_sqlite()
    write(store, event("demo:a"))
    store.close()
    broken = (*sqlite_file.MIGRATIONS, ("CREATE TABLE extra (id INTEGER)", "NONSENSE"))
    with pytest.raises(ConfigError, match="cannot be opened"):
        open_file(tmp_path / "log.db", lock_wait_s=0, migrations=broken)
    store = make_sqlite()
    assert offsets(store, "demo:a") == [1]
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert "extra" not in names


def test_a_database_of_another_program_is_left_alone(make_sqlite, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as connection, connection:
        connection.execute("CREATE TABLE theirs (id INTEGER)")
    with pytest.raises(ConfigError, match="not one of syncd"):
        make_sqlite()


def test_a_file_that_is_no_database_is_refused(make_sqlite, tmp_path):
    (tmp_path / "log.db").write_bytes(b"certainly not a database, but long enough" * 100)
    with pytest.raises(ConfigError, match="not a database"):
        make_sqlite()


def test_a_damaged_file_is_refused_with_a_way_out(make_sqlite, event, tmp_path):
    store = make_sqlite()
    for _ in range(20):
        write(store, *[event("demo:a", bytes(500)) for _ in range(50)])
    store.close()
    path = tmp_path / "log.db"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = bytes(range(256)) * 16
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"is damaged .* restore a backup"):
        make_sqlite()


# ------------------------------------------------------------------------------------------------ faults


@contextlib.contextmanager
def no_file_may_grow_beyond(num_bytes):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_at_commit_undoes_the_batch_and_can_be_tried_again(
    make_sqlite, event, tmp_path
):
    store = make_sqlite()
    write(store, event("demo:a"))
    batch = [event("demo:a", bytes(100_000), uid="u"), event("demo:new")]
    store.begin(batch)
    with (
        no_file_may_grow_beyond((tmp_path / "log.db-wal").stat().st_size),
        pytest.raises(StoreUnavailable),
    ):
        store.commit()
    assert store.load(ChannelName("demo:a"), 0, 0).head.top == 1
    assert offsets(store, "demo:new") == []
    assert [(r.offset, r.is_duplicate) for r in write(store, *batch)] == [(2, False), (1, False)]
    survivor = make_sqlite(copy_as_kill_9_would_leave_it(tmp_path))
    assert offsets(survivor, "demo:a") == [1, 2]


def test_a_full_database_undoes_the_batch_and_can_be_tried_again(make_sqlite, event):
    store = make_sqlite()
    write(store, event("demo:a"))
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreUnavailable, match="SQLITE_FULL"):
        store.begin([event("demo:a", bytes(100_000), uid="u")])
    assert store.load(ChannelName("demo:a"), 0, 0).head.top == 1
    store._connection.execute("PRAGMA max_page_count = 1000000")
    assert write(store, event("demo:a", bytes(100_000), uid="u"))[0].offset == 2


def test_a_trim_that_fails_deletes_nothing(make_sqlite, event, tmp_path):
    store = make_sqlite()
    write(store, *[event("wide:a", bytes(2000)) for _ in range(200)])
    with (
        no_file_may_grow_beyond((tmp_path / "log.db-wal").stat().st_size),
        pytest.raises(StoreUnavailable),
    ):
        store.trim(10**9, 1.0)
    assert store.load(ChannelName("wide:a"), 0, 0).head.floor == 0
    assert offsets(store, "wide:a") == list(range(1, 201))
    assert store.trim(10**9, 1.0).num_events == 200
    assert store.load(ChannelName("wide:a"), 0, 0).head.floor == 200


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SQLITE_FULL", StoreUnavailable),
        ("SQLITE_BUSY", StoreUnavailable),
        ("SQLITE_LOCKED", StoreUnavailable),
        ("SQLITE_IOERR_WRITE", StoreUnavailable),
        ("SQLITE_READONLY", StoreUnavailable),
        ("SQLITE_IOERR_FSYNC", StoreFailed),
        ("SQLITE_IOERR_DIR_FSYNC", StoreFailed),
        ("SQLITE_CORRUPT", StoreFailed),
        ("SQLITE_CORRUPT_INDEX", StoreFailed),
        ("SQLITE_NOTADB", StoreFailed),
        ("SQLITE_CONSTRAINT_PRIMARYKEY", sqlite3.OperationalError),
    ],
)
def test_each_failure_is_told_by_what_can_be_done_about_it(name, expected):
    error = sqlite3.OperationalError("it went wrong")
    error.sqlite_errorname = name
    error.sqlite_errorcode = getattr(sqlite3, name)
    assert type(translated(error)) is expected


# ------------------------------------------------------------------------------------------------ changed modes


def options_with(options, retention):
    return StoreOptions(lambda _: retention, entropy=options.entropy, sweep_s=0.0)


def test_a_stream_that_becomes_latest_keeps_the_newest_of_each_key(make_sqlite, options, event):
    store = make_sqlite()
    write(store, *[event("demo:a", key=key) for key in "abcab"], event("demo:a"), event("demo:a"))
    store.close()
    latest = options_with(options, Retention(1000, 1e9, is_latest=True))
    store = make_sqlite(options=latest)
    write(store, event("demo:a", key="c"))
    assert offsets(store, "demo:a") == [4, 5, 7, 8]
    assert store.load(ChannelName("demo:a"), 0, 0).head.floor == 0


def test_a_latest_channel_that_becomes_a_stream_recovers_nothing_from_before(
    make_sqlite, options, event
):
    store = make_sqlite()
    (first, *_) = write(store, *[event("latest:a", key=key) for key in "abab"])
    store.close()
    store = make_sqlite(options=options_with(options, Retention(1000, 1e9)))
    head = store.load(ChannelName("latest:a"), 0, 0).head
    assert (head.epoch, head.top, head.floor) == (first.epoch, 4, 4)
    write(store, event("latest:a", key="a"), event("latest:a", key="a"))
    assert offsets(store, "latest:a") == [5, 6]
    assert store.load(ChannelName("latest:a"), 0, 0).head.floor == 4


def test_trimming_a_channel_whose_mode_changed_never_lowers_its_floor(make_sqlite, options, event):
    store = make_sqlite()
    write(store, *[event("latest:a", key=key) for key in "abab"])
    store.close()
    store = make_sqlite(options=options_with(options, Retention(1, 1.0)))
    store.trim(10**9, 1.0)
    assert store.load(ChannelName("latest:a"), 0, 0).head.floor == 4
    store.close()
    store = make_sqlite(options=options_with(options, Retention(1, 1.0)))
    assert store.load(ChannelName("latest:a"), 0, 0).head.floor == 4


def test_a_store_that_was_never_opened_makes_no_file(tmp_path, options):
    SqliteStore(tmp_path / "log.db", options)
    assert list(tmp_path.iterdir()) == []
