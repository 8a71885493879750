"""What a transaction without savepoints records: all of it or nothing, and the same as one with them."""

import itertools
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from reconciler.adapters.ledger import (
    BroughtRow,
    EventType,
    FileRow,
    Installed,
    JournalRow,
    Ledger,
    LinkRow,
    ModelRow,
)
from reconciler.adapters.ledger.writing import Writer
from reconciler.core.actions import ActionKind
from reconciler.core.errors import Failure
from reconciler.core.lifecycle import Lifecycle
from reconciler.core.machine import HISTORY_LENGTH
from reconciler.core.observed import FailureFact
from reconciler.core.ports import Proof
from reconciler.core.stored import FileStat
from reconciler.core.words import Digest, Priority, Role

BEGUN = 1_700_000_000.0
SETTLED = ("download", "verify", "extract", "link", "adopt")


class Clock:
    """Moves on by ``step_s`` whenever it is asked."""

    def __init__(self, step_s=0.0):
        self.at, self.step_s = BEGUN, step_s

    def __call__(self):
        self.at += self.step_s
        return self.at


def digest(number):
    return Digest(f"sha256:{number:064x}")


def proof(number):
    return Proof(digest(number), FileStat(2049, number, 100, 10**18), 5.0)


def installed(name="m", number=1, **more):
    files = (
        FileRow("model.gguf", digest(number), 100),
        FileRow("tokenizer.json", digest(number + 1), 20, Role.TOKENIZER),
    )
    return Installed(name, digest(number + 1000), files, (proof(number), proof(number + 1)), **more)


def failure(name, step="download"):
    return FailureFact(name, digest(1), "transient", "connect_failed", "no route", 3, 99.0, step=step)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(tmp_path, clock):
    with Ledger.open(str(tmp_path / "store"), now=clock, writable=True) as opened:
        yield opened


def whole(ledger):
    """A transaction in which nobody catches a failure of those further in."""
    return ledger._access.transaction(is_whole=True)


def rows_of(ledger):
    """Every row of every table, read by another connection."""
    with closing(sqlite3.connect(f"file:{ledger.path}?mode=ro", uri=True)) as other:
        return [line for line in other.iterdump() if line.startswith("INSERT")]


def use_and_stop(ledger, *names):
    """Use models, each in a transaction within the last one, and break off."""
    if names:
        with ledger.transaction():
            ledger.record_use(names[0])
            use_and_stop(ledger, *names[1:])
    raise InterruptedError


def install_and_stop(ledger):
    ledger.record_installed(installed())
    with whole(ledger), ledger.transaction():
        ledger.record_use("inner")
    raise InterruptedError


def link_nowhere(ledger):
    """A row that the table refuses."""
    ledger.record_use("before")
    ledger.links.save(LinkRow("relative", "m", "models/m"))


def own_nothing(connection):
    """A row that the commit refuses: nobody is there whom it belongs to."""
    connection.execute("PRAGMA defer_foreign_keys = ON")
    connection.execute(
        "INSERT INTO artifacts (revision_id, position, path, digest, size_bytes, role) VALUES (77, 0, 'x', ?, 1, ?)",
        (digest(1), Role.PRIMARY.value),
    )


@pytest.fixture
def spoken(ledger):
    """What SQLite is told, one word each; set ``words`` empty to begin anew."""
    words = []
    ledger._access._connection.set_trace_callback(lambda text: words.append(text.split(" ")[0]))
    yield words
    ledger._access._connection.set_trace_callback(None)


# --- all or nothing


def test_a_whole_transaction_has_no_savepoints(ledger, spoken):
    spoken.clear()
    ledger.record_installed(installed(message="m was installed", action_id="a"))
    assert (spoken.count("BEGIN"), spoken.count("COMMIT")) == (1, 1)
    assert not {"SAVEPOINT", "RELEASE", "ROLLBACK"} & set(spoken)


