"""The vocabulary of the shell: what it shows of a secret (nothing), and what may be left out."""

import threading
from dataclasses import FrozenInstanceError, replace

import pytest

from reconciler.core.ports import (
    CancelToken,
    Fetched,
    FetchRequest,
    FormatReport,
    HttpAnswer,
    Location,
    Progress,
    RuntimeModel,
)
from tests.core.worlds import digest

SIGNED = "https://u:s3cret@origin.example/x?X-Amz-Signature=s3cret"


def location(**rest):
    return Location(SIGNED, "https://origin.example/x", (("authorization", "Bearer s3cret"),), **rest)


def request():
    return FetchRequest("a", "x", (location(refresh=location),), "/store/partial/k")


@pytest.mark.parametrize("show", [repr, str, "{}".format])
def test_a_location_shows_its_label_and_no_secret(show):
    for shown in (show(location()), show(request())):
        assert "https://origin.example/x" in shown
        assert "s3cret" not in shown
        assert "Bearer" not in shown


def test_an_answer_does_not_show_its_url():
    assert "s3cret" not in repr(HttpAnswer(200, {}, b"", SIGNED))


def test_how_to_refresh_a_location_does_not_make_it_another():
    assert location(refresh=location) == location()
    assert hash(location(refresh=location)) == hash(location())


def test_a_location_of_another_url_or_with_other_headers_is_another():
    assert Location("https://h/x") != Location("https://h/y")
    assert Location("https://h/x") != Location("https://h/x", headers=(("a", "b"),))


def test_a_request_expects_nothing_that_nobody_knows():
    plain = request()
    assert (plain.digest, plain.size_bytes, plain.limit_bytes, plain.reuse) == (None, None, None, None)
    assert (plain.min_free_bytes, plain.connections, plain.timeout_s) == (0, 8, 30.0)


def test_a_bare_report_condemns_nothing():
    report = FormatReport("unknown")
    assert not report.is_unsafe
    assert report.errors == report.warnings == report.metadata == ()


def test_what_is_unknown_of_a_file_under_way_is_none():
    progress = Progress("a", "x", "waiting", 0, None)
    assert (progress.rate, progress.seconds_left) == (None, None)
    assert progress.attempt == 1


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (Location("https://h/x"), "url"),
        (Fetched(digest("x"), 1, "origin", 1), "digest"),
        (RuntimeModel("a", (), "gguf", 1, None), "folder"),
    ],
)
def test_what_passes_between_parts_is_never_changed(value, field):
    with pytest.raises(FrozenInstanceError):
        setattr(value, field, "other")


def test_an_event_is_a_cancel_token():
    token: CancelToken = threading.Event()
    assert not token.wait(0)
    token.set()
    assert token.is_set()
    assert token.wait(0)


def test_only_a_declared_digest_binds_the_source():
    declared = FetchRequest("m", "f", (), "/t", digest=digest("f"))
    assert declared.declared == digest("f")
    assert replace(declared, accepts_newer=True).declared is None


def test_what_is_declared_counts_before_what_was_measured():
    request = FetchRequest("m", "f", (), "/t", expected_bytes=7)
    assert request.likely_bytes == 7
    assert replace(request, size_bytes=0).likely_bytes == 0
