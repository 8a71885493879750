"""The pure rules: addresses, redirects, proxies, headers, who gets one more connection."""

import base64
import html
import json
import re
import urllib.parse

import pytest

from reconciler.adapters.fetch import answers, redirects
from reconciler.adapters.fetch.proxies import proxy_for
from reconciler.adapters.fetch.quoting import quote_of, secrets_of
from reconciler.adapters.fetch.scope import Scope, scope_of_address, scope_of_host
from reconciler.adapters.fetch.segments import Growth, Segments
from reconciler.core.errors import Failure

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("address", "scope"),
    [
        ("8.8.8.8", Scope.PUBLIC),
        ("2606:4700::1111", Scope.PUBLIC),
        ("10.0.0.1", Scope.PRIVATE),
        ("192.168.1.1", Scope.PRIVATE),
        ("172.16.0.1", Scope.PRIVATE),
        ("100.64.0.1", Scope.PRIVATE),
        ("fd00::1", Scope.PRIVATE),
        ("127.0.0.1", Scope.LOCAL),
        ("127.9.9.9", Scope.LOCAL),
        ("::1", Scope.LOCAL),
        ("0.0.0.0", Scope.LOCAL),
        ("::", Scope.LOCAL),
        ("169.254.169.254", Scope.LOCAL),
        ("fe80::1%eth0", Scope.LOCAL),
        ("224.0.0.1", Scope.LOCAL),
        ("255.255.255.255", Scope.LOCAL),
        ("::ffff:127.0.0.1", Scope.LOCAL),
        ("::ffff:10.0.0.1", Scope.PRIVATE),
        ("64:ff9b::7f00:1", Scope.LOCAL),
        ("2002:7f00:1::", Scope.LOCAL),
    ],
)
def test_every_address_has_a_scope(address, scope):
    assert scope_of_address(address) is scope


@pytest.mark.parametrize(
    "host",
    [
        "LOCALHOST.",
        "[::1]",
        "ip6-localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "017700000001",
        "0",
        "\uff11\uff12\uff17.0.0.1",
    ],
)
def test_every_form_of_a_loopback_address_shows_its_scope(host):
    assert scope_of_host(host) is Scope.LOCAL


@pytest.mark.parametrize("host", ["example.com", "fade.cafe", "1.2.3.4.5", "0xfade.example.com", "x"])
def test_a_name_shows_no_scope(host):
    assert scope_of_host(host) is None


@pytest.mark.parametrize(
    ("url", "location", "found"),
    [
        ("https://a.test/x/y", "z", "https://a.test/x/z"),
        ("https://a.test/x", "https://b.test/", "https://b.test/"),
        ("http://a.test/x", "https://b.test/", "https://b.test/"),
        ("http://a.test/x", "//b.test/q?s=1#f", "http://b.test/q?s=1"),
    ],
)
def test_where_redirects_lead(url, location, found):
    assert redirects.next_url(url, location) == found


@pytest.mark.parametrize(
    "location", ["http://a.test/x", "ftp://a.test", "javascript:1", "data:,x", "https://u:p@b.test/", "file:///x"]
)
def test_unsafe_redirects_are_refused(location):
    with pytest.raises(Failure) as caught:
        redirects.next_url("https://a.test/secret?token=abc", location)
    assert caught.value.reason == "unsafe_redirect"
    assert "abc" not in caught.value.message


@pytest.mark.parametrize(
    ("after", "is_kept"),
    [
        ("https://a.test/other", True),
        ("https://a.test:443/other", True),
        ("https://A.TEST/other", True),
        ("https://a.test:444/", False),
        ("http://a.test/", False),
        ("https://b.a.test/", False),
    ],
)
def test_secrets_are_bound_to_scheme_host_and_port(after, is_kept):
    headers = (("x-api-key", "k"),)
    assert redirects.keep_headers(headers, "https://a.test/x", after) == (headers if is_kept else ())


