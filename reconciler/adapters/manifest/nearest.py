"""What somebody probably meant: the nearest valid word, for hints."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

_TRUE = {"yes", "on", "y", "true", "1"}
_FALSE = {"no", "off", "n", "false", "0"}
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "KiB", "MiB", "GiB", "TiB", "PiB", "kbit/s", "Mbit/s", "Gbit/s")
_TIMES = {
    "ms": "ms millisecond milliseconds msec",
    "s": "sec secs second seconds",
    "m": "min mins minute minutes",
    "h": "hr hrs hour hours",
    "d": "day days",
    "w": "wk week weeks",
}
_LONG_TIMES = {word: unit for unit, words in _TIMES.items() for word in words.split()}
_AMOUNT = re.compile(r"\s*([<>=]*)\s*([0-9]+(?:[.,][0-9]+)?)\s*([A-Za-z/%]*)\s*")


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that ``word`` was probably meant to be: case and ``snake_case`` slips first, then likeness."""
    names = list(candidates)
    bare = {_bare(name): name for name in names}
    if _bare(word) in bare:
        return bare[_bare(word)]
    import difflib  # noqa: PLC0415 -- only for a slip of the pen

    close = difflib.get_close_matches(_bare(word[:64]), bare, n=1, cutoff=0.66)
    return bare[close[0]] if close else None


def nearest_key(word: str, properties: Mapping[str, Any]) -> str | None:
    """Like :func:`nearest` among the keys of a schema, other names that people use for them included."""
    aliases = {_bare(alias): key for key, schema in properties.items() for alias in schema.get("x-aliases", ())}
    return aliases.get(_bare(word)) or nearest(word, properties)


def respell(text: str, accepts: Callable[[str], bool], words: Sequence[Any] = ()) -> str | None:
    """Spellings of ``text`` that ``accepts`` takes: ``40GB or 40GiB`` for ``40g``, ``30d`` for ``30 days``."""
    if words:
        return nearest(text, [word for word in words if isinstance(word, str)])
    match = _AMOUNT.fullmatch(text[:64])
    if match is None:
        return next((spelling for spelling in (text.strip(), text.lower()) if accepts(spelling)), None)
    operator, number, unit = match.groups()
    number = number.replace(",", ".")
    candidates = [f"{operator}{number}{spelling}" for spelling in _spellings(unit.lower())]
    return " or ".join(dict.fromkeys(candidate for candidate in candidates if accepts(candidate))) or None


def _spellings(unit: str) -> list[str]:
    """Units that ``unit``, in lower case, may stand for; of an amount without one, those that are hard to guess."""
    if not unit:
        return ["s", "m", "h", "d", "%"]
    bare = unit.removesuffix("/s")
    spellings = [known for known in _UNITS if known.lower().removesuffix("/s") in (bare, f"{bare}b", f"{bare}ib")]
    return [*spellings, *(f"{known}/s" for known in spellings), _LONG_TIMES.get(unit, unit)]


def as_boolean(text: str) -> str | None:
    """``true`` for ``yes`` and its kin, ``false`` for ``no``."""
    lowered = text.lower()
    return "true" if lowered in _TRUE else "false" if lowered in _FALSE else None


def _bare(word: str) -> str:
    return re.sub(r"[-_ .]", "", word).lower()
