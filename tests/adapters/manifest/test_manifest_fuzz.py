"""Whatever is done to a manifest, it loads or it is invalid; nothing else comes out."""

import contextlib
import copy
import json
import random

import pytest
from manifest_good import FULL, GOOD, RICH

from reconciler.adapters.manifest import load_documents
from reconciler.adapters.manifest.findings import Findings
from reconciler.adapters.manifest.reader import read
from reconciler.adapters.manifest.tree import plain
from reconciler.core.errors import ManifestInvalid

ENVIRON = {"A": "x", "B": "7", "C": "", "D": "true", "E": "a: b\n"}
ODD = [
    None,
    True,
    0,
    -1,
    2.5,
    8.0,
    1e300,
    "",
    "x",
    "${A}",
    "${B}",
    "${C}",
    "${D}",
    "${E}",
    "${Z}",
    "\u00e9",
    "a\u0301",
    "/",
    "..",
]
ODD += [
    "https://h",
    "https://h/%2e%2e",
    "hf://a/b",
    "s3://b/",
    "file:..",
    "toy:x",
    "0" * 64,
    "a" * 300,
    "5m",
    "9" * 19 + "PiB",
]
ODD += [[], {}, [[]], [{}], {"": None}, {"a.b": 1}, {"path": "a/b", "source": "https://h/x"}, [None], ["a", "A", "a/b"]]


def loads(data):
    with contextlib.suppress(ManifestInvalid):
        assert load_documents([("m", data, "/etc/r")], ENVIRON).digest


def containers(value):
    if isinstance(value, dict | list):
        yield value
        for child in value.values() if isinstance(value, dict) else value:
            yield from containers(child)


@pytest.mark.parametrize("seed", range(4))
def test_odd_values_anywhere_give_a_state_or_problems(seed):
    rng = random.Random(seed)
    starts = [plain(read(text.encode(), "m", {}, Findings()).documents[0]) for text in (FULL, RICH)]
    for _ in range(150):
        document = copy.deepcopy(rng.choice(starts))
        for _ in range(rng.randint(1, 4)):
            container = rng.choice(list(containers(document)))
            value = copy.deepcopy(rng.choice(ODD))
            if isinstance(container, dict):
                container[rng.choice([*container, "x", "M", "llama", "path"])] = value
            else:
                container.insert(rng.randint(0, len(container)), value)
        loads(json.dumps(document, ensure_ascii=False).encode())


@pytest.mark.parametrize("seed", range(4))
def test_odd_bytes_anywhere_give_a_state_or_problems(seed):
    rng = random.Random(seed)
    for _ in range(150):
        data = bytearray(rng.choice(list(GOOD.values())).encode())
        for _ in range(rng.randint(1, 3)):
            start = rng.randrange(len(data) + 1)
            piece = rng.choice(
                [
                    b"",
                    b"\t",
                    b"\n",
                    b": ",
                    b"- ",
                    b"{",
                    b"]",
                    b"'",
                    b'"',
                    b"&a ",
                    b"*a",
                    b"!!x ",
                    b"\xff",
                    b"\0",
                    b"#",
                    b"---\n",
                    b"${A}",
                ]
            )
            data[start : start + rng.choice([0, 1, 5, 60])] = piece
        loads(bytes(data))


def test_every_prefix_and_every_line_left_out_gives_a_state_or_problems():
    lines = RICH.encode().splitlines(keepends=True)
    for index in range(len(lines)):
        loads(b"".join(lines[:index] + lines[index + 1 :]))
        loads(b"".join(lines[:index]) + lines[index][: len(lines[index]) // 2])