def test_a_label_holds_nothing_secret():
    assert redirects.label_of("https://u:p@a.test/x/y?token=1#f\r\n") == "https://a.test/x/y"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("12", 12.0),
        ("99999999999999999999", 900.0),
        ("Fri, 15 Jan 2027 08:00:30 GMT", 30.0),
        ("Fri, 15 Jan 2017 08:00:30 GMT", 0.0),
        ("Fri, 15 Jan 2099 08:00:30 GMT", 900.0),
        ("-5", None),
        ("soon", None),
        ("600, 30", 600.0),
        ("5, 30", 30.0),
        ("5,", None),
        ("", None),
        ("1e3", None),
    ],
)
def test_retry_after_is_read_and_capped(value, seconds):
    assert answers.retry_after_s(value, NOW) == seconds


DATE = "Fri, 15 Jan 2027 08:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"etag": '"x"'}, '"x"'),
        ({"etag": 'W/"x"'}, ""),
        ({"etag": "x"}, ""),
        ({"etag": '"x", "y"'}, ""),
        (
            {"etag": 'W/"x"', "last-modified": "Fri, 15 Jan 2027 07:00:00 GMT", "date": DATE},
            "Fri, 15 Jan 2027 07:00:00 GMT",
        ),
        ({"etag": 'W/"x"', "last-modified": "Fri, 15 Jan 2027 07:59:59 GMT", "date": DATE}, ""),
        ({"last-modified": "Fri, 15 Jan 2027 07:00:00 GMT", "date": DATE}, "Fri, 15 Jan 2027 07:00:00 GMT"),
        ({"last-modified": "Fri, 15 Jan 2027 07:59:59 GMT", "date": DATE}, ""),
        ({"last-modified": "Fri, 15 Jan 2027 07:00:00 GMT"}, ""),
        ({"last-modified": "yesterday", "date": DATE}, ""),
        ({}, ""),
    ],
)
def test_only_strong_validators_resume(headers, validator):
    assert answers.validator_of(headers) == validator


@pytest.mark.parametrize(
    ("head", "is_page"),
    [
        (b"\xef\xbb\xbf \n<!DOCTYPE html>", True),
        (b"<!-- saved --><!--\nfrom > --> <HTML>", True),
        (b"<head><title>x", True),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "x">', True),
        ("\ufeff<html>".encode("utf-16-le"), True),
        ("\ufeff<!doctype html>".encode("utf-16-be"), True),
        (b"<meta charset=x>", True),
        (b"<!-- only a comment", False),
        (b"<!---->" * 500 + b"x", False),
        (b'<?xml version="1.0"?><net name="x">', False),
        (b"<header>", False),
        (b"GGUF<html>", False),
        (b"", False),
    ],
)
def test_a_page_is_known_by_its_beginning(head, is_page):
    assert answers.looks_like_html(head) is is_page


PROXY = "http://proxy.test:3128"


