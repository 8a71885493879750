"""Downloads that a person holds back, and how far those are that come."""

from dataclasses import replace

from reconciler.core.changed import apply_change
from reconciler.core.notices import Event, event_document, event_from
from reconciler.core.observed import Override
from reconciler.core.plan import plan
from reconciler.core.transfer import Transfer, completed, seconds_left
from reconciler.core.why import verdict, why
from reconciler.core.words import Digest
from tests.core.worlds import BLOCK, NOW, artifact, desired, digest, held, observed, wanted


def decided(want, found, name="a"):
    return verdict(plan(want, found), name)[:2]


def test_a_paused_download_waits_and_resume_turns_it():
    want = desired(wanted("a", artifact()), wanted("b", artifact(content="y")))
    found = observed(overrides=(Override("a", "pause", NOW),))
    assert decided(want, found) == ("deferred", "paused")
    assert decided(want, found, "b")[0] == "download"
    answer = why(want, found, "a")
    assert answer.change is not None
    assert answer.change.field == "resume"
    assert decided(*apply_change(want, found, answer.change, "a"))[0] == "download"


def test_a_cancelled_download_comes_when_its_entry_changes():
    model = wanted("a", artifact())
    found = observed(overrides=(Override("a", "cancel", NOW, model.spec_digest),))
    assert decided(desired(model), found) == ("deferred", "cancelled")
    other = replace(model, spec_digest=digest("another"))
    assert decided(desired(other), found)[0] == "download"


def test_a_paused_model_that_is_here_is_satisfied():
    model = wanted("a", artifact())
    found = observed(held(model), overrides=(Override("a", "pause", NOW),))
    assert decided(desired(model), found)[0] == "satisfied"


def test_a_rollback_by_hand_does_not_unpin():
    model = replace(wanted("a", artifact()), pinned=True)
    found = observed(held(model), overrides=(Override("a", "rollback", NOW, model.spec_digest),))
    assert any(link.fact == "pinned" for link in why(desired(model), found, "a").chain)


def test_a_transfer_counts_the_files_that_nobody_reported_of():
    transfer = Transfer(BLOCK, 2 * BLOCK, rate=float(BLOCK), file="one", files_total=1)
    files = (
        artifact("one", "1", 2 * BLOCK),
        artifact("two", "2", 3 * BLOCK),
        artifact("three", "3", 4 * BLOCK),
    )
    here = {files[2].digest}
    whole = completed(transfer, files, ("one",), here)
    assert (whole.done_bytes, whole.total_bytes) == (5 * BLOCK, 9 * BLOCK)
    assert (whole.files_done, whole.files_total) == (1, 3)
    assert whole.seconds_left == 4
    assert whole.share == round(5 / 9, 4)


def test_what_nobody_knows_of_a_transfer_stays_unknown():
    transfer = Transfer(BLOCK, None)
    assert transfer.share is None
    assert completed(transfer, (), (), ()).seconds_left is None
    unsized = completed(Transfer(BLOCK, 2 * BLOCK), (artifact("two", "2", None),), (), ())
    assert unsized.total_bytes is None
    assert completed(Transfer(0, 1), (artifact("two", None, 1),), (), (Digest("x"),)).files_done == 0
    assert seconds_left(1, 2, None) is None
    assert seconds_left(5, 2, 1.0) == 0


def test_an_event_goes_over_a_wire_and_back():
    event = Event(7, 1_800_000_000.25, "Warning", "not_found", "a", "404", 3)
    assert event_from(event_document(event)) == event
