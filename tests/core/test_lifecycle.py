"""The table of the lifecycle is as written down, sound in itself, and everything said of states follows from it."""

import pytest

from reconciler.core.errors import Failure, FailureKind
from reconciler.core.lifecycle import (
    DURABLE,
    IN_RUNTIME,
    ON_DISK,
    TRANSITIONS,
    Lifecycle,
    Presence,
    allowed_next,
    defects,
    flags,
    is_valid,
    path,
    presence,
    progress_to,
    recover,
    transition,
)
from reconciler.core.stages import STAGES, Stage, stage_progress

# The table once more, as people write it: the code's table must say the same.
WRITTEN = """
uninitialized: discovered
discovered: downloading validating deleted
downloading: downloaded paused discovered
paused: downloading discovered
downloaded: extracting validating
extracting: extracted
extracted: validating
validating: validated quarantined
validated: initializing validating evicted deleted
initializing: initialized
initialized: loading
loading: loaded
loaded: ready cleanup
ready: executing cleanup
executing: ready
cleanup: validated evicted deleted
evicted: discovered deleted
quarantined: discovered deleted
deleted: discovered
error: discovered cleanup
"""

TABLE = {
    Lifecycle(line.split(":")[0]): {Lifecycle(word) for word in line.split(":")[1].split()}
    for line in WRITTEN.strip().splitlines()
}
PAIRS = [(source, target) for source in Lifecycle for target in Lifecycle]


def test_there_are_twenty_states():
    assert len(Lifecycle) == 20
    assert set(TABLE) == set(Lifecycle)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_step_is_legal_exactly_where_the_table_says_so(source, target):
    legal = target in TABLE[source] or (target is Lifecycle.ERROR and source is not Lifecycle.DELETED)
    assert is_valid(source, target) is legal
    assert (target in allowed_next(source)) is legal
    if legal:
        assert transition(source, target) is target
        return
    with pytest.raises(Failure) as caught:
        transition(source, target)
    assert caught.value.kind is FailureKind.PERMANENT
    assert caught.value.reason == "illegal_transition"
    assert source.value in caught.value.message
    assert target.value in caught.value.message


def test_allowed_states_come_in_a_stable_order():
    assert allowed_next(Lifecycle.DISCOVERED) == (
        Lifecycle.DOWNLOADING,
        Lifecycle.VALIDATING,
        Lifecycle.DELETED,
        Lifecycle.ERROR,
    )


def test_the_table_has_no_defects():
    assert defects() == ()


@pytest.mark.parametrize(
    ("state", "steps", "sentence"),
    [
        (Lifecycle.PAUSED, {Lifecycle.ERROR}, "paused is a dead end"),
        (Lifecycle.PAUSED, {Lifecycle.PAUSED, Lifecycle.ERROR}, "paused is a dead end"),
        (Lifecycle.DOWNLOADING, {Lifecycle.DOWNLOADED, Lifecycle.ERROR}, "paused is an orphan"),
        (Lifecycle.VALIDATED, {Lifecycle.VALIDATING, Lifecycle.ERROR}, "ready cannot be reached"),
        (Lifecycle.READY, {Lifecycle.CLEANUP}, "ready cannot go to error"),
        (Lifecycle.DELETED, {Lifecycle.DISCOVERED, Lifecycle.ERROR}, "deleted must not go to error"),
    ],
)
def test_the_self_check_finds_what_is_wrong_with_a_table(state, steps, sentence):
    assert sentence in defects({**TRANSITIONS, state: frozenset(steps)})


def test_the_self_check_finds_a_state_without_an_entry():
    table = {state: steps for state, steps in TRANSITIONS.items() if state is not Lifecycle.PAUSED}
    assert "paused has no entry" in defects(table)


# --- ways


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_way_takes_legal_steps_only_and_never_through_error(source, target):
    if target is Lifecycle.UNINITIALIZED and source is not target:
        with pytest.raises(Failure) as caught:
            path(source, target)
        assert caught.value.reason == "illegal_transition"
        return
    if target is Lifecycle.ERROR and source is Lifecycle.DELETED:
        assert path(source, target) == (Lifecycle.DISCOVERED, Lifecycle.ERROR)
        return
    way = path(source, target)
    assert (way == ()) is (source is target)
    for here, there in zip((source, *way), way, strict=False):
        assert is_valid(here, there)
    assert Lifecycle.ERROR not in way[:-1]
    assert len(way) <= len(Lifecycle)


def test_the_way_to_ready_is_the_shortest():
    assert path(Lifecycle.DOWNLOADED, Lifecycle.LOADED) == (
        Lifecycle.VALIDATING,
        Lifecycle.VALIDATED,
        Lifecycle.INITIALIZING,
        Lifecycle.INITIALIZED,
        Lifecycle.LOADING,
        Lifecycle.LOADED,
    )


def test_of_two_ways_as_long_the_one_onwards_is_taken():
    assert path(Lifecycle.DOWNLOADING, Lifecycle.VALIDATED) == (
        Lifecycle.DOWNLOADED,
        Lifecycle.VALIDATING,
        Lifecycle.VALIDATED,
    )
    assert path(Lifecycle.VALIDATED, Lifecycle.DISCOVERED) == (Lifecycle.EVICTED, Lifecycle.DISCOVERED)


def test_a_way_goes_round_what_is_to_be_avoided():
    assert path(Lifecycle.ERROR, Lifecycle.VALIDATED) == (Lifecycle.CLEANUP, Lifecycle.VALIDATED)
    assert path(Lifecycle.ERROR, Lifecycle.VALIDATED, avoiding={Lifecycle.CLEANUP}) == (
        Lifecycle.DISCOVERED,
        Lifecycle.VALIDATING,
        Lifecycle.VALIDATED,
    )


