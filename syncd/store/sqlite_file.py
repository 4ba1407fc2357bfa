"""Opening the SQLite file: alone, checked, at the schema this program speaks. Called by `SqliteStore.open` and by nobody else.

Invariant: whoever holds a connection from `open_file` is the only one to have the file open, in this or any process.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from syncd.errors import ConfigError, StoreUnavailable
from syncd.store.base import StoreFailed

__all__ = [
    "BACKUP_MARK",
    "BULK_WAL_PAGES",
    "MIGRATIONS",
    "WAL_PAGES",
    "Migration",
    "check_file",
    "create_private",
    "mark_copy",
    "open_file",
    "open_to_read",
    "size_bytes",
    "translated",
]

Migration = tuple[str, ...]
"""Statements that lead from one schema number to the next."""

APPLICATION_ID = 0x73796E63
"""`sync` in ASCII, so that a file of another program is never taken for ours."""

GENERATIONS_AFTER = 2**30
"""Ids of generations come after this, those of channels before it: at the end of the table, where rows are added at the least cost."""

MIGRATIONS: tuple[Migration, ...] = (
    (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        """CREATE TABLE channel (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, epoch TEXT NOT NULL, top INTEGER NOT NULL,
            floor INTEGER NOT NULL, num_events INTEGER NOT NULL, is_latest INTEGER NOT NULL)""",
        """CREATE TABLE event (
            channel_id INTEGER NOT NULL, offset INTEGER NOT NULL, at_ms INTEGER NOT NULL, key TEXT,
            record BLOB NOT NULL, PRIMARY KEY (channel_id, offset)) WITHOUT ROWID""",
        """CREATE TABLE latest (
            channel_id INTEGER NOT NULL, key BLOB NOT NULL, offset INTEGER NOT NULL,
            PRIMARY KEY (channel_id, key)) WITHOUT ROWID""",
        """CREATE TABLE idempotency (
            identity TEXT NOT NULL, operation TEXT NOT NULL, key TEXT NOT NULL, hash BLOB NOT NULL,
            channel_id INTEGER NOT NULL, offset INTEGER NOT NULL, at_ms INTEGER NOT NULL,
            PRIMARY KEY (identity, operation, key)) WITHOUT ROWID""",
        "CREATE INDEX idempotency_at ON idempotency (at_ms)",
    ),
    (
        """CREATE TABLE entry (
            channel_id INTEGER NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, tags TEXT, value BLOB NOT NULL,
            PRIMARY KEY (channel_id, key)) WITHOUT ROWID""",
        """CREATE TABLE tag (
            tag TEXT NOT NULL, channel TEXT NOT NULL, key TEXT NOT NULL,
            PRIMARY KEY (tag, channel, key)) WITHOUT ROWID""",
        """CREATE TABLE client (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, last INTEGER NOT NULL, at_ms INTEGER NOT NULL)""",
        "CREATE INDEX client_at ON client (at_ms)",
        """CREATE TABLE outcome (
            client_id INTEGER NOT NULL, mid INTEGER NOT NULL, at_ms INTEGER NOT NULL, positions TEXT NOT NULL,
            outcome BLOB NOT NULL, PRIMARY KEY (client_id, mid)) WITHOUT ROWID""",
        "CREATE INDEX outcome_at ON outcome (at_ms)",
    ),
    (
        "ALTER TABLE channel ADD COLUMN num_entries INTEGER NOT NULL DEFAULT 0",
        "UPDATE channel SET num_entries = (SELECT count(*) FROM entry WHERE channel_id = channel.id)",
        """CREATE TABLE dirty (
            channel TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL,
            PRIMARY KEY (channel, key)) WITHOUT ROWID""",
        """CREATE TABLE keyed_outcome (
            identity TEXT NOT NULL, operation TEXT NOT NULL, key TEXT NOT NULL, hash BLOB NOT NULL,
            at_ms INTEGER NOT NULL, positions TEXT NOT NULL, outcome BLOB NOT NULL,
            PRIMARY KEY (identity, operation, key)) WITHOUT ROWID""",
        "CREATE INDEX keyed_outcome_at ON keyed_outcome (at_ms)",
    ),
    (
        """CREATE TABLE rebuild (
            collection TEXT PRIMARY KEY, job TEXT NOT NULL, token INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
            is_open INTEGER NOT NULL, fills INTEGER NOT NULL, after TEXT, done INTEGER NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE generation (
            channel TEXT NOT NULL, key TEXT NOT NULL, is_touched INTEGER NOT NULL, tags TEXT, value BLOB,
            PRIMARY KEY (channel, key)) WITHOUT ROWID""",
    ),
    (
        "ALTER TABLE entry RENAME COLUMN channel_id TO generation",
        "ALTER TABLE channel ADD COLUMN generation INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE channel ADD COLUMN generation_at INTEGER NOT NULL DEFAULT 0",
        "UPDATE channel SET generation = id",
        "ALTER TABLE tag RENAME TO former_tag",
        """CREATE TABLE tag (
            tag TEXT NOT NULL, channel TEXT NOT NULL, key TEXT NOT NULL, generation INTEGER NOT NULL,
            PRIMARY KEY (tag, channel, key, generation)) WITHOUT ROWID""",
        "INSERT INTO tag SELECT tag, channel, key, id FROM former_tag JOIN channel ON name = channel",
        "DROP TABLE former_tag",
        "DROP TABLE generation",
        """CREATE TABLE generation (
            id INTEGER PRIMARY KEY AUTOINCREMENT, state INTEGER NOT NULL, collection TEXT NOT NULL, channel TEXT NOT NULL,
            num_entries INTEGER NOT NULL DEFAULT 0, num_changed INTEGER NOT NULL DEFAULT 0)""",
        f"INSERT INTO sqlite_sequence (name, seq) VALUES ('generation', {GENERATIONS_AFTER})",  # noqa: S608 - a constant
        "CREATE INDEX generation_state ON generation (state, collection, channel)",
        """CREATE TABLE touched (
            generation INTEGER NOT NULL, key TEXT NOT NULL, PRIMARY KEY (generation, key)) WITHOUT ROWID""",
        """CREATE TABLE changed (
            generation INTEGER NOT NULL, key TEXT NOT NULL, PRIMARY KEY (generation, key)) WITHOUT ROWID""",
        "ALTER TABLE rebuild ADD COLUMN is_mixed INTEGER NOT NULL DEFAULT 0",
        "UPDATE rebuild SET job = '', expires_ms = 0, is_open = 0 WHERE is_open",
    ),
)
"""From schema 0 (an empty file) on; the schema number is how many were run. Only ever appended to.

`latest` says where the one event of a key lies (0 for events without one), for latest channels alone, so that streams pay
nothing for it.
`idempotency` names a channel and not its epoch: a restored copy, whose channels get new epochs, still knows its keys. `outcome.positions` does so too: pairs of channel id and offset.
`entry.tags` is a JSON list, NULL for none; `tag` is its index, by channel name, since that is how it is asked and ordered.
`client.at_ms` is renewed once an hour (`CLIENT_USE_MS`). `dirty` has entries that the application has not acknowledged yet, deleted ones too, by channel name as `tag`.
`keyed_outcome` is for mutations without a client; apart from `idempotency`, whose rows are small and many.
`rebuild` has a row for each collection that was ever rebuilt, so that its tokens ascend.
`entry.generation` is the one of its channel that it belongs to: `channel.generation` is the one that is served, at first the channel's id; others have a row
in `generation`, see `sqlite_generations`. A version of 0 stands for `channel.generation_at`, the offset at which a generation took the place of the one before.
"""

BACKUP_MARK = "backup"
"""Meta key of a copy: whoever opens it must not go on with the original's epochs."""

WAL_PAGES = 4000
"""Checkpoint at 16 MiB of log: rows of one page written by many transactions reach the file once. The commit that runs it
takes some 20 ms, once in about 20,000 events."""

BULK_WAL_PAGES = 1000
"""The same while the pages of a rebuild are written, which no later transaction writes again: 4 MiB, 5 to 8 ms each."""

CACHE_KIB = 16_384
"""Pages kept in memory. Idempotency keys land on random pages; this holds those of about 100,000 keys."""

QUICK_CHECK_BYTES = 64 * 1024 * 1024
"""Files up to this size are checked at every start, in under 0.1 s when cached; larger ones only by `PRAGMA quick_check` by hand."""

_FATAL_IOERR = frozenset(
    {
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
        sqlite3.SQLITE_IOERR_DATA,
    }
)
_TEMPORARY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
    }
)
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def translated(error: sqlite3.Error) -> Exception:
    """Return what the rest of the house understands, or the error itself if it is a fault of ours.

    A failed write (disk full, quota, read-only remount) leaves SQLite's log where it was and may be tried again. A failed
    fsync may not: see `StoreFailed`.
    """
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return error
    name = error.sqlite_errorname
    if code in _FATAL_IOERR or code & 0xFF in _DAMAGED:
        return StoreFailed(f"SQLite reports {name}: {error}")
    if code & 0xFF in _TEMPORARY:
        return StoreUnavailable(f"The store cannot read or write now ({name}).")
    return error


