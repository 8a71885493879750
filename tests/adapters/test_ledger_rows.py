"""What the ledger remembers of models, row by row, in a real database."""

import math
import sqlite3
import threading

import pytest

from reconciler.adapters.ledger import (
    BroughtRow,
    EventType,
    FileRow,
    Installed,
    JournalRow,
    LastGood,
    Ledger,
    LinkRow,
    LoadRow,
    ModelRow,
    Origin,
    PassRow,
    RevisionRow,
)
from reconciler.adapters.ledger.events import LIMIT
from reconciler.adapters.ledger.recording import Recording
from reconciler.core.actions import ActionKind
from reconciler.core.desired import Artifact
from reconciler.core.errors import Failure
from reconciler.core.lifecycle import Lifecycle, Presence
from reconciler.core.observed import FailureFact, Override, Resolution
from reconciler.core.ports import Proof
from reconciler.core.stored import FileStat
from reconciler.core.words import Digest, Priority, Role


class Clock:
    def __init__(self, at=1_700_000_000.0):
        self.at = at

    def __call__(self):
        return self.at


def digest(number):
    return Digest(f"sha256:{number:064x}")


def proof(number, *, inode=7, mtime_ns=10**18, at=5.0):
    return Proof(digest(number), FileStat(2049, inode, 100, mtime_ns), at)


def installed(name, number, **more):
    files = (
        FileRow("model.gguf", digest(number), 100),
        FileRow("tokenizer.json", digest(number + 1), 20, Role.TOKENIZER),
    )
    return Installed(name, digest(number + 1000), files, (proof(number), proof(number + 1)), **more)


def failure(name, step="download", **more):
    return FailureFact(name, digest(1), "transient", "connect_failed", "no route", 3, 99.0, step=step, **more)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger(tmp_path, clock):
    with Ledger.open(str(tmp_path), now=clock, writable=True) as opened:
        yield opened


# --- catalogue


def test_a_saved_row_comes_back_whole(ledger, clock):
    row = ModelRow(
        "bert",
        digest(9),
        "embedding",
        "onnx",
        '{"license":"mit"}',
        "https://m.example.com/bert",
        download_bytes=10,
        size_bytes=30,
        memory_bytes=20,
        last_used=4.5,
        use_count=6,
        origin=Origin.REMOTE,
        priority=Priority.CRITICAL,
        lifecycle=Lifecycle.READY,
        pinned=True,
    )
    ledger.models.save(row)
    found = ledger.models.get("bert")
    assert found == row._replace(created_at=clock.at, changed_at=clock.at)
    assert (found.origin, found.priority, found.lifecycle) == (Origin.REMOTE, Priority.CRITICAL, Lifecycle.READY)
    assert found.presence is Presence.LOADED
    assert found.pinned is True


def test_an_unknown_model_is_none(ledger):
    assert ledger.models.get("nobody") is None


def test_saving_again_replaces_all_but_the_birthday(ledger, clock):
    ledger.models.save(ModelRow("m", category="vision"))
    born = clock.at
    clock.at += 60
    ledger.models.save(ModelRow("m", category="audio", priority=Priority.LOW))
    found = ledger.models.get("m")
    assert (found.category, found.priority, found.created_at, found.changed_at) == (
        "audio",
        Priority.LOW,
        born,
        clock.at,
    )


def test_deleting_a_model_keeps_its_row_as_evicted(ledger):
    ledger.models.save(ModelRow("m", use_count=4, lifecycle=Lifecycle.VALIDATED))
    assert ledger.models.delete("m")
    found = ledger.models.get("m")
    assert (found.lifecycle, found.presence, found.use_count) == (Lifecycle.EVICTED, Presence.ABSENT, 4)
    assert not ledger.models.delete("nobody")


def test_forgetting_a_model_takes_all_that_hangs_on_it(ledger):
    ledger.record_installed(installed("m", 1))
    ledger.record_failure(failure("m", "load"))
    ledger.record_use("m")
    assert ledger.models.forget("m")
    facts = ledger.snapshot()
    assert (dict(facts.models), dict(facts.revisions), facts.failures) == ({}, {}, ())
    assert ledger.lives.history("m") == ()
    assert not ledger.models.forget("m")


