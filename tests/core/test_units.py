"""Sizes, shares, durations and rates are exact, both ways."""

import contextlib
import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core import units
from reconciler.core.policies import Size
from reconciler.core.units import (
    exact_duration,
    exact_size,
    format_duration,
    format_rate,
    format_size,
    is_byte_count,
    parse_duration,
    parse_rate,
    parse_share,
    parse_size,
    parse_size_or_share,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("500MB", 5 * 10**8),
        ("500MiB", 500 * 2**20),
        ("4.7GB", 4_700_000_000),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("2 TB", 2 * 10**12),
        ("1.5TiB", 3 * 2**39),
        ("1PB", 10**15),
        ("1PiB", 2**50),
        ("0.1B", 0),
        ("1.1KiB", 1126),
        ("7B", 7),
        ("123", 123),
        (0, 0),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_a_size_is_exact_and_a_fraction_of_a_byte_is_cut_off(text, size_bytes):
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "40G",
        "40gb",
        "KB",
        "-1",
        "1e3",
        "1,5GB",
        "1.GB",
        ".5GB",
        "1GB ",
        " 1GB",
        "1GB\n",
        "9" * 5000,
        "\u0661GB",
        "60%",
    ],
)
def test_what_is_no_size_or_could_mean_two_is_refused(text):
    with pytest.raises(ValueError, match="a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["8EiB", "9000PiB", 2**63, -1])
def test_a_size_fits_a_file_offset(text):
    with pytest.raises(ValueError, match="a size"):
        parse_size(text)


@given(st.integers(0, 2**63 - 1))
def test_the_exact_word_of_a_size_parses_to_the_same_size(size_bytes):
    assert parse_size(exact_size(size_bytes)) == size_bytes


@given(st.integers(0, 10**6), st.sampled_from(["kB", "MB", "GB", "KiB", "MiB", "GiB", "TiB"]))
def test_the_exact_word_is_never_longer_than_what_a_person_would_write(count, unit):
    word = f"{count}{unit}"
    assert len(exact_size(parse_size(word))) <= len(word)


@pytest.mark.parametrize(
    ("size_bytes", "word"),
    [(2**30, "1GiB"), (4_700_000_000, "4.7GB"), (5 * 10**8, "500MB"), (0, "0"), (1234567, "1234567")],
)
def test_the_exact_word_is_the_one_a_person_would_write(size_bytes, word):
    assert exact_size(size_bytes) == word


@given(st.decimals(0, 100, places=2))
def test_a_share_keeps_its_number(number):
    assert parse_share(f"{number}%") == float(Fraction(number))
    assert parse_size_or_share(f"{number} %").percent == float(Fraction(number))


@pytest.mark.parametrize("text", ["100.01%", "101%", "-1%", "%", "60", "sixty%"])
def test_a_share_lies_between_0_and_100(text):
    with pytest.raises(ValueError, match="a percentage"):
        parse_share(text)


def test_a_limit_is_a_size_or_a_share():
    assert parse_size_or_share("60%") == Size(percent=60.0)
    assert parse_size_or_share("40GiB") == Size(size_bytes=40 * 2**30)
    assert parse_size_or_share(7) == Size(size_bytes=7)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("24h", 86400),
        ("30d", 2592000),
        ("1w", 604800),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("0", 0),
        ("0s", 0),
        ("1w2d3h4m5s6ms", 788645.006),
    ],
)
def test_a_duration_adds_up(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "5m1h", "1h1h", "1 h", "-5s", "1y", "h", "9000w", "1h\n", "30D"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="a duration"):
        parse_duration(text)


@given(st.integers(0, 10**12))
def test_the_exact_word_of_a_duration_parses_to_the_same_milliseconds(milliseconds):
    seconds = milliseconds / 1000
    assert round(parse_duration(exact_duration(seconds)) * 1000) in (milliseconds, milliseconds - 1)


@given(st.integers(0, 10**9))
def test_whole_seconds_survive_exactly(seconds):
    assert parse_duration(exact_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20MB/s", 20_000_000),
        ("20MiB/s", 20 * 2**20),
        ("100Mbit/s", 12_500_000),
        ("1 Gbit/s", 125_000_000),
        (5, 5),
        ("5", 5),
    ],
)
def test_a_rate_is_bytes_per_second(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["20MB", "0MB/s", 0, "20mbit/s", "MB/s", "1Tbit/s", "fast"])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match="a rate"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1500, "1.5 kB"),
        (999999, "1 MB"),
        (4700000000, "4.7 GB"),
        (38123456, "38 MB"),
        (9949, "9.9 kB"),
        (9950, "10 kB"),
        (-2000000, "-2 MB"),
        (2**63 - 1, "9223 PB"),
    ],
)
def test_a_size_reads_well(size_bytes, text):
    assert format_size(size_bytes) == text
    assert format_rate(size_bytes) == f"{text}/s"


@given(st.integers(1, 10**18))
def test_a_size_for_people_is_within_five_percent(size_bytes):
    assert abs(parse_size(format_size(size_bytes)) - size_bytes) <= 0.055 * size_bytes


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.4, "0.4s"),
        (5, "5s"),
        (42, "42s"),
        (59.7, "1m"),
        (185, "3m 05s"),
        (5400, "1h 30m"),
        (3600, "1h"),
        (86400, "1d"),
        (90000, "1d 1h"),
        (176400, "2d 1h"),
        (-90, "-1m 30s"),
        (9.96, "10s"),
    ],
)
def test_a_duration_reads_well(seconds, text):
    assert format_duration(seconds) == text


@given(st.text(max_size=12))
def test_only_a_value_error_comes_out_of_any_text(text):
    for parse in (parse_size, parse_share, parse_size_or_share, parse_duration, parse_rate):
        with contextlib.suppress(ValueError):
            assert parse(text) is not None


_AMOUNT = st.from_regex(r"[0-9.]{1,5} ?[A-Za-z%/]{0,6}", fullmatch=True)


@given(_AMOUNT | st.sampled_from(["1GB", "5m", "1h30m", "60%", "20MB/s", "7"]))
def test_a_pattern_accepts_exactly_what_its_parser_does(text):
    pairs = (
        (units.SIZE_PATTERN, parse_size),
        (units.SHARE_PATTERN, parse_share),
        (units.SIZE_OR_SHARE_PATTERN, parse_size_or_share),
        (units.RATE_PATTERN, parse_rate),
        (units.DURATION_PATTERN, parse_duration),
    )
    for pattern, parse in pairs:
        try:
            parse(text)
            is_parsed = True
        except ValueError as error:
            is_parsed = False
            if re.search("at most|below|at least", str(error)):
                continue  # well written, but too large or too small
        if parse is parse_duration and text == "0":
            continue  # that 0 needs no unit is said by the key, not by the pattern
        assert (re.search(pattern, text) is not None) == is_parsed, (pattern, text)


@pytest.mark.parametrize(
    ("value", "is_one"),
    [
        (0, True),
        (2**63 - 1, True),
        (2**63, False),
        (-1, False),
        (True, False),
        (5.0, False),
        ("5", False),
        (None, False),
    ],
)
def test_a_strangers_number_is_a_size_only_where_a_file_can_have_it(value, is_one):
    assert is_byte_count(value) is is_one
