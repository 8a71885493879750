"""The watch at rest and at work: idle cost, latency of a manifest edit, harm repaired, and a soak of 10,000 passes.

Promises: idle with 300 converged models at most 0.5 % of a core and 80 MiB; from the last write of an edit to the first
request that it causes, median at most 0.3 s and worst at most 2 s, over every kind of edit; from harm to a placed file
to its repair at most 2 s; over the soak the memory grows by at most 1 MiB in 1,000 passes and the open files by none.
There is no rival to measure: no tool here watches models. A loop that asks nothing, one read of the manifest and one
stat per file a second, is measured beside the idle watch for comparison.

Run: ``python benchmarks/watch.py [idle] [edits] [harm] [soak] [--passes 10000] [--seconds 60] [--runs 2]``
(all four where none is named). The tests' own machine, origin and kinds of edit are used.
"""

# ruff: noqa: E402 -- the tests' own machine has to be findable first

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parents[1] / "tests" / "loop")]

from machines import Machine
from origin import serving
from test_watch_edits import KINDS, delay_s
from watching import Sample, counted, eventually, many_models

MODELS = 300
MIB = 1 << 20
BROKEN: list[str] = []


def report(name: str, figure: float, limit: float, unit: str) -> None:
    """One figure against its promise."""
    print(f"{name:<56} {figure:9.3f} {unit:<3} (promised: at most {limit} {unit})", flush=True)
    if figure > limit:
        BROKEN.append(name)


def idle(seconds: float) -> None:
    """What a watch takes while nothing happens."""
    with tempfile.TemporaryDirectory() as folder, serving() as server:
        quiet = Path(folder, "quiet", "here")  # the folder above the manifest's is listened to as well
        quiet.mkdir(parents=True)
        machine = Machine(quiet, server)
        many_models(machine, MODELS)
        with counted(machine, "--interval", "1h") as watch:
            time.sleep(5)
            before = Sample.of(watch.pid)
            time.sleep(seconds)
            after = Sample.of(watch.pid)
            report(f"idle, {MODELS} models: share of a core", 100 * (after.cpu_s - before.cpu_s) / seconds, 0.5, "%")
            report(f"idle, {MODELS} models: resident memory", after.rss_bytes / MIB, 80, "MiB")
            start, rounds = time.process_time(), 20
            for _ in range(rounds):
                machine.manifest.read_bytes()
                for file in (machine.store / "models").rglob("*.bin"):
                    file.stat()
            share = 100 * (time.process_time() - start) / rounds
            print(f"  (reading the manifest and a stat of everything once a second: {share:.2f} %)")


def edits(runs: int) -> None:
    """Every kind of edit, from its last write to the first request."""
    found: dict[str, list[float]] = {}
    for kind in KINDS:
        for _ in range(runs):
            with serving() as server, tempfile.TemporaryDirectory() as folder:
                found.setdefault(kind, []).append(delay_s(Machine(Path(folder), server), server, kind))
        print(f"  {kind:24} {' '.join(f'{delay:.3f}' for delay in found[kind])} s", flush=True)
    every = [delay for delays in found.values() for delay in delays]
    report(f"{len(KINDS)} kinds of edit: median to the first request", statistics.median(every), 0.3, "s")
    report(f"{len(KINDS)} kinds of edit: worst", max(every), 2.0, "s")


def harm(runs: int) -> None:
    """From harm to one of many placed files to the right file in its place."""
    with tempfile.TemporaryDirectory() as folder, serving() as server:
        machine = Machine(Path(folder), server)
        many_models(machine, MODELS)
        digest = machine.model("one", b"one" * 1000)
        placed = machine.placed("one")
        harms = (placed.unlink, lambda: (placed.chmod(0o644), placed.write_bytes(b"cut")), lambda: placed.chmod(0))
        took = []
        with counted(machine, "--interval", "1h"):
            for each in harms * runs:
                eventually(lambda: machine.has("one", digest), 20)
                time.sleep(3)
                start = time.monotonic()
                each()
                eventually(lambda: machine.has("one", digest), 20)
                took.append(time.monotonic() - start)
        print(f"  {' '.join(f'{each:.2f}' for each in took)} s")
        report("harm to a placed file: worst to its repair", max(took), 2.0, "s")


def soak(passes: int) -> None:
    """Many passes of the real command, each asked for by SIGHUP."""
    with tempfile.TemporaryDirectory() as folder, serving() as server:
        machine = Machine(Path(folder), server)
        many_models(machine, MODELS)
        with counted(machine, "--interval", "1h") as watch:
            watch.run_passes(200)  # allocators and caches fill
            first = last = Sample.of(watch.pid)
            start = time.monotonic()
            for number in range(0, passes, 1000):
                watch.run_passes(min(1000, passes - number))
                last = Sample.of(watch.pid)
                print(f"  {number + 1000:6} passes: {last.rss_bytes / MIB:.2f} MiB, {last.files} files", flush=True)
            print(f"  ({(time.monotonic() - start) / passes * 1000:.1f} ms a pass)")
            growth = (last.rss_bytes - first.rss_bytes) / MIB / (passes / 1000)
            report(f"soak of {passes} passes: growth in 1,000", max(0.0, growth), 1.0, "MiB")
            report(f"soak of {passes} passes: more open files", last.files - first.files, 0, "")


def main() -> None:
    """Measure and print; exit 1 where a promise is broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", choices=["idle", "edits", "harm", "soak", []], default=[])
    parser.add_argument("--passes", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=2)
    options = parser.parse_args()
    steps = {
        "idle": lambda: idle(options.seconds),
        "edits": lambda: edits(options.runs),
        "harm": lambda: harm(options.runs),
        "soak": lambda: soak(options.passes),
    }
    for name in options.what or steps:
        steps[name]()
    if BROKEN:
        sys.exit(f"broken: {', '.join(BROKEN)}")


if __name__ == "__main__":
    main()
