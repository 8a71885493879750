"""Frozen values to plain JSON values and back, exactly: the one way a snapshot is written and read.

Coders are made once per type from its annotations. A field that has its default is left out, so a thousand models stay
a few hundred KB and new fields do not change old documents. Moments are RFC 3339 in UTC with all digits of the float,
so that nothing is rounded. Reading checks every value against the annotation: documents come from outside.
"""

import math
import re
import types
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

MOMENTS = frozenset(
    {
        "taken_at",
        "installed_at",
        "last_used",
        "verified_at",
        "modified_at",
        "retry_at",
        "made_at",
        "suspended_until",
    }
)
FOR_EVER = "forever"
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,30}))?Z")
_MAX_SECONDS = 253402300799  # the last second of the year 9999

Coder = Callable[[Any], Any]
_ENCODERS: dict[Any, Coder] = {}  # made once per type, for it is the annotations that cost
_DECODERS: dict[Any, Coder] = {}


def exact_moment(seconds: float) -> str | float:
    """``2026-11-23T19:37:32.1234567Z``; for ever is a word, and what no calendar holds stays a number."""
    if math.isinf(seconds) and seconds > 0:
        return FOR_EVER
    text = repr(float(seconds))
    if not re.fullmatch(r"\d+\.\d+", text) or seconds > _MAX_SECONDS:
        return seconds
    whole, _, fraction = text.partition(".")
    moment = datetime.fromtimestamp(int(whole), UTC).strftime("%Y-%m-%dT%H:%M:%S")
    moment = moment.rjust(19, "0")
    return f"{moment}Z" if fraction == "0" else f"{moment}.{fraction}Z"


def parse_exact_moment(value: Any) -> float:
    """The float that :func:`exact_moment` wrote.

    Raises:
        ValueError: it is no moment.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if value == FOR_EVER:
        return math.inf
    match = _MOMENT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a moment in RFC 3339, UTC")
    whole = int(datetime.fromisoformat(match[1] + "+00:00").timestamp())
    return float(f"{whole}.{match[2] or 0}")


def encode(value: Any) -> Any:
    """Plain JSON values of a frozen dataclass."""
    return _encoder(type(value))(value)


def decode(kind: type, value: Any) -> Any:
    """The value of type ``kind`` that :func:`encode` wrote.

    Raises:
        ValueError: something in it is not what the type says; the message names the place.
    """
    return _decoder(kind)(value)


def _encoder(kind: Any) -> Coder:
    if kind not in _ENCODERS:
        _ENCODERS[kind] = _make_encoder(kind)
    return _ENCODERS[kind]


def _make_encoder(kind: Any) -> Coder:
    coders = [
        (field.name, *_default(field), _moment_encoder if field.name in MOMENTS else _encoder_of(hint))
        for field, hint in _typed_fields(kind)
    ]

    def write(value: Any) -> dict[str, Any]:
        document = {}
        for name, has_default, default, coder in coders:
            item = getattr(value, name)
            if has_default and (item is default or item == default):
                continue
            document[name] = item if coder is None else coder(item)
        return document

    return write


def _typed_fields(kind: Any) -> list[tuple[Field[Any], Any]]:
    hints = get_type_hints(kind)
    return [(field, hints[field.name]) for field in fields(kind) if field.compare]


def _default(field: Field[Any]) -> tuple[bool, Any]:
    return field.default is not MISSING, field.default


def _moment_encoder(value: float | None) -> Any:
    return None if value is None else exact_moment(value)


def _encoder_of(hint: Any) -> Coder | None:
    """None where the value is a plain JSON value already."""
    kind = _without_none(hint)
    if is_dataclass(kind):
        inner = _encoder(kind)
        return lambda value: None if value is None else inner(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value: None if value is None else value.value
    if get_origin(kind) is tuple:
        first = _encoder_of(get_args(kind)[0])  # a pair holds plain values only
        return list if first is None else lambda value: [first(item) for item in value]
    return None


def _without_none(hint: Any) -> Any:
    if isinstance(hint, NewType):
        return hint.__supertype__
    if get_origin(hint) in {Union, types.UnionType}:
        rest = [argument for argument in get_args(hint) if argument is not type(None)]
        return _without_none(rest[0])
    return hint


def _is_optional(hint: Any) -> bool:
    return type(None) in get_args(hint) and get_origin(hint) in {Union, types.UnionType}


def _decoder(kind: Any) -> Coder:
    if kind not in _DECODERS:
        _DECODERS[kind] = _make_decoder(kind)
    return _DECODERS[kind]


def _make_decoder(kind: Any) -> Coder:
    coders = [
        (field.name, *_default(field), _moment_decoder(hint) if field.name in MOMENTS else _decoder_of(hint))
        for field, hint in _typed_fields(kind)
    ]

    def read(document: Any) -> Any:
        if not isinstance(document, dict):
            raise ValueError(f"{kind.__name__}: expected a mapping")  # noqa: TRY004 -- a bad document, not a bug
        values = {}
        for name, has_default, _, coder in coders:
            if name not in document:
                if has_default:
                    continue
                raise ValueError(f"{kind.__name__}: {name} is missing")
            try:
                values[name] = coder(document[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return kind(**values)

    return read


def _moment_decoder(hint: Any) -> Coder:
    is_optional = _is_optional(hint)
    return lambda value: None if value is None and is_optional else parse_exact_moment(value)


def _decoder_of(hint: Any) -> Coder:
    if _is_optional(hint):
        inner = _decoder_of(_without_none(hint))
        return lambda value: None if value is None else inner(value)
    kind = _without_none(hint)
    if is_dataclass(kind):
        return _decoder(kind)
    if get_origin(kind) is tuple:
        return _tuple_decoder(get_args(kind))
    if issubclass(kind, Enum):
        by_value: Coder = kind
        return by_value
    return _scalar_decoder(kind)


def _tuple_decoder(arguments: tuple[Any, ...]) -> Coder:
    is_open = arguments[-1] is Ellipsis
    coders = [_decoder_of(argument) for argument in arguments if argument is not Ellipsis]

    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not (is_open or len(value) == len(coders)):
            raise ValueError("expected a list")
        return tuple((coders[0] if is_open else coders[place])(item) for place, item in enumerate(value))

    return read


def _scalar_decoder(kind: type) -> Coder:
    def read(value: Any) -> Any:
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise ValueError(f"expected {kind.__name__}")
        return value

    return read