def open_file(
    path: Path, *, lock_wait_s: float, migrations: Sequence[Migration] = MIGRATIONS
) -> sqlite3.Connection:
    """Open the file alone and bring it to the schema of `migrations`.

    Raises:
        ConfigError: it cannot be opened, is in use, damaged, newer, or of another program.
    """
    create_private(path)
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _acquire(connection, lock_wait_s)
        _check(connection, path)
        _migrate(connection, path, migrations)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise _refusal(path, error) from error  # noqa: ASYNC104 - not async code
        raise
    return connection


def size_bytes(path: Path) -> int:
    """Return the size of the file with its write-ahead log."""
    total = 0
    for part in (path, _wal(path)):
        with contextlib.suppress(OSError):
            total += part.stat().st_size
    return total


def mark_copy(path: Path) -> None:
    """Mark a copy of a store, not open anywhere, so that whoever opens it begins new epochs."""
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (BACKUP_MARK, b"1"))


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open a file that no node has open, and leave nothing beside it: the place may be one where nobody may write."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    if not _wal(path).exists():
        uri += "&immutable=1"
    return sqlite3.connect(uri, uri=True, check_same_thread=False)


def check_file(path: Path) -> None:
    """See that a file, open nowhere, is a sound database of ours.

    Raises:
        ConfigError: it is not, or cannot be read.
    """
    try:
        with contextlib.closing(open_to_read(path)) as connection:
            number = _schema_number(connection, path)
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        raise ConfigError(f"The file {path} cannot be read as a database: {error}.") from error
    if not 0 < number <= len(MIGRATIONS):
        raise ConfigError(
            f"The file {path} has schema {number}; this program knows 1 to {len(MIGRATIONS)}."
        )
    if found != "ok":
        raise _damaged(path, found.splitlines()[-1])


