"""The download engine against what people use, as whole processes, from nginx on loopback.

Promises, each a median of ``--runs`` runs in turns with its rivals:

- ``large``: 1 GiB with its digest declared, verified and durable: at most 0.5 of ``aria2c -x8 --checksum``, 0.6 of
  ``curl`` + ``sha256sum`` + ``sync FILE``, 2.2 times hashing alone (4 GiB, with ``--gib 4``: 1.6 times). Peak RSS at
  most 150 MiB; less than 64 MiB of the file in the page cache afterwards, no dirty page.
- ``slow``: 400 MB at 20 MB/s per connection: at most 0.2 of curl, 1.0 of ``aria2c -x8``.
- ``many``: 600 files of 64 KiB as 60 models: at most 1.0 of ``aria2c -j16``.
- ``verify``: 8 GiB in 16 files: at least 0.9 of cores times single-core hashing (a quarter of that with ``--small``).

Run: ``python benchmarks/download.py [large slow many verify] [--runs 5] [--gib 1]``. Needs nginx, aria2c and curl.
"""

import argparse
import ctypes
import hashlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = [sys.executable, "-m", "reconciler"]
MIB = 1 << 20
CONFIG = """daemon off; {user} worker_processes 1; pid {home}/pid; error_log {home}/log;
events {{ worker_connections 512; }}
http {{ access_log off; sendfile on; keepalive_requests 100000;
client_body_temp_path {home}/1; proxy_temp_path {home}/2; fastcgi_temp_path {home}/3;
uwsgi_temp_path {home}/4; scgi_temp_path {home}/5;
server {{ listen 127.0.0.1:{port} backlog=1024; root {root}; {limit} }} }}
"""