def test_updating_some_columns_leaves_the_others(ledger):
    ledger.models.save(ModelRow("m", category="vision", size_bytes=7))
    ledger.models.update("m", {"priority": Priority.HIGH, "origin": Origin.REMOTE, "pinned": True})
    found = ledger.models.get("m")
    assert (found.category, found.size_bytes, found.priority, found.origin) == (
        "vision",
        7,
        Priority.HIGH,
        Origin.REMOTE,
    )
    assert found.pinned


@pytest.mark.parametrize("column", ["name", "nonsense", "category = 'x' --"])
def test_updating_a_column_that_is_none_is_an_error(ledger, column):
    with pytest.raises(KeyError, match="no such column"):
        ledger.models.update("m", {column: "x"})


def test_rows_are_found_by_what_they_are(ledger):
    rows = [
        ModelRow("a", category="vision", format="onnx", size_bytes=10, last_used=30, lifecycle=Lifecycle.VALIDATED),
        ModelRow("b", category="vision", format="gguf", size_bytes=30, last_used=10, lifecycle=Lifecycle.READY),
        ModelRow("c", category="audio", format="gguf", size_bytes=20, last_used=0, lifecycle=Lifecycle.EVICTED),
        ModelRow("d", category="audio", format="ort", size_bytes=None, last_used=20, lifecycle=Lifecycle.DOWNLOADING),
    ]
    for row in rows:
        ledger.models.save(row)

    def names(found):
        return [row.name for row in found]

    assert names(ledger.models.by_category("vision")) == ["a", "b"]
    assert names(ledger.models.by_format("gguf")) == ["b", "c"]
    assert names(ledger.models.downloaded()) == ["a", "b"]
    assert names(ledger.models.recently_used(2)) == ["a", "d"]
    assert names(ledger.models.by_size()) == ["b", "c", "a", "d"]
    assert names(ledger.models.by_size(20)) == ["c", "a"]
    assert ledger.models.total_bytes() == 40
    counts = ledger.models.counts()
    assert (counts[Lifecycle.READY], counts[Lifecycle.PAUSED], sum(counts.values())) == (1, 0, 4)
    assert list(ledger.models.get_all()) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("LLAMA", ["llama-3"]),
        ("100%", ["odd_100%"]),
        ("_", ["odd_100%"]),
        ("licence", ["llama-3"]),
        ("", ["llama-3", "odd_100%"]),
    ],
)
def test_searching_takes_the_text_as_it_stands(ledger, text, names):
    ledger.models.save(ModelRow("llama-3", metadata='{"licence":"x"}'))
    ledger.models.save(ModelRow("odd_100%"))
    assert [row.name for row in ledger.models.search(text)] == names


def test_a_changed_row_is_pending_until_it_is_synced(ledger, clock):
    ledger.models.save(ModelRow("a"))
    ledger.models.save(ModelRow("b"))
    ledger.models.mark_synced(["a"])
    assert [row.name for row in ledger.models.pending_sync()] == ["b"]
    clock.at += 1
    ledger.models.update("a", {"category": "vision"})
    assert [row.name for row in ledger.models.pending_sync()] == ["a", "b"]


def test_purging_removes_only_rows_that_nothing_needs(ledger):
    ledger.record_installed(installed("kept-files", 1))
    ledger.models.save(ModelRow("kept-pin", pinned=True))
    ledger.models.save(ModelRow("gone", lifecycle=Lifecycle.EVICTED))
    ledger.overrides.save(Override("kept-override", "pin", 1.0))
    ledger.revisions.install(RevisionRow("kept-old", digest(5), (), superseded_at=3.0))
    assert ledger.models.purge() == 1
    assert list(ledger.models.get_all()) == ["kept-files", "kept-old", "kept-override", "kept-pin"]


# --- conflict merge


def test_merging_takes_words_from_remote_state_from_here_and_the_larger_usage(ledger):
    ledger.models.save(
        ModelRow(
            "m", category="vision", origin=Origin.DEFAULTS, lifecycle=Lifecycle.READY, pinned=True, size_bytes=5
        )._replace(use_count=9, last_used=10.0)
    )
    remote = ModelRow("m", category="audio", format="onnx", origin=Origin.REMOTE, priority=Priority.HIGH)
    merged = ledger.models.merge(remote._replace(use_count=3, last_used=20.0, size_bytes=77))
    assert (merged.category, merged.format, merged.priority, merged.origin) == (
        "audio",
        "onnx",
        Priority.HIGH,
        Origin.REMOTE,
    )
    assert (merged.lifecycle, merged.pinned, merged.size_bytes) == (Lifecycle.READY, True, 5)
    assert (merged.use_count, merged.last_used) == (9, 20.0)
    assert ledger.models.get("m").category == "audio"