def test_a_failure_inside_an_inner_transaction_undoes_everything(ledger):
    before = rows_of(ledger)
    with pytest.raises(InterruptedError), whole(ledger):
        use_and_stop(ledger, "outer", "middle", "inner")
    assert rows_of(ledger) == before
    assert ledger.models.get_all() == {}


def test_a_failure_after_the_inner_transactions_undoes_them_too(ledger):
    before = rows_of(ledger)
    with pytest.raises(InterruptedError), whole(ledger):
        install_and_stop(ledger)
    assert rows_of(ledger) == before


def test_a_constraint_that_breaks_inside_undoes_everything(ledger):
    before = rows_of(ledger)
    with pytest.raises(sqlite3.IntegrityError), whole(ledger):
        link_nowhere(ledger)
    assert rows_of(ledger) == before


@pytest.mark.parametrize(
    "part",
    ["models.update", "revisions.install", "proofs.save", "brought.settle", "failures.settle", "lives.follow",
     "journal.finish", "events.record"],
)  # fmt: skip
@pytest.mark.parametrize("is_fresh", [True, False])
def test_installing_that_fails_at_any_part_leaves_no_trace(ledger, monkeypatch, part, is_fresh):
    if not is_fresh:
        ledger.record_installed(installed(number=50, message="m was installed"))
        ledger.failures.save(failure("m"))
        ledger.brought.save([BroughtRow("m", "model.gguf", digest(1001), 100, digest(1))])
    ledger.start_action(JournalRow("a1", "m", ActionKind.DOWNLOAD, 0.0), Lifecycle.DOWNLOADING)
    before, heard = rows_of(ledger), []
    ledger.observe(heard.append)
    noun, _, verb = part.partition(".")
    real = getattr(getattr(ledger, noun), verb)

    def fail(*arguments, **more):
        real(*arguments, **more)
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(getattr(ledger, noun), verb, fail)
        with pytest.raises(InterruptedError):
            ledger.record_installed(installed(message="m was installed anew", action_id="a1"))
    assert rows_of(ledger) == before
    ledger.meta.set_generation("g")
    assert [change.noun for change in heard] == ["meta"]
    ledger.record_installed(installed(message="m was installed anew", action_id="a1"))
    assert ledger.revisions.current("m").spec_digest == digest(1001)
    assert ledger.journal.unfinished() == ()
    assert [change.noun for change in heard].count("revision") == 1


# --- what comes afterwards, and around


def check_savepoints(ledger):
    """An inner failure that is caught takes only its own work."""
    with ledger.transaction():
        ledger.record_use("kept")
        with pytest.raises(InterruptedError):
            use_and_stop(ledger, "inner")
        with pytest.raises(InterruptedError), whole(ledger):
            use_and_stop(ledger, "inner")
        with pytest.raises(sqlite3.IntegrityError), ledger.transaction():
            link_nowhere(ledger)
        ledger.record_use("kept too")
    names = set(ledger.models.get_all())
    assert {"kept", "kept too"} <= names
    assert not {"inner", "before"} & names


def test_ordinary_transactions_have_savepoints_after_one_that_was_committed(ledger):
    ledger.record_installed(installed())
    check_savepoints(ledger)
    assert ledger.models.get("m") is not None


def test_ordinary_transactions_have_savepoints_after_one_that_failed(ledger):
    with pytest.raises(InterruptedError), whole(ledger), ledger.transaction():
        raise InterruptedError
    check_savepoints(ledger)


def test_ordinary_transactions_have_savepoints_after_one_that_could_not_begin(ledger):
    ledger._access._connection.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Failure) as caught:
            ledger.record_installed(installed())
    assert caught.value.reason == "ledger_busy"
    check_savepoints(ledger)


def test_ordinary_transactions_have_savepoints_after_one_that_could_not_be_committed(ledger):
    with pytest.raises(sqlite3.IntegrityError), whole(ledger) as connection:
        own_nothing(connection)
    assert not ledger._access._connection.in_transaction
    check_savepoints(ledger)


