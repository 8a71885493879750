"""The tables of the ledger, as migrations that only ever grow by one more at the end.

A migration is a text that never changes once it is released: the checks spell out the enumerations of ``core`` (a test
holds them equal) and a new word is a new migration. ``PRAGMA user_version`` says how far a database has come, the table
``migrations`` when it came there; each step runs in one transaction, so it is there whole or not at all.
"""

import sqlite3
from collections.abc import Sequence

from reconciler.core.errors import refused

APPLICATION_ID = 0x5245434F  # "RECO": tells our database from a stranger's
LOST_ID = 0x4C4F5354  # "LOST": found unreadable in use; whoever opens it next moves it aside

_FIRST = """
CREATE TABLE migrations (version INTEGER PRIMARY KEY, applied_at REAL NOT NULL);

CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value NOT NULL) WITHOUT ROWID;

CREATE TABLE models (
  name TEXT PRIMARY KEY NOT NULL CHECK (name <> ''),
  spec_digest TEXT NOT NULL DEFAULT '',
  category TEXT NOT NULL DEFAULT '',
  format TEXT NOT NULL DEFAULT '',
  metadata TEXT NOT NULL DEFAULT '{}',
  source TEXT NOT NULL DEFAULT '',
  download_bytes INTEGER CHECK (download_bytes >= 0),
  size_bytes INTEGER CHECK (size_bytes >= 0),
  memory_bytes INTEGER CHECK (memory_bytes >= 0),
  created_at REAL NOT NULL DEFAULT 0,
  changed_at REAL NOT NULL DEFAULT 0,
  synced_at REAL,
  last_used REAL NOT NULL DEFAULT 0,
  use_count INTEGER NOT NULL DEFAULT 0 CHECK (use_count >= 0),
  lifecycle_since REAL NOT NULL DEFAULT 0,
  origin TEXT NOT NULL DEFAULT 'consumer' CHECK (origin IN ('defaults', 'remote', 'consumer')),
  priority INTEGER CHECK (priority IN (0, 1, 2, 3)),
  lifecycle TEXT NOT NULL DEFAULT 'uninitialized' CHECK (lifecycle IN (
    'uninitialized', 'discovered', 'downloading', 'paused', 'downloaded', 'extracting', 'extracted', 'validating',
    'validated', 'initializing', 'initialized', 'loading', 'loaded', 'ready', 'executing', 'cleanup', 'evicted',
    'quarantined', 'deleted', 'error')),
  pinned INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1))
) WITHOUT ROWID;
CREATE INDEX models_by_use ON models (last_used);

CREATE TABLE revisions (
  id INTEGER PRIMARY KEY,
  model TEXT NOT NULL REFERENCES models (name) ON DELETE CASCADE ON UPDATE CASCADE,
  spec_digest TEXT NOT NULL,
  revision TEXT NOT NULL DEFAULT '',
  source TEXT NOT NULL DEFAULT '',
  format TEXT NOT NULL DEFAULT '',
  archive_digest TEXT,
  installed_at REAL NOT NULL,
  superseded_at REAL,
  UNIQUE (model, spec_digest)
);
CREATE UNIQUE INDEX one_current_revision ON revisions (model) WHERE superseded_at IS NULL;

CREATE TABLE artifacts (
  revision_id INTEGER NOT NULL REFERENCES revisions (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  path TEXT NOT NULL CHECK (path <> '' AND path NOT LIKE '/%'),
  digest TEXT NOT NULL CHECK (digest LIKE 'sha256:%' AND length(digest) = 71),
  size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
  role TEXT NOT NULL DEFAULT 'primary' CHECK (role IN (
    'primary', 'companion', 'vision-projector', 'tokenizer', 'config', 'vocabulary', 'merges', 'labels', 'adapter')),
  PRIMARY KEY (revision_id, position),
  UNIQUE (revision_id, path)
) WITHOUT ROWID;
CREATE INDEX artifacts_by_digest ON artifacts (digest);

CREATE TABLE proofs (
  digest TEXT PRIMARY KEY NOT NULL CHECK (digest LIKE 'sha256:%' AND length(digest) = 71),
  device INTEGER NOT NULL,
  inode INTEGER NOT NULL,
  size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
  mtime_ns INTEGER NOT NULL,
  mode INTEGER NOT NULL,
  verified_at REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE failures (
  model TEXT NOT NULL REFERENCES models (name) ON DELETE CASCADE ON UPDATE CASCADE,
  step TEXT NOT NULL CHECK (step IN ('download', 'verify', 'extract', 'load', 'unload', 'evict', 'link', 'adopt')),
  spec_digest TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('transient', 'permanent', 'refused')),
  reason TEXT NOT NULL,
  message TEXT NOT NULL,
  attempts INTEGER NOT NULL CHECK (attempts >= 0),
  retry_at REAL,
  fingerprint TEXT NOT NULL DEFAULT '',
  failed_at REAL NOT NULL,
  PRIMARY KEY (model, step)
) WITHOUT ROWID;

CREATE TABLE resolutions (
  model TEXT NOT NULL REFERENCES models (name) ON DELETE CASCADE ON UPDATE CASCADE,
  spec_digest TEXT NOT NULL,
  content TEXT NOT NULL,
  resolved_at REAL NOT NULL,
  PRIMARY KEY (model, spec_digest)
) WITHOUT ROWID;

CREATE TABLE overrides (
  model TEXT NOT NULL REFERENCES models (name) ON DELETE CASCADE ON UPDATE CASCADE,
  topic TEXT NOT NULL CHECK (topic IN ('pin', 'load', 'rollback')),
  kind TEXT NOT NULL CHECK (kind IN ('pin', 'unpin', 'load', 'unload', 'rollback')),
  made_at REAL NOT NULL,
  spec_digest TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (model, topic)
) WITHOUT ROWID;

CREATE TABLE loads (
  model TEXT NOT NULL REFERENCES models (name) ON DELETE CASCADE ON UPDATE CASCADE,
  runtime TEXT NOT NULL,
  size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
  loaded_at REAL NOT NULL,
  PRIMARY KEY (model, runtime)
) WITHOUT ROWID;

CREATE TABLE links (
  path TEXT PRIMARY KEY NOT NULL CHECK (path LIKE '/%'),
  model TEXT NOT NULL REFERENCES models (name) ON DELETE CASCADE ON UPDATE CASCADE,
  target TEXT NOT NULL CHECK (target NOT LIKE '/%')
) WITHOUT ROWID;
CREATE INDEX links_by_model ON links (model);

CREATE TABLE journal (
  id TEXT PRIMARY KEY NOT NULL,
  model TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('download', 'verify', 'extract', 'load', 'unload', 'evict', 'link', 'adopt')),
  started_at REAL NOT NULL,
  spec_digest TEXT NOT NULL DEFAULT '',
  subject TEXT NOT NULL DEFAULT '',
  paths TEXT NOT NULL DEFAULT '[]'
) WITHOUT ROWID;

CREATE TABLE events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  time REAL NOT NULL,
  first_time REAL NOT NULL,
  type TEXT NOT NULL CHECK (type IN ('Normal', 'Warning')),
  reason TEXT NOT NULL,
  model TEXT NOT NULL DEFAULT '',
  message TEXT NOT NULL DEFAULT '',
  count INTEGER NOT NULL DEFAULT 1 CHECK (count >= 1)
);
CREATE INDEX events_by_model ON events (model, seq);

CREATE TABLE usage (
  model TEXT NOT NULL REFERENCES models (name) ON DELETE CASCADE ON UPDATE CASCADE,
  day TEXT NOT NULL CHECK (day LIKE '____-__-__'),
  count INTEGER NOT NULL CHECK (count >= 0),
  PRIMARY KEY (model, day)
) WITHOUT ROWID;

CREATE TABLE steps (
  id INTEGER PRIMARY KEY,
  model TEXT NOT NULL REFERENCES models (name) ON DELETE CASCADE ON UPDATE CASCADE,
  source TEXT NOT NULL,
  target TEXT NOT NULL,
  at REAL NOT NULL,
  lasted_s REAL NOT NULL
);
CREATE INDEX steps_by_model ON steps (model, id);

CREATE TABLE throughput (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  size_bytes INTEGER NOT NULL CHECK (size_bytes > 0),
  seconds REAL NOT NULL CHECK (seconds > 0)
);

CREATE TABLE passes (
  id INTEGER PRIMARY KEY,
  started_at REAL NOT NULL,
  seconds REAL NOT NULL,
  generation TEXT NOT NULL,
  outcome TEXT NOT NULL
);
"""

