"""The tables say what the enumerations say, and migrating is safe to do twice."""

import re
import sqlite3

import pytest

from reconciler.adapters.ledger import EventType, Ledger, Origin
from reconciler.adapters.ledger.overrides import TOPICS
from reconciler.adapters.ledger.schema import MIGRATIONS, migrate, statements, version_of
from reconciler.core.actions import ActionKind
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.lifecycle import Lifecycle
from reconciler.core.words import Priority, Role


@pytest.fixture
def database():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    yield connection
    connection.close()


def checked_words(database, table, column):
    """The words of ``CHECK (column IN (...))`` in the table as it was really made."""
    text = database.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
    found = re.search(rf"\b{column} IN \(([^)]*)\)", text)
    return {word.strip().strip("'") for word in found.group(1).split(",")}


@pytest.mark.parametrize(
    ("table", "column", "words"),
    [
        ("models", "lifecycle", {state.value for state in Lifecycle}),
        ("models", "priority", {str(priority.value) for priority in Priority}),
        ("models", "origin", {origin.value for origin in Origin}),
        ("artifacts", "role", {role.value for role in Role}),
        ("failures", "kind", {kind.value for kind in FailureKind}),
        ("failures", "step", {kind.value for kind in ActionKind}),
        ("journal", "kind", {kind.value for kind in ActionKind}),
        ("events", "type", {kind.value for kind in EventType}),
        ("overrides", "kind", set(TOPICS)),
        ("overrides", "topic", set(TOPICS.values())),
    ],
)
def test_a_check_names_exactly_the_words_of_its_enumeration(database, table, column, words):
    migrate(database, 1.0)
    assert checked_words(database, table, column) == words


def test_a_word_that_is_no_state_is_refused_by_the_table(database):
    migrate(database, 1.0)
    with pytest.raises(sqlite3.IntegrityError):
        database.execute("INSERT INTO models (name, lifecycle) VALUES ('m', 'flying')")


def test_a_model_cannot_have_two_current_revisions(database):
    migrate(database, 1.0)
    database.execute("INSERT INTO models (name) VALUES ('m')")
    insert = "INSERT INTO revisions (model, spec_digest, installed_at) VALUES ('m', ?, 1)"
    database.execute(insert, ("a",))
    with pytest.raises(sqlite3.IntegrityError):
        database.execute(insert, ("b",))


def test_migrating_twice_does_nothing_the_second_time(database):
    assert migrate(database, 1.0) == len(MIGRATIONS)
    before = "\n".join(database.iterdump())
    assert migrate(database, 2.0) == 0
    assert "\n".join(database.iterdump()) == before
    assert version_of(database) == len(MIGRATIONS)


def test_a_later_migration_runs_on_what_is_there(database):
    migrate(database, 1.0)
    database.execute("INSERT INTO models (name) VALUES ('m')")
    database.execute("DELETE FROM meta WHERE key = 'needs_rebuild'")
    later = (*MIGRATIONS, "ALTER TABLE models ADD COLUMN extra TEXT NOT NULL DEFAULT 'x';\n")
    assert migrate(database, 2.0, later) == 1
    assert database.execute("SELECT name, extra FROM models").fetchall() == [("m", "x")]
    before = [(version, 1.0) for version in range(1, len(later))]
    assert database.execute("SELECT version, applied_at FROM migrations").fetchall() == [*before, (len(later), 2.0)]
    assert database.execute("SELECT count(*) FROM meta").fetchone() == (0,)


def test_a_migration_that_fails_leaves_the_version_before_it_whole(database):
    migrate(database, 1.0)
    broken = (*MIGRATIONS, "CREATE TABLE more (x);\nINSERT INTO nowhere VALUES (1);\n")
    with pytest.raises(sqlite3.OperationalError):
        migrate(database, 2.0, broken)
    assert version_of(database) == len(MIGRATIONS)
    assert database.execute("SELECT 1 FROM sqlite_master WHERE name = 'more'").fetchone() is None
    assert not database.in_transaction


def test_every_statement_of_a_migration_is_found():
    assert statements("CREATE TABLE a (\n x);\n\nCREATE TABLE b (y DEFAULT ';');\n") == (
        "CREATE TABLE a (\n x);",
        "CREATE TABLE b (y DEFAULT ';');",
    )


@pytest.mark.parametrize("writable", [False, True])
def test_a_newer_database_is_refused_and_left_as_it_is(tmp_path, writable):
    Ledger.open(str(tmp_path), now=lambda: 1.0, writable=True).close()
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(Failure) as caught:
        Ledger.open(str(tmp_path), now=lambda: 2.0, writable=writable)
    assert caught.value.kind is FailureKind.REFUSED
    assert caught.value.reason == "ledger_too_new"
    assert "99" in caught.value.message
    assert path.read_bytes() == before


def test_an_older_database_is_read_in_todays_form_without_changing_it(tmp_path, monkeypatch):
    with Ledger.open(str(tmp_path), now=lambda: 1.0, writable=True) as ledger:
        ledger.record_use("m")
        ledger.meta.mark_rebuilt()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    later = (*MIGRATIONS, "UPDATE models SET category = 'vision';\n")
    monkeypatch.setattr("reconciler.adapters.ledger.schema.MIGRATIONS", later)
    monkeypatch.setattr("reconciler.adapters.ledger.schema.migrate.__defaults__", (later,))
    monkeypatch.setattr("reconciler.adapters.ledger.schema.check_version.__defaults__", (len(later),))
    monkeypatch.setattr("reconciler.adapters.ledger.reading.MIGRATIONS", later)
    reader = Ledger.open(str(tmp_path), now=lambda: 2.0, writable=False)
    assert reader.models.get("m").category == "vision"
    assert not reader.was_rebuilt
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