def test_installing_within_an_ordinary_transaction_fails_alone_where_that_is_caught(ledger, monkeypatch):
    def fail(*_, **__):
        raise InterruptedError

    with ledger.transaction():
        ledger.record_installed(installed("kept"))
        with monkeypatch.context() as patch:
            patch.setattr(ledger.journal, "finish", fail)
            with pytest.raises(InterruptedError):
                ledger.record_installed(installed("m", 50))
        ledger.record_installed(installed("kept too", 60))
    assert list(ledger.models.get_all()) == ["kept", "kept too"]
    assert set(ledger.snapshot().proofs) == {digest(number) for number in (1, 2, 60, 61)}


def test_what_was_written_is_read_within(ledger):
    with whole(ledger):
        ledger.record_installed(installed())
        assert ledger.models.get("m") is not None
        with whole(ledger):
            ledger.record_use("m")
        assert ledger.models.get("m").use_count == 1
    assert list(ledger.models.get_all()) == ["m"]


def test_another_thread_waits_and_its_work_is_not_undone(ledger):
    is_begun, may_end = threading.Event(), threading.Event()

    def fail():
        with whole(ledger):
            ledger.record_use("undone")
            is_begun.set()
            may_end.wait(30)
            raise InterruptedError

    def work():
        is_begun.wait(30)
        may_end.set()
        with ledger.transaction():
            ledger.record_use("kept")
            with pytest.raises(InterruptedError):
                use_and_stop(ledger, "inner")

    with ThreadPoolExecutor(2) as pool:
        failing, working = pool.submit(fail), pool.submit(work)
        assert isinstance(failing.exception(60), InterruptedError)
        working.result(60)
    assert list(ledger.models.get_all()) == ["kept"]


def test_observers_are_told_once_and_after_the_commit(ledger):
    heard = []

    def watch(change):
        heard.append((change, ledger._access._connection.in_transaction, ledger.models.get("m") is not None))

    ledger.failures.save(failure("m"))
    ledger.observe(watch)
    ledger.record_installed(installed(message="m was installed", action_id="a"))
    keys = [change[:3] for change, _, _ in heard]
    assert len(keys) == len(set(keys))
    assert {
        ("model", "saved", "m"),
        ("revision", "saved", "m"),
        ("failure", "deleted", "m"),
        ("lifecycle", "saved", "m"),
        ("event", "saved", "m"),
        ("proof", "saved", digest(1)),
        ("proof", "saved", digest(2)),
    } <= set(keys)
    assert all(not is_open and is_there for _, is_open, is_there in heard)
    (life,) = [change for change, _, _ in heard if change.noun == "lifecycle"]
    assert [to.value for _, to in life.steps] == ["discovered", "validating", "validated"]


def test_an_observer_may_write_as_soon_as_it_is_told(ledger):
    def watch(change):
        if change.noun == "revision":
            check_savepoints(ledger)

    remove = ledger.observe(watch)
    ledger.record_installed(installed())
    remove()
    assert {"kept", "kept too", "m"} == set(ledger.models.get_all())


# --- the rows


def before_nothing(ledger):
    """A model that nobody has heard of."""


def before_failures(ledger):
    for step in (*SETTLED, "load", "unload", "evict"):
        ledger.failures.save(failure("m", step), fingerprint="etag")
        ledger.failures.save(failure("n", step))


def before_an_action(ledger):
    ledger.brought.save([BroughtRow("m", "model.gguf", digest(1001), 100, digest(1), "http://h/m", '"one"')])
    ledger.start_action(JournalRow("a1", "m", ActionKind.DOWNLOAD, 0.0), Lifecycle.DOWNLOADING)


def before_an_update(ledger):
    ledger.record_installed(installed(number=50))
    ledger.record_installed(installed(number=2))