def test_a_stronger_origin_keeps_its_words_when_merged(ledger):
    ledger.models.save(ModelRow("m", category="vision", origin=Origin.CONSUMER, use_count=1))
    merged = ledger.models.merge(ModelRow("m", category="audio", origin=Origin.REMOTE, use_count=8))
    assert (merged.category, merged.origin, merged.use_count) == ("vision", Origin.CONSUMER, 8)


def test_merging_an_unknown_model_brings_words_and_no_state(ledger):
    merged = ledger.models.merge(ModelRow("m", category="audio", origin=Origin.REMOTE, lifecycle=Lifecycle.READY))
    assert (merged.category, merged.lifecycle) == ("audio", Lifecycle.UNINITIALIZED)


# --- revisions and proofs


def test_installing_records_everything_at_once(ledger, clock):
    ledger.start_action(JournalRow("a1", "m", ActionKind.DOWNLOAD, 0.0), Lifecycle.DOWNLOADING)
    ledger.failures.save(failure("m"))
    words = {"revision": "abc", "format": "gguf", "archive_digest": digest(77), "priority": Priority.HIGH}
    ledger.record_installed(installed("m", 1, **words, pinned=True, action_id="a1", message="m was installed"))
    facts = ledger.snapshot()
    row = facts.models["m"]
    assert (row.spec_digest, row.format, row.size_bytes, row.priority, row.pinned) == (
        digest(1001),
        "gguf",
        120,
        Priority.HIGH,
        True,
    )
    assert row.lifecycle is Lifecycle.VALIDATED
    (revision,) = facts.revisions["m"]
    assert (revision.is_current, revision.revision, revision.archive_digest) == (True, "abc", digest(77))
    assert revision.installed_at == clock.at
    assert [(file.path, file.role) for file in revision.files] == [
        ("model.gguf", Role.PRIMARY),
        ("tokenizer.json", Role.TOKENIZER),
    ]
    assert facts.proofs == {digest(1): proof(1), digest(2): proof(2)}
    assert facts.failures == ()
    assert ledger.journal.unfinished() == ()
    assert [(event.reason, event.message) for event in ledger.events.since()] == [("installed", "m was installed")]
    walked = [step.target.value for step in ledger.lives.history("m")]
    assert walked == ["discovered", "downloading", "downloaded", "validating", "validated"]


def test_installing_leaves_words_that_it_does_not_bring(ledger):
    ledger.models.save(ModelRow("m", category="vision", metadata='{"a":1}', priority=Priority.LOW, pinned=True))
    ledger.record_installed(installed("m", 1))
    found = ledger.models.get("m")
    assert (found.category, found.metadata, found.priority, found.pinned) == ("vision", '{"a":1}', Priority.LOW, True)


def test_a_new_revision_supersedes_and_a_rollback_brings_back(ledger, clock):
    ledger.record_installed(installed("m", 1))
    clock.at += 10
    ledger.record_installed(installed("m", 3))
    new, old = ledger.revisions.of("m")
    assert (new.spec_digest, new.is_current) == (digest(1003), True)
    assert (old.spec_digest, old.superseded_at) == (digest(1001), clock.at)
    clock.at += 10
    ledger.record_installed(installed("m", 1))
    assert ledger.revisions.current("m").spec_digest == digest(1001)
    assert [row.is_current for row in ledger.revisions.of("m")] == [True, False]


def test_superseded_revisions_come_newest_first(ledger, clock):
    for number in (10, 20, 30):
        ledger.record_installed(installed("m", number))
        clock.at += 1
    assert [row.spec_digest for row in ledger.revisions.of("m")] == [digest(1030), digest(1020), digest(1010)]


def test_a_revision_may_be_recorded_as_old_from_the_start(ledger):
    ledger.record_installed(installed("m", 1))
    ledger.revisions.install(
        RevisionRow("m", digest(5), (FileRow("x", digest(50), 1),), installed_at=2.0, superseded_at=3.0)
    )
    assert ledger.revisions.current("m").spec_digest == digest(1001)
    assert ledger.revisions.get("m", digest(5)).installed_at == 2.0
    assert ledger.revisions.get("m", digest(6)) is None


