"""Sizes, shares, durations and rates: from the words of a manifest to exact numbers, and back to words for people.

Decimal and binary prefixes are told apart (``500MB`` is 5·10⁸, ``500MiB`` is 500·2²⁰) and arithmetic is exact: a
fraction of a byte is cut off, nothing else is rounded. A word that could mean two things (``40G``, ``30``) is refused.
The patterns here are those of ``schemas/manifest.v1.schema.json``; a test holds the two together.

Formatting comes in two kinds: ``exact_…`` gives a word that parses to the same number, ``format_…`` one that people
like to read.
"""

import re
from fractions import Fraction
from typing import TypeGuard

from reconciler.core.policies import Size

MAX_SIZE_BYTES = 2**63 - 1  # the largest offset a file can have
MAX_DURATION_S = 100 * 365 * 86400.0  # a century; more is a slip

_DECIMAL_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}
_BINARY_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
_UNITS = _DECIMAL_UNITS | _BINARY_UNITS
_BIT_UNITS = {"kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9}  # per second, of a link
_SECONDS = {
    unit: Fraction(seconds)
    for unit, seconds in (("w", 604800), ("d", 86400), ("h", 3600), ("m", 60), ("s", 1), ("ms", Fraction(1, 1000)))
}

_NUMBER = r"[0-9]{1,19}(?:\.[0-9]{1,18})?"  # bounded, so that nobody makes us multiply thousands of digits
_BYTES = rf"[0-9]{{1,19}}|{_NUMBER} ?(?:B|[kMGTP]B|[KMGTP]iB)"
_SHARE = r"(?:100(?:\.0+)?|[0-9]{1,2}(?:\.[0-9]+)?) ?%"
SIZE_PATTERN = rf"^(?:{_BYTES})$"
SHARE_PATTERN = rf"^{_SHARE}$"
SIZE_OR_SHARE_PATTERN = rf"^(?:{_BYTES}|{_SHARE})$"
DURATION_PATTERN = "^(?=[0-9])" + "".join(rf"(?:{_NUMBER}{unit})?" for unit in _SECONDS) + "$"
RATE_PATTERN = rf"^(?:[0-9]{{1,19}}|{_NUMBER} ?(?:(?:B|[kMGTP]B|[KMGTP]iB)/s|[kMG]bit/s))$"

_SIZE = re.compile(rf"({_NUMBER}) ?({'|'.join(_UNITS)})")
_RATE = re.compile(rf"({_NUMBER}) ?({'|'.join([*_UNITS, *_BIT_UNITS])})/s")
_PERCENT = re.compile(rf"({_NUMBER}) ?%")
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|[wdhms])")
_DURATION = re.compile(DURATION_PATTERN)


def is_byte_count(value: object) -> TypeGuard[int]:
    """Whether a stranger's number can be the size of a file: whole, not negative, within what offsets hold."""
    return type(value) is int and 0 <= value <= MAX_SIZE_BYTES


def parse_size(text: str | int) -> int:
    """Bytes of ``4.7GB``, ``500MiB`` or a bare integer.

    Raises:
        ValueError: the text is no size, or more than 2⁶³-1 bytes; its message says what was expected.
    """
    if isinstance(text, int):
        return _bounded(Fraction(text))
    match = _SIZE.fullmatch(text)
    if match:
        return _bounded(Fraction(match[1]) * _UNITS[match[2]])
    if re.fullmatch(r"[0-9]{1,19}", text):
        return _bounded(Fraction(text))
    raise ValueError("a size such as 40GiB, 500MB or a number of bytes")


def parse_share(text: str) -> float:
    """The number of ``60%``, from 0 to 100.

    Raises:
        ValueError: it is no percentage.
    """
    match = _PERCENT.fullmatch(text)
    if match is None or Fraction(match[1]) > 100:
        raise ValueError("a percentage from 0% to 100%")
    return float(Fraction(match[1]))