def before_the_same_again(ledger):
    ledger.record_installed(installed(message="m was installed"))


def before_what_was_loaded(ledger):
    ledger.record_installed(installed(number=50))
    ledger.record_load("m", "default", 500)


def before_what_was_evicted(ledger):
    ledger.record_installed(installed(number=50))
    ledger.record_evicted("m", digest(1050), message="m was evicted")


def before_what_was_wrong(ledger):
    ledger.record_installed(installed(number=50))
    ledger.record_quarantined("m", [digest(50)], message="m is damaged")


def before_what_had_failed(ledger):
    ledger.record_failure(failure("m"))
    ledger.models.save(ModelRow("m", category="vision", metadata='{"a":1}', priority=Priority.LOW, pinned=True))


BEFORE = [
    before_nothing, before_failures, before_an_action, before_an_update, before_the_same_again, before_what_was_loaded,
    before_what_was_evicted, before_what_was_wrong, before_what_had_failed,
]  # fmt: skip
WORDS = {
    "few": {},
    "all": {
        "revision": "abc", "source": "https://h/m", "format": "gguf", "archive_digest": digest(77), "category": "text",
        "metadata": '{"b":2}', "signed_by": "me", "signed_under": digest(9), "priority": Priority.HIGH, "pinned": True,
        "download_bytes": 7, "memory_bytes": 8, "action_id": "a1", "message": "m was installed",
    },
}  # fmt: skip


@pytest.mark.parametrize("before", BEFORE, ids=lambda before: before.__name__)
@pytest.mark.parametrize("words", WORDS)
def test_the_rows_are_those_that_savepoints_leave(tmp_path, monkeypatch, before, words):
    plain = Writer.transaction
    left, read, heard = [], [], []
    for is_patched in (False, True):
        with monkeypatch.context() as patch:
            if is_patched:
                patch.setattr(Writer, "transaction", lambda self, *, is_whole=False: plain(self))
            with Ledger.open(str(tmp_path / str(is_patched)), now=Clock(0.25), writable=True) as ledger:
                before(ledger)
                told = []
                ledger.observe(told.append)
                ledger.record_installed(installed(**WORDS[words]))
                left.append(rows_of(ledger))
                heard.append(told)
                read.append((ledger.snapshot(), ledger.lives.history("m"), ledger.events.since()))
    assert left[0] == left[1]
    assert read[0] == read[1]
    assert heard[0] == heard[1]


def test_everything_that_is_installed_can_be_read(ledger, clock):
    before_an_action(ledger)
    ledger.record_installed(installed(**WORDS["all"]))
    facts = ledger.snapshot()
    row = facts.models["m"]
    assert (row.spec_digest, row.category, row.format, row.metadata) == (digest(1001), "text", "gguf", '{"b":2}')
    assert (row.source, row.download_bytes, row.size_bytes, row.memory_bytes) == ("https://h/m", 7, 120, 8)
    assert (row.priority, row.pinned, row.lifecycle) == (Priority.HIGH, True, Lifecycle.VALIDATED)
    assert row == ledger.models.get("m")
    (revision,) = facts.revisions["m"]
    assert revision.files == installed().files
    assert (revision.revision, revision.source, revision.format) == ("abc", "https://h/m", "gguf")
    assert (revision.archive_digest, revision.signed_by, revision.signed_under) == (digest(77), "me", digest(9))
    assert (revision.installed_at, revision.superseded_at) == (clock.at, None)
    assert revision == ledger.revisions.current("m")
    assert facts.proofs == {digest(1): proof(1), digest(2): proof(2)}
    assert facts.brought["m", "model.gguf"].digest is None
    assert facts.failures == ()
    assert ledger.journal.unfinished() == ()
    assert ledger.revisions.users_of([digest(1), digest(2)]) == {digest(1): ("m",), digest(2): ("m",)}
    (event,) = ledger.events.since()
    assert (event.type, event.reason, event.model, event.message, event.count) == (
        EventType.NORMAL, "installed", "m", "m was installed", 1,
    )  # fmt: skip


