"""Harm for fuzzers: values put where they do not belong in JSON, and bytes flipped, cut, repeated, inserted."""

import copy
import json
import random

ODD = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**400, 0.5, -0.0, 1e308, float("inf"), float("nan"), "", "x", ".",
    "..", "../../evil", "/evil", "a\\b", "a\0b", "\ud800", "\u202e", "\x1b[2J", "é" * 300, "x" * 5000, "sha256:" + "0" * 64,
    "sha256:zz", "9" * 5000, "-5", "0x10", "NaN", "1e9", "http://[", "https://user@h/x?y", "s3://", "2026-13-45T99:99:99Z", [], {}, [[]],
    [None], {"": None}, {"a": {"a": {}}}, [[[[[[[[]]]]]]]],
)  # fmt: skip
TEXTS = (b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\r\n", b"\x1b[2J", b"[" * 3000, b'{"a":' * 3000, b"9" * 6000, b"<!DOCTYPE", b"&x;", b"%00", b"e" * 9000)  # fmt: skip


def harm_value(value, seed):
    """A copy of a JSON value with one to four places changed."""
    chance = random.Random(seed)
    value = copy.deepcopy(value)
    for _ in range(chance.randint(1, 4)):
        places = list(_places(value))
        if not places:
            return chance.choice(ODD)
        holder, key = chance.choice(places)
        if chance.random() < 0.2:
            del holder[key]
        elif chance.random() < 0.1 and isinstance(holder, dict):
            holder[str(chance.choice(ODD))] = holder[key]
        elif chance.random() < 0.1 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            holder[key] = copy.deepcopy(chance.choice(ODD))
    return value


def _places(value):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in list(items):
        yield value, key
        yield from _places(child)


def harm_bytes(data, seed):
    """A copy of ``data`` with one to four changes of bytes."""
    chance = random.Random(seed)
    data = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(5)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del data[at : at + chance.randrange(20)]
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = data[at : at + chance.randrange(200)]
        else:
            data[at:at] = chance.choice(TEXTS)
    return bytes(data)


def harm_json(value, seed):
    """The bytes of a harmed JSON value; now and then its text is harmed, too."""
    chance = random.Random(seed)
    if chance.random() < 0.1:
        return chance.choice((b"", b"null", b"[]", b"5", b'"x"', b"{}", b"<html>", b"[" * 100_000, b"\xff", b"NaN"))
    data = json.dumps(harm_value(value, seed)).encode()
    return harm_bytes(data, seed) if chance.random() < 0.2 else data