@pytest.mark.parametrize(
    ("scheme", "host", "environment", "proxy"),
    [
        ("http", "a.test", {}, None),
        ("http", "a.test", {"http_proxy": PROXY}, PROXY),
        ("http", "a.test", {"HTTP_PROXY": "proxy.test:3128"}, PROXY),
        ("http", "a.test", {"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, None),
        ("https", "a.test", {"HTTP_PROXY": PROXY}, None),
        ("https", "a.test", {"ALL_PROXY": PROXY}, PROXY),
        ("https", "a.test", {"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ("https", "a.test", {"HTTPS_PROXY": PROXY, "NO_PROXY": "b.test, .test"}, None),
        ("https", "aa.test", {"HTTPS_PROXY": PROXY, "NO_PROXY": "a.test"}, PROXY),
        ("https", "a.test", {"HTTPS_PROXY": PROXY, "NO_PROXY": "a.test:80"}, PROXY),
        ("https", "a.test", {"HTTPS_PROXY": PROXY, "NO_PROXY": "a.test:443"}, None),
        ("https", "10.1.2.3", {"HTTPS_PROXY": PROXY, "NO_PROXY": "10.0.0.0/8"}, None),
        ("https", "::1", {"HTTPS_PROXY": PROXY, "NO_PROXY": "::1"}, None),
    ],
)
def test_proxies_are_chosen_as_usual(scheme, host, environment, proxy):
    assert proxy_for(scheme, host, {"http": 80, "https": 443}[scheme], environment) == proxy


def test_every_part_of_a_secret_is_known():
    urls = ("https://a.test/?sig=abc%2Fdefg", "http://me:p%40ss@proxy.test:1")
    known = secrets_of((("Authorization", "Basic dXNlcjpwYXNzd29yZA=="),), urls)
    assert {"dXNlcjpwYXNzd29yZA==", "user:password", "password", "abc/defg", "p@ss", "me"} <= known


@pytest.mark.parametrize(
    "secret", ["hunter", "ab", "Correct Horse", "p@ss/word<&>", "kénnwort", "tok-abc_def", 'q"uo\\te']
)
@pytest.mark.parametrize(
    "form",
    [
        lambda text: text,
        str.upper,
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: urllib.parse.quote(text, safe=""),
        lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
        html.escape,
        lambda text: "".join(f"&#{ord(char)};" for char in text),
        json.dumps,
        lambda text: text.encode().hex(),
        lambda text: f"https://x.test/{text}?sig={text}",
        lambda text: f"<{text}>{text}</{text}>",
    ],
)
def test_no_form_of_a_secret_is_quoted(secret, form):
    said = f"access denied for {form(secret)} since the policy of this bucket says so"
    quoted = quote_of(said.encode(), {secret})
    assert form(secret) not in quoted
    assert not {word.lower() for word in quoted.split()} & {word.lower() for word in re.split(r"\W+", secret)}


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        ("Access denied: ask an administrator.", "Access denied ask an administrator"),
        ("<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>", "AccessDenied Access Denied"),
        ('{"error": "quota exceeded"}', "error quota exceeded"),
        ("bad signature a1b2c3 for key", "bad signature *** for key"),
        ("a1b2 c3d4 no", ""),
        ("", ""),
        ("x" * 3000, ""),
        ("no room " * 255 + "my hunt", " ".join(["no room"] * 10)),
    ],
)
def test_plain_words_are_quoted_and_nothing_else(said, quoted):
    assert quote_of(said.encode()[:2048], {"hunter"}) == quoted


def test_segments_hand_out_every_chunk_once_and_lowest_first():
    segments = Segments([(0, 10), (12, 20)], piece_chunks=4)
    first = segments.take()
    assert (first.at, first.end) == (0, 10)
    segments.split()
    assert first.end == 4
    taken = []
    while (segment := segments.take()) is not None:
        taken.append((segment.at, segment.end))
    assert taken == [(4, 8), (8, 10), (12, 16), (16, 20)]


def test_a_segment_given_back_is_the_next_to_be_taken():
    segments = Segments([(0, 20)], piece_chunks=4)
    segments.split()
    first, second = segments.take(), segments.take()
    first.at = 2
    segments.done(first)
    assert not segments.is_lowest(second.at)
    again = segments.take()
    assert (again.at, again.end) == (2, 4)


def test_connections_are_added_while_throughput_grows():
    growth = Growth(8)
    rates = [20e6, 40e6, 80e6, 81e6, 200e6]
    assert [growth.next_connections(rate, 0.0, 0.1, 60) for rate in rates] == [2, 4, 8, 8, 8]
    settled = Growth(8)
    assert [settled.next_connections(rate, 0.0, 0.1, 60) for rate in [20e6, 21e6, 50e6]] == [2, 2, 2]


def test_no_connection_is_added_where_the_processor_is_the_limit():
    assert Growth(8).next_connections(1e9, ring_wait_share=0.0, cores_share=0.7, left_s=60) == 1


def test_no_connection_is_added_where_hashing_or_the_end_is_the_limit():
    assert Growth(8).next_connections(1e9, ring_wait_share=0.5, cores_share=0.1, left_s=60) == 1
    assert Growth(8).next_connections(1e6, ring_wait_share=0.0, cores_share=0.1, left_s=0.2) == 1