def test_evicting_the_current_revision_keeps_the_row_and_forgets_the_rest(ledger):
    ledger.record_installed(installed("m", 1))
    ledger.record_load("m", "default", 500)
    ledger.links.save(LinkRow("/opt/m.gguf", "m", "models/m/model.gguf"))
    removed = ledger.record_evicted("m", digest(1001), message="m was evicted")
    assert removed.spec_digest == digest(1001)
    facts = ledger.snapshot()
    assert facts.models["m"].lifecycle is Lifecycle.EVICTED
    assert (dict(facts.revisions), dict(facts.proofs), facts.loads, facts.links) == ({}, {}, (), ())
    assert ledger.events.latest(1)[0].reason == "evicted"


def test_evicting_an_old_revision_leaves_the_model_where_it_is(ledger):
    ledger.record_installed(installed("m", 1))
    ledger.record_installed(installed("m", 2))  # shares the blob 2 with the first
    ledger.record_evicted("m", digest(1001))
    facts = ledger.snapshot()
    assert [row.spec_digest for row in facts.revisions["m"]] == [digest(1002)]
    assert set(facts.proofs) == {digest(2), digest(3)}
    assert facts.models["m"].lifecycle is Lifecycle.VALIDATED


def test_evicting_what_is_not_known_forgets_nothing_else(ledger):
    ledger.record_installed(installed("m", 1))
    ledger.record_load("m", "default", 1)
    assert ledger.record_evicted("m", digest(4)) is None
    assert ledger.loads.of("m") != ()
    assert ledger.lives.state("m") is Lifecycle.READY


def test_who_uses_a_blob_is_known(ledger):
    ledger.record_installed(installed("b", 1))
    ledger.record_installed(installed("a", 2))
    assert ledger.revisions.users_of([digest(2), digest(1), digest(99)]) == {digest(2): ("a", "b"), digest(1): ("b",)}


