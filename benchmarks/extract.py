"""Extraction against ``unzip``: 1 GiB of stored and of deflated members, verified (CRC and SHA-256) and durable.

    python benchmarks/extract.py [--mib 1024] [--rounds 5] [--folder DIR]

Prints the medians and the ratio ours / unzip's, measured in turns in the same run. unzip checks CRCs only and does not
sync; ours also hashes and syncs. Weights do not compress well: half of each deflated member is noise.
"""

import argparse
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from reconciler.adapters.archives import recognise

PROMISE = 1.2


def make(path, method, mib, members):
    """A zip of ``members`` equal members, ``mib`` MiB in all, half noise and half text."""
    rng = random.Random(1)
    text = b" ".join(b"%d" % rng.randrange(10_000) for _ in range(200_000))
    with zipfile.ZipFile(path, "w", method, compresslevel=6) as archive:
        for number in range(members):
            with archive.open(f"weights/{number:03}.bin", "w", force_zip64=True) as member:
                for _ in range(mib // members):
                    member.write(rng.randbytes(1 << 19) + text[: 1 << 19])


def ours(path, into):
    extractor = recognise(str(path), path.name)
    into.mkdir()
    extractor.extract(str(path), str(into), limit_bytes=1 << 40, progress=lambda _: None, cancel=threading.Event())


def unzip(path, into):
    subprocess.run(["unzip", "-q", str(path), "-d", str(into)], check=True)


def timed(work, path, folder):
    into = folder / "out"
    os.sync()
    start = time.perf_counter()
    work(path, into)
    seconds = time.perf_counter() - start
    shutil.rmtree(into)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default=None)
    options = parser.parse_args()
    worst = 0.0
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = pathlib.Path(name)
        for word, method, members in (
            ("stored, 1 member", zipfile.ZIP_STORED, 1),
            ("stored, 16 members", zipfile.ZIP_STORED, 16),
            ("deflated, 1 member", zipfile.ZIP_DEFLATED, 1),
            ("deflated, 16 members", zipfile.ZIP_DEFLATED, 16),
        ):
            path = folder / "model.zip"
            make(path, method, options.mib, members)
            runs = [(timed(ours, path, folder), timed(unzip, path, folder)) for _ in range(options.rounds)]
            mine, theirs = (statistics.median(column) for column in zip(*runs, strict=True))
            worst = max(worst, mine / theirs)
            print(
                f"{word:22} ours {mine:6.2f} s   unzip {theirs:6.2f} s   ratio {mine / theirs:.2f} (promised {PROMISE})"
            )
            path.unlink()
    return 0 if worst <= PROMISE else 1


if __name__ == "__main__":
    sys.exit(main())