@contextmanager
def nginx(root: Path, home: Path, limit_rate: str = "") -> Iterator[str]:
    home.mkdir(exist_ok=True)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    limit = f"limit_rate {limit_rate};" if limit_rate else ""
    user = "user root;" if os.geteuid() == 0 else ""
    (home / "conf").write_text(CONFIG.format(home=home, port=port, root=root, limit=limit, user=user))
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen([program, "-e", f"{home}/log", "-c", f"{home}/conf"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def run(command: list[str] | str, cwd: Path) -> tuple[float, int]:
    """Seconds and peak RSS in bytes of a whole process; its failure ends the benchmark."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=cwd, shell=isinstance(command, str), stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        taken = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{command} exited {process.returncode}:\n{said.read().decode()[-2000:]}")
    return taken, usage.ru_maxrss * 1024


def make_file(path: Path, size: int) -> str:
    """Random bytes; their sha256."""
    block, hasher = os.urandom(4 * MIB), hashlib.sha256()
    with path.open("wb") as file:
        for number in range(0, size, len(block)):
            piece = number.to_bytes(8, "big") + block[8 : min(len(block), size - number)]
            file.write(piece)
            hasher.update(piece)
    return hasher.hexdigest()


def hashing_alone(size: int) -> float:
    block, hasher = memoryview(os.urandom(4 * MIB)), hashlib.sha256()
    start = time.perf_counter()
    for _ in range(0, size, len(block)):
        hasher.update(block)
    return time.perf_counter() - start


class _Cachestat(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "recently")]


def cached_bytes(path: Path) -> tuple[int, int] | None:
    """Bytes of the file in the page cache, and dirty ones; None where the kernel does not tell."""
    libc, found, whole = ctypes.CDLL(None, use_errno=True), _Cachestat(), (ctypes.c_uint64 * 2)(0, 0)
    with path.open("rb") as file:
        if libc.syscall(451, file.fileno(), ctypes.byref(whole), ctypes.byref(found), 0):
            return None
    return found.cached * 4096, (found.dirty + found.writeback) * 4096


class Race:
    """Contestants that run in turns, each on a clean folder."""

    def __init__(self, folder: Path, runs: int) -> None:
        self.folder, self.runs = folder, runs
        self.seconds: dict[str, list[float]] = {}
        self.peak_bytes = 0

    def go(self, contestants: dict[str, Callable[[Path], float]]) -> None:
        for number in range(self.runs):
            for name, contestant in contestants.items():
                place = self.folder / f"{name.split()[0]}-{number}"
                place.mkdir()
                self.seconds.setdefault(name, []).append(contestant(place))
                shutil.rmtree(place)

    def apply(self, place: Path, manifest: str) -> float:
        (place / "models.yaml").write_text(manifest)
        taken, peak = run([*COMMAND, "--store", "store", "apply"], place)
        self.peak_bytes = max(self.peak_bytes, peak)
        blobs = [path for path in (place / "store/blobs").rglob("*") if path.is_file()]
        states = [found for path in blobs if path.stat().st_size > MIB and (found := cached_bytes(path))]
        if states:
            print(f"    page cache {sum(s[0] for s in states) / MIB:.0f} MiB, dirty {sum(s[1] for s in states)} bytes")
        return taken

    def tell(self, ours: str, promises: dict[str, float]) -> None:
        medians = {name: statistics.median(values) for name, values in self.seconds.items()}
        for name, median in medians.items():
            spread = f"{min(self.seconds[name]):.2f} to {max(self.seconds[name]):.2f}"
            line = f"  {name:34} {median:7.2f} s  ({spread})"
            if name in promises:
                ratio = medians[ours] / median
                line += (
                    f"   ratio {ratio:.2f}, promised {promises[name]}  {'ok' if ratio <= promises[name] else 'MISSED'}"
                )
            print(line)
        print(f"  peak RSS {self.peak_bytes / MIB:.0f} MiB")


HEAD = """apiVersion: reconciler/v1
cache: {maxSize: 40GiB, minFreeSpace: 1MB}
network: {models: 16, connections: 8}
models:
"""


def large(folder: Path, runs: int, gib: int) -> None:
    size = gib << 30
    (folder / "root").mkdir()
    digest = make_file(folder / "root/file.bin", size)
    race = Race(folder, runs)
    print(f"large: {gib} GiB")
    with nginx(folder / "root", folder / "nginx") as url:
        source = f"{url}/file.bin"
        manifest = f"{HEAD}  large: {{source: '{source}', sha256: {digest}}}\n"
        aria = ["aria2c", "-q", "-x8", "-s8", f"--checksum=sha-256={digest}", "--file-allocation=falloc", source]
        curl = f"curl -sSfO {source} && echo '{digest}  file.bin' | sha256sum -c --quiet && sync file.bin"
        race.go(
            {
                "reconciler": lambda place: race.apply(place, manifest),
                "aria2c -x8 --checksum": lambda place: run(aria, place)[0],
                "curl + sha256sum + sync": lambda place: run(curl, place)[0],
                "hashing alone": lambda _: hashing_alone(size),
            }
        )
    limit = 2.2 if gib < 4 else 1.6
    race.tell("reconciler", {"aria2c -x8 --checksum": 0.5, "curl + sha256sum + sync": 0.6, "hashing alone": limit})


def slow(folder: Path, runs: int) -> None:
    (folder / "root").mkdir()
    digest = make_file(folder / "root/file.bin", 400_000_000)
    race = Race(folder, runs)
    print("slow: 400 MB at 20 MB/s per connection")
    with nginx(folder / "root", folder / "nginx", "20000000") as url:
        source = f"{url}/file.bin"
        manifest = f"{HEAD}  slow: {{source: '{source}', sha256: {digest}}}\n"
        aria = ["aria2c", "-q", "-x8", "-s8", f"--checksum=sha-256={digest}", source]
        race.go(
            {
                "reconciler": lambda place: race.apply(place, manifest),
                "aria2c -x8": lambda place: run(aria, place)[0],
                "curl": lambda place: run(["curl", "-sSfO", source], place)[0],
            }
        )
    race.tell("reconciler", {"aria2c -x8": 1.0, "curl": 0.2})


def many(folder: Path, runs: int) -> None:
    (folder / "root").mkdir()
    digests = {f"{number}.bin": make_file(folder / f"root/{number}.bin", 65_536) for number in range(600)}
    race = Race(folder, runs)
    print("many: 600 files of 64 KiB as 60 models")
    with nginx(folder / "root", folder / "nginx") as url:
        names = list(digests)
        lines = [HEAD]
        for model in range(60):
            lines.append(f"  model-{model}:\n    files:\n")
            lines += [
                f"      - {{path: {name}, source: '{url}/{name}', size: 65536, sha256: {digests[name]}}}\n"
                for name in names[model * 10 : model * 10 + 10]
            ]
        manifest = "".join(lines)
        listing = "".join(f"{url}/{name}\n  checksum=sha-256={digest}\n" for name, digest in digests.items())
        (folder / "list").write_text(listing)
        aria = ["aria2c", "-q", "-j16", "-i", str(folder / "list")]
        race.go(
            {
                "reconciler": lambda place: race.apply(place, manifest),
                "aria2c -j16": lambda place: run(aria, place)[0],
            }
        )
    race.tell("reconciler", {"aria2c -j16": 1.0})


def verify(folder: Path, runs: int, mib_each: int) -> None:
    (folder / "root").mkdir()
    lines = [HEAD]
    for number in range(16):
        digest = make_file(folder / f"root/{number}.bin", mib_each * MIB)
        lines.append(f"  model-{number}: {{source: 'file://{folder}/root/{number}.bin', sha256: {digest}}}\n")
    (folder / "models.yaml").write_text("".join(lines))
    run([*COMMAND, "--store", "store", "apply"], folder)
    shutil.rmtree(folder / "root")
    print(f"verify: 16 files of {mib_each} MiB")
    total, cores = 16 * mib_each * MIB, os.cpu_count() or 1
    rates = []
    for _ in range(runs):
        single = 512 * MIB / hashing_alone(512 * MIB)
        taken, peak = run([*COMMAND, "--store", "store", "verify"], folder)
        rates.append(total / taken / (cores * single))
        print(f"    {taken:.2f} s, peak RSS {peak / MIB:.0f} MiB")
    share = statistics.median(rates)
    print(f"  share of {cores} cores times hashing: {share:.2f}, promised 0.9  {'ok' if share >= 0.9 else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("which", nargs="*", default=["large", "slow", "many", "verify"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--gib", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="verify: 2 GiB instead of 8")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; it needs the room")
    asked = parser.parse_args()
    races: dict[str, Callable[[Path], None]] = {
        "large": lambda folder: large(folder, asked.runs, asked.gib),
        "slow": lambda folder: slow(folder, asked.runs),
        "many": lambda folder: many(folder, asked.runs),
        "verify": lambda folder: verify(folder, asked.runs, 128 if asked.small else 512),
    }
    for name in asked.which:
        with tempfile.TemporaryDirectory(prefix="bench-", dir=asked.folder) as folder:
            races[name](Path(folder))


if __name__ == "__main__":
    main()