def create_private(path: Path) -> None:
    """Create the file for its owner only, since it holds secrets; one that is there is left alone."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        msg = f"The database {path} cannot be created: {error.strerror}. Set --db to a writable place."
        raise ConfigError(msg) from error


def _acquire(connection: sqlite3.Connection, lock_wait_s: float) -> None:
    """Set the modes and take the lock, which stays until the connection is closed."""
    connection.execute(f"PRAGMA busy_timeout = {int(lock_wait_s * 1000)}")
    # Before the first touch of the log: then it needs no shared memory, and no other process can come in.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA mmap_size = 0").fetchall()
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("COMMIT")
    connection.execute("PRAGMA journal_mode = WAL").fetchall()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}").fetchall()
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    # Statements run on the loop and must not write; a transaction is far smaller than memory.
    connection.execute("PRAGMA cache_spill = OFF")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if size_bytes(path) > QUICK_CHECK_BYTES:
        return
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise _damaged(path, found.splitlines()[-1])


def _damaged(path: Path, what: object) -> ConfigError:
    return ConfigError(
        f"The database {path} is damaged ({what}). Keep it for analysis, and either restore a backup (new epochs make"
        f" clients load afresh) or move {path}, {path}-wal away to start with an empty log."
    )


def _refusal(path: Path, error: sqlite3.Error) -> ConfigError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return ConfigError(
            f"The database {path} is in use by another process. One node owns a file alone: stop the other one, or set"
            " --db to a file of its own."
        )
    if code == sqlite3.SQLITE_NOTADB:
        return ConfigError(f"The file {path} is not a database. Set --db to another file.")
    if code == sqlite3.SQLITE_CORRUPT:
        return _damaged(path, error)
    return ConfigError(
        f"The database {path} cannot be opened: {error}. Check --db, its rights and space."
    )


def _migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    """Run what is missing in one transaction, after a copy of the file if there is anything to lose."""
    number = _schema_number(connection, path)
    if number > len(migrations):
        raise ConfigError(
            f"The database {path} has schema {number}, this program knows up to {len(migrations)}. Run a newer syncd, or"
            f" go back to the copy {path}.before-v{number} if there is one."
        )
    if number == len(migrations):
        return
    if number:
        _copy(connection, path.with_name(f"{path.name}.before-v{len(migrations)}"))
    connection.execute("BEGIN EXCLUSIVE")
    try:
        for migration in migrations[number:]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _schema_number(connection: sqlite3.Connection, path: Path) -> int:
    number = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application == APPLICATION_ID:
        return number
    num_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if num_tables or number:
        raise ConfigError(f"The database {path} is not one of syncd. Set --db to another file.")
    return 0


def _copy(connection: sqlite3.Connection, to: Path) -> None:
    """Copy the whole database, log included, through the one connection that may read it."""
    draft = to.with_name(to.name + ".draft")
    draft.unlink(missing_ok=True)
    create_private(draft)
    with contextlib.closing(sqlite3.connect(draft)) as copy:
        connection.backup(copy)
    draft.replace(to)
