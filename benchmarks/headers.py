"""The header of a 40 GB model: how long until it is known what the file is (promised: 50 ms).

    python benchmarks/headers.py

Sparse files: a safetensors of 2,000 tensors, a GGUF with a vocabulary of 260,000 tokens and as many merges.
"""

import json
import pathlib
import statistics
import struct
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from reconciler.adapters import formats

SIZE = 40_000_000_000
PROMISE_MS = 50


def make_safetensors(path):
    each = SIZE // 2000
    header = {
        f"t{n}": {"dtype": "U8", "shape": [each], "data_offsets": [n * each, (n + 1) * each]} for n in range(2000)
    }
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + SIZE)


def make_gguf(path):
    def string(text):
        return struct.pack("<Q", len(text)) + text

    def strings(key, values):
        return string(key) + struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(string, values))

    each = SIZE // 800 // 32 * 32
    keys = [
        string(b"general.architecture") + struct.pack("<I", 8) + string(b"llama"),
        strings(b"tokenizer.ggml.tokens", [b"token%d" % n for n in range(260_000)]),
        strings(b"tokenizer.ggml.merges", [b"a%d b%d" % (n, n) for n in range(260_000)]),
    ]
    tensors = [string(b"blk.%d" % n) + struct.pack("<IQIQ", 1, each, 24, n * each) for n in range(800)]
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys) + b"".join(tensors))
        file.truncate(file.tell() + 32 + 800 * each)


def main():
    worst = 0.0
    with tempfile.TemporaryDirectory() as name:
        for word, make in (("safetensors", make_safetensors), ("gguf", make_gguf)):
            path = pathlib.Path(name) / word
            make(path)
            times = []
            for _ in range(7):
                path.touch()  # a new modification time, so that nothing is remembered
                start = time.perf_counter()
                report = formats.inspect(str(path))
                times.append((time.perf_counter() - start) * 1000)
                assert report.format == word, report
                assert not report.errors, report
            worst = max(worst, statistics.median(times))
            print(f"{word:12} {statistics.median(times):6.1f} ms (promised {PROMISE_MS})")
    return 0 if worst <= PROMISE_MS else 1


if __name__ == "__main__":
    sys.exit(main())