_SIGNATURES = """
ALTER TABLE revisions ADD COLUMN signed_by TEXT NOT NULL DEFAULT '';
ALTER TABLE revisions ADD COLUMN signed_under TEXT NOT NULL DEFAULT '';
"""

_HOLDS = """
ALTER TABLE overrides RENAME TO overrides_before;
CREATE TABLE overrides (
  model TEXT NOT NULL REFERENCES models (name) ON DELETE CASCADE ON UPDATE CASCADE,
  topic TEXT NOT NULL CHECK (topic IN ('pin', 'load', 'rollback', 'hold')),
  kind TEXT NOT NULL CHECK (kind IN ('pin', 'unpin', 'load', 'unload', 'rollback', 'pause', 'cancel')),
  made_at REAL NOT NULL,
  spec_digest TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (model, topic)
) WITHOUT ROWID;
INSERT INTO overrides SELECT model, topic, kind, made_at, spec_digest FROM overrides_before;
DROP TABLE overrides_before;
"""

_BROUGHT = """
CREATE TABLE brought (
  model TEXT NOT NULL REFERENCES models (name) ON DELETE CASCADE ON UPDATE CASCADE,
  path TEXT NOT NULL CHECK (path <> '' AND path NOT LIKE '/%'),
  spec_digest TEXT NOT NULL,
  size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
  digest TEXT CHECK (digest LIKE 'sha256:%' AND length(digest) = 71),
  source TEXT NOT NULL DEFAULT '',
  validator TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (model, path)
) WITHOUT ROWID;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _SIGNATURES, _HOLDS, _BROUGHT)


def version_of(connection: sqlite3.Connection) -> int:
    """How many migrations the database has seen."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def is_ours(connection: sqlite3.Connection) -> bool:
    """Whether the database is a ledger, or empty and may become one."""
    mark = int(connection.execute("PRAGMA application_id").fetchone()[0])
    return mark == APPLICATION_ID or is_blank(connection)