def parse_size_or_share(text: str | int) -> Size:
    """A limit: ``40GiB``, a number of bytes, or ``60%`` of a total that only the machine knows.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(text, str) and text.endswith("%"):
        return Size(percent=parse_share(text))
    return Size(size_bytes=parse_size(text))


def parse_duration(text: str) -> float:
    """Seconds of ``90s``, ``1h30m``, ``2.5d``, ``250ms``; ``0`` needs no unit.

    Raises:
        ValueError: the text is no duration, or above a century.
    """
    if text == "0":
        return 0.0
    if not _DURATION.fullmatch(text):
        raise ValueError("a duration such as 90s, 10m, 24h, 30d or 1h30m")
    total = sum((Fraction(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text)), Fraction())
    if total > MAX_DURATION_S:
        raise ValueError("a duration of at most a century")
    return float(total)


def parse_rate(text: str | int) -> int:
    """Bytes per second of ``20MB/s``, ``100Mbit/s`` or a bare integer; at least 1.

    Raises:
        ValueError: the text is no rate, or it is 0.
    """
    if isinstance(text, int):
        rate = _bounded(Fraction(text))
    else:
        match = _RATE.fullmatch(text)
        if match is None and re.fullmatch("[0-9]{1,19}", text):
            return parse_rate(int(text))
        if match is None:
            raise ValueError("a rate such as 20MB/s or 100Mbit/s")
        scale = Fraction(_UNITS[match[2]]) if match[2] in _UNITS else Fraction(_BIT_UNITS[match[2]], 8)
        rate = _bounded(Fraction(match[1]) * scale)
    if rate < 1:
        raise ValueError("a rate of at least 1 byte per second")
    return rate


def exact_size(size_bytes: int) -> str:
    """The shortest word that :func:`parse_size` reads as exactly ``size_bytes``: ``1GiB``, ``4.7GB``, ``1234567``."""
    candidates = [str(size_bytes)]
    for unit, scale in _UNITS.items():
        if scale > 1 and size_bytes >= scale and size_bytes * 100 % scale == 0:
            whole, hundredths = divmod(size_bytes * 100 // scale, 100)
            candidates.append(f"{whole}.{hundredths:02}".rstrip("0").rstrip(".") + unit)
    return min(reversed(candidates), key=len)  # among equals the larger unit


def exact_duration(seconds: float) -> str:
    """A word that :func:`parse_duration` reads as ``seconds`` cut to milliseconds: ``30d``, ``1h30m``, ``0s``."""
    rest = int(Fraction(seconds) * 1000)
    words = []
    for unit, scale in _SECONDS.items():
        count, rest = divmod(rest, int(scale * 1000))
        if count:
            words.append(f"{count}{unit}")
    return "".join(words) or "0s"


def format_size(size_bytes: float) -> str:
    """For people, three digits at most: ``0 B``, ``999 B``, ``4.7 GB``, ``38 MB``. Decimal, as disks are sold."""
    return _scaled(size_bytes)


def format_rate(bytes_per_s: float) -> str:
    """For people: ``20 MB/s``."""
    return f"{_scaled(bytes_per_s)}/s"


def format_duration(seconds: float) -> str:
    """For people, the two largest units: ``0s``, ``0.4s``, ``42s``, ``3m 05s``, ``1h 30m``, ``2d 4h``."""
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if 0 < seconds < 9.95:
        return f"{sign}{seconds:.1f}".removesuffix(".0") + "s"
    total = round(seconds)
    for large, small, scale, unit in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if total >= scale:
            count, rest = divmod(total, scale)
            width = 2 if large != "d" else 1
            return f"{sign}{count}{large} {rest // unit:0{width}}{small}" if rest // unit else f"{sign}{count}{large}"
    return f"{sign}{total}s"


def _scaled(value: float) -> str:
    sign, value = ("-", -value) if value < 0 else ("", value)
    unit, scale = "B", 1
    for larger, larger_scale in _DECIMAL_UNITS.items():
        if value >= larger_scale * (0.9995 if larger_scale > 1 else 1):  # 999.9 kB reads as 1 MB
            unit, scale = larger, larger_scale
    number = value / scale
    digits = 1 if number < 9.95 and unit != "B" else 0
    text = f"{number:.{digits}f}"
    return f"{sign}{text.removesuffix('.0')} {unit}"


def _bounded(size: Fraction) -> int:
    """Whole bytes; a fraction of one is cut off."""
    if size < 0:
        raise ValueError("a size that is not negative")
    if size > MAX_SIZE_BYTES:
        raise ValueError("a size below 8EiB")
    return int(size)