def test_what_is_avoided_may_still_be_the_end_of_the_way():
    avoiding = {Lifecycle.EVICTED, Lifecycle.CLEANUP}
    assert path(Lifecycle.VALIDATED, Lifecycle.EVICTED, avoiding) == (Lifecycle.EVICTED,)


def test_there_is_no_way_where_everything_on_it_is_avoided():
    with pytest.raises(Failure, match="no way leads from ready to validated"):
        path(Lifecycle.READY, Lifecycle.VALIDATED, avoiding={Lifecycle.CLEANUP})


# --- what follows from a state


def test_a_state_in_progress_falls_back_to_a_durable_one():
    assert recover(Lifecycle.DOWNLOADING) is Lifecycle.DISCOVERED
    assert recover(Lifecycle.EXTRACTING) is Lifecycle.DOWNLOADED
    assert recover(Lifecycle.EXECUTING) is Lifecycle.VALIDATED


@pytest.mark.parametrize("state", Lifecycle)
def test_falling_back_twice_is_falling_back_once(state):
    assert recover(recover(state)) is recover(state)


@pytest.mark.parametrize("state", DURABLE)
def test_a_fall_never_gains_ground(state):
    way_to_ready = path(Lifecycle.UNINITIALIZED, Lifecycle.READY)
    assert recover(state) in ON_DISK or recover(state) is Lifecycle.DISCOVERED
    assert len(path(recover(state), Lifecycle.READY)) <= len(way_to_ready)
    assert recover(state) not in IN_RUNTIME


def test_a_state_on_disk_never_falls_off_the_disk():
    assert all(recover(state) in ON_DISK for state in ON_DISK)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        (Lifecycle.DISCOVERED, Presence.ABSENT),
        (Lifecycle.EVICTED, Presence.ABSENT),
        (Lifecycle.ERROR, Presence.ABSENT),
        (Lifecycle.DOWNLOADING, Presence.PARTIAL),
        (Lifecycle.PAUSED, Presence.PARTIAL),
        (Lifecycle.VALIDATED, Presence.PRESENT),
        (Lifecycle.LOADING, Presence.PRESENT),
        (Lifecycle.READY, Presence.LOADED),
        (Lifecycle.EXECUTING, Presence.LOADED),
    ],
)
def test_the_short_word_for_status(state, word):
    assert presence(state) is word


def test_an_archive_that_was_downloaded_is_unpacked_before_it_is_checked():
    archive, plain = flags(Lifecycle.DOWNLOADED, is_archive=True), flags(Lifecycle.DOWNLOADED)
    assert (archive.needs_extraction, archive.needs_validation) == (True, False)
    assert (plain.needs_extraction, plain.needs_validation) == (False, True)
    assert flags(Lifecycle.EXTRACTED, is_archive=True).needs_validation


@pytest.mark.parametrize("state", Lifecycle)
def test_flags_agree_with_the_state(state):
    found = flags(state)
    assert found.is_ready is (state is Lifecycle.READY)
    assert found.is_in_error is (state is Lifecycle.ERROR)
    assert found.is_in_use is (state is Lifecycle.EXECUTING)
    assert not (found.needs_download and state in ON_DISK)
    assert not (found.is_ready and found.is_processing)


def test_what_is_going_on_is_processing_and_what_rests_is_not():
    busy = {state.value for state in Lifecycle if flags(state).is_processing}
    assert busy == {"downloading", "extracting", "validating", "initializing", "loading", "executing", "cleanup"}


# --- progress


def test_progress_grows_along_the_way_and_ends_at_one():
    way = (Lifecycle.UNINITIALIZED, *path(Lifecycle.UNINITIALIZED, Lifecycle.READY))
    shares = [progress_to(state, Lifecycle.READY) for state in way]
    assert shares[0] == 0.0
    assert shares[-1] == 1.0
    assert shares == sorted(set(shares))


def test_progress_is_never_negative_for_a_state_further_off_than_the_origin():
    assert progress_to(Lifecycle.DISCOVERED, Lifecycle.READY, origin=Lifecycle.LOADED) == 0.0


def test_progress_to_where_one_is_is_whole():
    assert progress_to(Lifecycle.READY, Lifecycle.READY, origin=Lifecycle.READY) == 1.0


def test_the_seven_stages_follow_each_other():
    begins = [STAGES[stage][0] for stage in Stage]
    assert len(begins) == 7
    assert begins == sorted(set(begins))
    assert (begins[0], begins[-1]) == (0.0, 100.0)
    assert all(message for _, message in STAGES.values())


def test_overall_percent_rises_within_a_stage_and_meets_the_next():
    half, whole = stage_progress(Lifecycle.DOWNLOADING, 0.5), stage_progress(Lifecycle.DOWNLOADING, 1.0)
    assert half.stage is Stage.DOWNLOAD
    assert STAGES[Stage.DOWNLOAD][0] < half.percent < whole.percent
    assert whole.percent == stage_progress(Lifecycle.DOWNLOADED).percent == STAGES[Stage.EXTRACTION][0]
    assert stage_progress(Lifecycle.READY).percent == 100.0


@pytest.mark.parametrize(("fraction", "same_as"), [(-1.0, 0.0), (7.0, 1.0)])
def test_a_fraction_outside_its_range_is_clamped(fraction, same_as):
    assert stage_progress(Lifecycle.LOADING, fraction) == stage_progress(Lifecycle.LOADING, same_as)


@pytest.mark.parametrize("state", [Lifecycle.EVICTED, Lifecycle.ERROR, Lifecycle.UNINITIALIZED])
def test_what_is_not_there_is_at_the_beginning(state):
    assert stage_progress(state).stage is Stage.DISCOVERY
    assert stage_progress(state).percent == 0.0