def is_blank(connection: sqlite3.Connection) -> bool:
    """Whether the database holds no table at all."""
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None


def check_version(connection: sqlite3.Connection, known: int = len(MIGRATIONS)) -> int:
    """The version of a database that is not newer than this program.

    Raises:
        Failure: refused ``ledger_too_new``.
    """
    version = version_of(connection)
    if version > known:
        raise refused(
            "ledger_too_new",
            f"the store's database has version {version}; this program knows versions up to {known}",
            hint="use the newer reconciler that wrote it, or another --store",
        )
    return version


def migrate(connection: sqlite3.Connection, now: float, migrations: Sequence[str] = MIGRATIONS) -> int:
    """Bring the database up to the last migration; how many steps that took (0: it was there already).

    A database that is made new also gets the mark ``needs_rebuild``, which stays until the store was looked through:
    a crash in between is not forgotten.

    Raises:
        Failure: refused ``ledger_too_new``.
    """
    steps = 0
    while (version := check_version(connection, len(migrations))) < len(migrations):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if version_of(connection) == version:  # nobody else was faster
                _step(connection, version, migrations[version], now)
                steps += 1
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return steps


def _step(connection: sqlite3.Connection, version: int, text: str, now: float) -> None:
    for statement in statements(text):
        connection.execute(statement)
    if version == 0:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("INSERT INTO meta (key, value) VALUES ('needs_rebuild', 1)")
    connection.execute("INSERT INTO migrations (version, applied_at) VALUES (?, ?)", (version + 1, now))
    connection.execute(f"PRAGMA user_version = {version + 1}")


def statements(text: str) -> tuple[str, ...]:
    """The single statements of a migration (``executescript`` would commit the transaction around them)."""
    found: list[str] = []
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending.strip())
            pending = ""
    return tuple(found)