@pytest.mark.parametrize("inode", [1, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_proof_comes_back_exactly_whatever_the_inode(ledger, inode):
    ledger.proofs.save([proof(1, inode=inode, mtime_ns=-5)])
    assert ledger.proofs.get(digest(1)) == proof(1, inode=inode, mtime_ns=-5)
    assert ledger.snapshot().proofs[digest(1)].stat.inode == inode


def test_a_time_that_cannot_be_held_never_matches(ledger):
    ledger.proofs.save([proof(1, mtime_ns=2**64)])
    assert ledger.proofs.get(digest(1)).stat != proof(1, mtime_ns=2**64).stat


def test_a_blob_has_one_proof_the_latest(ledger, clock):
    ledger.proofs.save([proof(1, at=1.0)])
    ledger.record_verified_blob(digest(1), FileStat(1, 2, 3, 4))
    assert ledger.proofs.get_all() == {digest(1): Proof(digest(1), FileStat(1, 2, 3, 4), clock.at)}
    ledger.proofs.forget([digest(1), digest(2)])
    assert ledger.proofs.get(digest(1)) is None


def test_verifying_a_loaded_model_does_not_say_it_was_unloaded(ledger):
    ledger.record_installed(installed("m", 1))
    ledger.record_load("m", "default", 1)
    ledger.record_verified("m", [proof(1, at=9.0)], message="m is intact")
    assert ledger.lives.state("m") is Lifecycle.READY
    assert ledger.proofs.get(digest(1)).verified_at == 9.0


def test_updating_a_present_model_does_not_say_it_was_evicted(ledger):
    ledger.record_installed(installed("m", 1))
    ledger.start_action(JournalRow("a", "m", ActionKind.DOWNLOAD, 0.0), Lifecycle.DOWNLOADING)
    ledger.finish_action("a", Lifecycle.DOWNLOADED, model="m")
    assert ledger.lives.state("m") is Lifecycle.VALIDATED
    assert Lifecycle.EVICTED not in {step.target for step in ledger.lives.history("m")}


def test_a_quarantined_model_loses_its_proofs_and_comes_back_by_installing(ledger):
    ledger.record_installed(installed("m", 1))
    ledger.record_quarantined("m", [digest(1)], message="model.gguf is damaged")
    assert set(ledger.proofs.get_all()) == {digest(2)}
    assert ledger.lives.state("m") is Lifecycle.QUARANTINED
    assert ledger.revisions.current("m") is not None
    assert ledger.events.latest(1)[0].type is EventType.WARNING
    ledger.record_installed(installed("m", 1))
    assert ledger.lives.state("m") is Lifecycle.VALIDATED


# --- failures, overrides, resolutions


def test_a_failure_is_remembered_per_step_with_its_fingerprint(ledger, clock):
    ledger.record_failure(failure("m"), fingerprint="etag-1", action_id="a")
    ledger.record_failure(failure("m", "load"))
    rows = ledger.snapshot().failures
    assert [row.fact for row in rows] == [failure("m"), failure("m", "load")]
    assert (rows[0].fingerprint, rows[0].failed_at) == ("etag-1", clock.at)
    assert ledger.lives.state("m") is Lifecycle.ERROR
    assert ledger.events.latest(1)[0].reason == "connect_failed"
    assert [row.fact.step for row in ledger.failures.of("m")] == ["download", "load"]


def test_a_permanent_failure_has_no_retry_time(ledger):
    fact = FailureFact("m", digest(1), "permanent", "not_found", "404", 1, None)
    ledger.failures.save(fact)
    assert ledger.failures.of("m")[0].fact == fact


def test_failures_are_cleared_by_model_by_step_or_all(ledger):
    for name in ("a", "b"):
        for step in ("download", "load"):
            ledger.failures.save(failure(name, step))
    assert ledger.clear_failure("a", step="load") == 1
    assert ledger.clear_failure("a") == 1
    assert ledger.clear_failure() == 2
    assert ledger.clear_failure() == 0


def test_a_failed_update_leaves_a_loaded_model_loaded(ledger):
    ledger.record_installed(installed("m", 1))
    ledger.record_load("m", "default", 1)
    ledger.record_failure(failure("m"))
    assert ledger.lives.state("m") is Lifecycle.READY
    assert len(ledger.failures.of("m")) == 1


def test_an_override_replaces_its_opposite_and_no_other(ledger):
    ledger.overrides.save(Override("m", "pin", 1.0, digest(1)))
    ledger.overrides.save(Override("m", "unload", 2.0))
    ledger.overrides.save(Override("m", "unpin", 3.0))
    assert ledger.overrides.of("m") == (Override("m", "unload", 2.0), Override("m", "unpin", 3.0))
    assert ledger.snapshot().overrides == ledger.overrides.get_all()
    assert ledger.overrides.clear("m", kind="unpin") == 1
    assert ledger.overrides.clear("m") == 1


def test_a_resolution_comes_back_whole(ledger, clock):
    files = (
        Artifact("a/b.gguf", ("https://h.example.com/b.gguf",), digest(1), 10, Role.VISION_PROJECTOR, optional=True),
        Artifact("é\udce9.bin", ("file:///x",)),
    )
    kept = Resolution("m", digest(5), files, "commit", "reason", "message", is_permanent=True)
    ledger.resolutions.save(kept)
    found = ledger.resolutions.get("m", digest(5))
    assert (found.resolution, found.resolved_at) == (kept, clock.at)
    assert ledger.snapshot().resolutions == {("m", digest(5)): found}
    assert ledger.resolutions.forget("m", digest(6)) == 0
    assert ledger.resolutions.forget("m") == 1


@pytest.mark.parametrize("secret", ["https://h/x?X-Amz-Signature=SECRET", "https://user:SECRET@h/x"])
def test_a_source_that_may_hold_a_secret_never_reaches_the_database(ledger, tmp_path, secret):
    ledger.resolutions.save(Resolution("m", digest(5), (Artifact("x", (secret, "hf://org/repo@abc/x")),)))
    assert ledger.resolutions.get("m", digest(5)).resolution.files[0].sources == ("hf://org/repo@abc/x",)
    assert not any(b"SECRET" in path.read_bytes() for path in tmp_path.glob("state.db*"))


# --- loads, links, usage


def test_loads_are_remembered_per_runtime(ledger, clock):
    ledger.record_installed(installed("m", 1))
    ledger.record_load("m", "default", 500, message="m is loaded")
    ledger.record_load("m", "triton", 600)
    assert ledger.snapshot().loads == (LoadRow("m", "default", 500, clock.at), LoadRow("m", "triton", 600, clock.at))
    assert ledger.lives.state("m") is Lifecycle.READY
    assert ledger.models.get("m").memory_bytes == 600
    ledger.record_unload("m", "default")
    assert ledger.lives.state("m") is Lifecycle.READY
    ledger.record_unload("m", message="m is unloaded")
    assert ledger.lives.state("m") is Lifecycle.VALIDATED
    assert ledger.loads.get_all() == ()


def test_unloading_what_is_not_loaded_changes_no_state(ledger):
    ledger.record_installed(installed("m", 1))
    before = ledger.lives.history("m")
    ledger.record_unload("m", "default")
    assert ledger.lives.history("m") == before


def test_a_link_belongs_to_one_model(ledger):
    ledger.links.save(LinkRow("/opt/a", "m", "models/m/a"))
    ledger.links.save(LinkRow("/opt/a", "n", "models/n/a"))
    assert ledger.links.of("m") == ()
    assert ledger.snapshot().links == (LinkRow("/opt/a", "n", "models/n/a"),)
    assert ledger.links.forget("/opt/a")
    assert not ledger.links.forget("/opt/a")


def test_what_was_brought_is_a_blob_until_its_model_is_placed_and_a_size_after(ledger):
    row = BroughtRow("m", "model.gguf", digest(1001), 100, digest(1), "http://h/m.gguf", '"one"')
    ledger.brought.save([row, BroughtRow("n", "other", digest(9), 7)])
    ledger.brought.save([row._replace(size_bytes=101)])
    assert ledger.snapshot().brought["m", "model.gguf"] == row._replace(size_bytes=101)
    ledger.record_installed(installed("m", 1))
    assert ledger.brought.get_all() == {
        ("m", "model.gguf"): row._replace(size_bytes=101, digest=None),
        ("n", "other"): BroughtRow("n", "other", digest(9), 7),
    }


def test_using_a_model_counts_once_per_use_and_day(ledger, clock):
    ledger.record_use("m")
    ledger.record_use("m", 3)
    clock.at += 86_400
    ledger.record_use("m")
    row = ledger.models.get("m")
    assert (row.use_count, row.last_used) == (5, clock.at)
    assert ledger.usage.days("m") == {"2023-11-14": 4, "2023-11-15": 1}


def test_a_late_report_of_a_use_never_moves_the_last_use_back(ledger, clock):
    ledger.record_use("m")
    ledger.usage.record("m", at=clock.at - 1000)
    assert ledger.models.get("m").last_used == clock.at
    assert ledger.models.get("m").use_count == 2


def test_usage_keeps_a_year_of_days(ledger, clock):
    with ledger.transaction():
        for _ in range(370):
            ledger.record_use("m")
            clock.at += 86_400
    assert len(ledger.usage.days("m")) == 366


# --- events, journal, meta


def test_events_are_numbered_and_read_from_a_number_on(ledger, clock):
    first = ledger.events.record(EventType.NORMAL, "started", "up")
    clock.at += 1
    second = ledger.events.record(EventType.WARNING, "slow", "very", model="m")
    assert [event.seq for event in ledger.events.since(first)] == [second]
    event = ledger.events.since(first)[0]
    assert (event.time, event.type, event.reason, event.model, event.count) == (
        clock.at,
        EventType.WARNING,
        "slow",
        "m",
        1,
    )
    assert [event.seq for event in ledger.events.since(limit=1)] == [first]
    assert [event.seq for event in ledger.events.latest(1)] == [second]
    assert [event.seq for event in ledger.events.latest(5, model="m")] == [second]


def test_a_repeated_event_is_counted_and_comes_again_for_who_follows(ledger, clock):
    seen = 0
    begun = clock.at
    for _ in range(17):
        seen = ledger.events.record(EventType.WARNING, "connect_failed", "no route", model="a")
        ledger.events.record(EventType.WARNING, "connect_failed", "no route", model="b")
        clock.at += 30
    rows = ledger.events.since()
    assert [(row.model, row.count) for row in rows] == [("a", 17), ("b", 17)]
    assert (rows[0].first_time, rows[0].time) == (begun, begun + 16 * 30)
    assert rows[0].seq == seen > 17


def test_another_event_in_between_starts_a_new_count(ledger):
    for reason in ("x", "x", "y", "x"):
        ledger.events.record(EventType.NORMAL, reason, "", model="m")
    assert [(row.reason, row.count) for row in ledger.events.since()] == [("x", 2), ("y", 1), ("x", 1)]


def test_the_ring_of_events_forgets_the_oldest(ledger):
    with ledger.transaction():
        for number in range(LIMIT + 200):
            ledger.events.record(EventType.NORMAL, "r", str(number))
    rows = ledger.events.since(limit=LIMIT * 2)
    assert LIMIT <= len(rows) < LIMIT + 64
    assert rows[-1].message == str(LIMIT + 199)


def test_an_action_stands_in_the_journal_until_it_ends(ledger, clock):
    begun = JournalRow("a1", "m", ActionKind.EVICT, 0.0, digest(1), "revision", ("x/y", "z"))
    ledger.start_action(begun)
    ledger.start_action(JournalRow("a2", "n", ActionKind.LOAD, 5.0))
    assert ledger.journal.unfinished() == (
        JournalRow("a2", "n", ActionKind.LOAD, 5.0),
        begun._replace(started_at=clock.at),
    )
    ledger.finish_action("a1")
    assert not ledger.journal.finish("a1")
    assert [row.id for row in ledger.journal.unfinished()] == ["a2"]
    assert ledger.journal.clear() == 1


def test_the_meta_facts_come_back(ledger):
    assert ledger.meta.get().generation == ""
    ledger.meta.set_generation("sha256:x")
    ledger.meta.set_device_id("d")
    ledger.meta.set_last_cleanup(3.0)
    ledger.meta.suspend()
    found = ledger.snapshot().meta
    assert (found.generation, found.device_id, found.last_cleanup_at, found.suspended_until) == (
        "sha256:x",
        "d",
        3.0,
        math.inf,
    )
    ledger.meta.suspend(7.0)
    assert ledger.meta.get().suspended_until == 7.0
    ledger.meta.resume()
    assert ledger.meta.get().suspended_until is None


def test_the_last_good_manifest_is_kept_byte_for_byte(ledger, clock):
    assert ledger.meta.last_good() is None
    content = b"models: {}\n\x00\xff"
    ledger.meta.save_last_good(content, "models.yaml", "sha256:g")
    assert ledger.meta.last_good() == LastGood(content, "models.yaml", "sha256:g", clock.at)
    assert ledger.meta.get().generation == "sha256:g"


def test_the_last_five_passes_are_kept_newest_first(ledger):
    for number in range(8):
        ledger.meta.record_pass(PassRow(float(number), 0.5, "g", "{}"))
    assert [row.started_at for row in ledger.meta.get().passes] == [7.0, 6.0, 5.0, 4.0, 3.0]


def test_throughput_is_weighted_by_bytes_over_the_last_downloads(ledger):
    assert ledger.meta.throughput() is None
    ledger.meta.record_throughput(0, 1.0)
    ledger.meta.record_throughput(5, 0.0)
    assert ledger.meta.throughput() is None
    ledger.meta.record_throughput(10**9, 1.0)
    for _ in range(19):
        ledger.meta.record_throughput(100, 1.0)
    assert ledger.meta.throughput() == pytest.approx((10**9 + 1900) / 20)
    ledger.meta.record_throughput(100, 1.0)
    assert ledger.meta.throughput() == 100.0


# --- lifecycle


def test_a_step_in_the_ledger_obeys_the_table(ledger, clock):
    ledger.lives.advance("m", Lifecycle.DISCOVERED)
    clock.at += 4
    step = ledger.lives.advance("m", Lifecycle.DOWNLOADING)
    assert (step.source, step.target, step.lasted_s) == (Lifecycle.DISCOVERED, Lifecycle.DOWNLOADING, 4.0)
    with pytest.raises(Failure, match="downloading cannot become ready"):
        ledger.lives.advance("m", Lifecycle.READY)
    assert ledger.lives.state("m") is Lifecycle.DOWNLOADING
    assert len(ledger.lives.history("m")) == 2


def test_a_model_has_a_history_of_a_hundred_steps(ledger, clock):
    ledger.lives.reach("m", Lifecycle.READY)
    ledger.lives.reach("n", Lifecycle.READY)
    with ledger.transaction():
        for _ in range(60):
            clock.at += 1
            ledger.lives.advance("m", Lifecycle.EXECUTING)
            clock.at += 2
            ledger.lives.advance("m", Lifecycle.READY)
    machine = ledger.lives.machine("m")
    assert len(machine.history) == 100
    assert machine.average_s(Lifecycle.EXECUTING) == 2.0
    assert len(ledger.lives.history("n")) == 8
    assert ledger.lives.machine("nobody").state is Lifecycle.UNINITIALIZED


def test_after_a_crash_states_in_progress_fall_back(ledger):
    ledger.lives.reach("a", Lifecycle.DOWNLOADING)
    ledger.lives.reach("b", Lifecycle.EXECUTING)
    ledger.lives.reach("c", Lifecycle.READY)
    ledger.lives.reach("d", Lifecycle.VALIDATED)
    assert ledger.lives.recover(loaded={"b"}) == {
        "a": (Lifecycle.DOWNLOADING, Lifecycle.DISCOVERED),
        "b": (Lifecycle.EXECUTING, Lifecycle.READY),
        "c": (Lifecycle.READY, Lifecycle.VALIDATED),
    }
    assert ledger.lives.recover(loaded={"b"}) == {}
    assert ledger.lives.history("a")[-1].target is Lifecycle.DISCOVERED


# --- transactions and notices


def record_and_stop(ledger):
    ledger.record_installed(installed("m", 1, message="installed"))
    raise InterruptedError


def test_a_transaction_is_there_together_or_not_at_all(ledger):
    with pytest.raises(InterruptedError), ledger.transaction():
        record_and_stop(ledger)
    assert ledger.models.get("m") is None
    assert ledger.events.since() == ()


def test_an_inner_failure_that_is_caught_takes_only_its_own_work(ledger):
    with ledger.transaction():
        ledger.record_use("kept")
        with pytest.raises(InterruptedError), ledger.transaction():
            record_and_stop(ledger)
    assert list(ledger.models.get_all()) == ["kept"]


def test_observers_hear_of_changes_after_the_commit_and_once(ledger):
    heard = []
    remove = ledger.observe(lambda change: heard.append((change.noun, change.key, ledger.models.get("m") is not None)))
    with ledger.transaction():
        ledger.record_use("m")
        ledger.record_use("m")
        assert heard == []
    assert heard == [("model", "m", True)]
    remove()
    remove()
    ledger.record_use("m")
    assert len(heard) == 1


def test_observers_hear_every_step_of_a_life(ledger):
    heard = []
    ledger.observe(lambda change: heard.append(change) if change.noun == "lifecycle" else None)
    ledger.record_installed(installed("m", 1))
    ledger.record_failure(failure("m"))
    assert [(change.key, [step.value for _, step in change.steps]) for change in heard] == [
        ("m", ["discovered", "validating", "validated"]),
        ("m", ["error"]),
    ]
    assert heard[1].steps[0][0] is Lifecycle.VALIDATED


def test_observers_hear_nothing_of_what_was_rolled_back(ledger):
    heard = []
    ledger.observe(heard.append)
    with pytest.raises(InterruptedError), ledger.transaction():
        record_and_stop(ledger)
    ledger.meta.set_generation("g")
    assert [change.noun for change in heard] == ["meta"]


def test_a_failing_observer_breaks_nothing(ledger):
    heard = []
    ledger.observe(lambda change: 1 / 0)
    ledger.observe(heard.append)
    ledger.record_use("m")
    assert ledger.models.get("m").use_count == 1
    assert len(heard) == 1


def test_threads_take_turns_and_lose_nothing(ledger):
    errors = []

    def work(name):
        try:
            for _ in range(25):
                with ledger.transaction():
                    row = ledger.models.get("shared")
                    ledger.models.save(row._replace(use_count=row.use_count + 1))
                ledger.record_use(name)
        except BaseException as error:
            errors.append(error)

    ledger.models.save(ModelRow("shared"))
    threads = [threading.Thread(target=work, args=(f"m{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert ledger.models.get("shared").use_count == 100
    assert [ledger.models.get(f"m{number}").use_count for number in range(4)] == [25] * 4


def test_a_broken_constraint_is_our_mistake_and_not_hidden(ledger):
    with pytest.raises(sqlite3.IntegrityError):
        ledger.links.save(LinkRow("relative", "m", "models/m"))
    assert ledger.links.get_all() == ()


def test_every_part_is_there_for_a_reader_too(tmp_path, clock, ledger):
    ledger.record_installed(installed("m", 1))
    ledger.close()
    reader = Ledger.open(str(tmp_path), now=clock, writable=False)
    assert isinstance(reader, Recording)
    assert reader.models.get("m").lifecycle is Lifecycle.VALIDATED
    assert reader.revisions.current("m").files[0].path == "model.gguf"
    with pytest.raises(Failure) as caught:
        reader.record_use("m")
    assert caught.value.reason == "ledger_read_only"
    assert reader.observe(print)() is None