def test_only_failures_of_settled_steps_are_cleared(ledger):
    before_failures(ledger)
    ledger.record_installed(installed())
    rows = ledger.failures.of("m")
    assert sorted(row.fact.step for row in rows) == ["evict", "load", "unload"]
    assert {row.fingerprint for row in rows} == {"etag"}
    assert len(ledger.failures.of("n")) == len(SETTLED) + 3


def test_a_life_from_nothing_has_three_steps_each_with_its_time_and_length(tmp_path):
    with Ledger.open(str(tmp_path), now=Clock(0.5), writable=True) as ledger:
        ledger.record_installed(installed())
        steps = ledger.lives.history("m")
        row = ledger.models.get("m")
    assert [(step.model, step.source.value, step.target.value) for step in steps] == [
        ("m", "uninitialized", "discovered"),
        ("m", "discovered", "validating"),
        ("m", "validating", "validated"),
    ]
    assert BEGUN < steps[0].at < steps[1].at < steps[2].at
    assert 0 < steps[0].lasted_s < steps[0].at - BEGUN
    assert [step.lasted_s for step in steps[1:]] == [0.5, 0.5]
    assert [after.at - step.at for step, after in itertools.pairwise(steps)] == [0.5, 0.5]
    assert (row.lifecycle, row.lifecycle_since) == (Lifecycle.VALIDATED, steps[-1].at)
    assert row.changed_at == steps[-1].at


def test_each_state_has_lasted_as_long_as_it_did(ledger, clock):
    ledger.start_action(JournalRow("a1", "m", ActionKind.DOWNLOAD, 0.0), Lifecycle.DISCOVERED)
    clock.at += 3
    ledger.lives.advance("m", Lifecycle.DOWNLOADING)
    clock.at += 20
    ledger.record_installed(installed(action_id="a1"))
    steps = ledger.lives.history("m")
    assert [(step.target.value, step.lasted_s) for step in steps] == [
        ("discovered", 0.0),
        ("downloading", 3.0),
        ("downloaded", 20.0),
        ("validating", 0.0),
        ("validated", 0.0),
    ]
    clock.at += 7
    ledger.record_failure(failure("m"))
    assert ledger.lives.history("m")[-1].lasted_s == 7.0
    assert ledger.lives.machine("m").history[-1].lasted_s == 7.0


def test_a_clock_that_goes_back_gives_no_length_below_zero(ledger, clock):
    ledger.lives.advance("m", Lifecycle.DISCOVERED)
    clock.at -= 60
    ledger.record_installed(installed())
    assert [step.lasted_s for step in ledger.lives.history("m")] == [0.0] * 3


def test_what_is_installed_again_takes_no_step(ledger):
    ledger.record_installed(installed())
    before = ledger.lives.history("m")
    ledger.record_installed(installed(number=50))
    assert ledger.lives.history("m") == before
    assert ledger.lives.state("m") is Lifecycle.VALIDATED


def test_a_life_remembers_its_last_hundred_steps(tmp_path):
    every = []
    with Ledger.open(str(tmp_path), now=Clock(1.0), writable=True) as ledger:
        ledger.record_installed(installed("n"))
        for number in range(40):
            ledger.record_installed(installed(number=number))
            ledger.record_failure(failure("m"))
            every += [step for step in ledger.lives.history("m") if not every or step.at > every[-1].at]
        machine = ledger.lives.machine("m")
        assert len(every) == 160
        assert list(ledger.lives.history("m")) == every[-HISTORY_LENGTH:]
        assert [(step.source, step.target, step.at) for step in machine.history] == [
            (step.source, step.target, step.at) for step in every[-100:]
        ]
        assert len(ledger.lives.history("n")) == 3
        assert sum('INTO "steps"' in row for row in rows_of(ledger)) == 103
