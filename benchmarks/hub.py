"""A whole repository of 300 files through the hub's API, against the hub's own client.

Promise, a median of ``--runs`` runs in turns: verified and durable, at most 1.0 of ``huggingface_hub``'s
``snapshot_download`` (which hashes and syncs nothing), both as whole processes from the same server: the tests' hub in
a process of its own answers the API and redirects each large file to nginx, as the real one does to its CDN.

Run: ``python benchmarks/hub.py [--runs 5] [--files 300] [--kib 64]``. Needs nginx and huggingface_hub.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from download import HEAD, Race, nginx, run

TESTS = Path(__file__).resolve().parent.parent / "tests"
SMALL = 10  # files of the repository that are no LFS files: configuration, tokenizer
RIVAL = "from huggingface_hub import snapshot_download; snapshot_download('org/repo', local_dir='rival')"


def serve(folder: Path, cdn: str) -> None:
    """The hub, until it is killed; the first line printed is its URL."""
    sys.path.insert(0, str(TESTS))
    from fixture_hub import Hub, Repo  # noqa: PLC0415 -- found by the path just given
    from scripted import Server  # noqa: PLC0415

    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))}
    server = Server()
    server.answer = Hub({"org/repo": Repo(files)}, cdn).answer
    print(server.url, flush=True)


@contextmanager
def hub(folder: Path, cdn: str) -> Iterator[str]:
    command = [sys.executable, __file__, "--serve", str(folder), "--cdn", cdn]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def make_repository(folder: Path, cdn: Path, files: int, size: int) -> None:
    """Large files lie under their digest at the CDN, too."""
    for number in range(files):
        is_small = number < SMALL
        data = b'{"vocab_size": %d}' % number if is_small else number.to_bytes(8, "big") + os.urandom(size - 8)
        (folder / (f"config-{number}.json" if is_small else f"part-{number:05}.bin")).write_bytes(data)
        (cdn / hashlib.sha256(data).hexdigest()).write_bytes(data)


def repository(folder: Path, runs: int, files: int, size: int) -> None:
    (folder / "repo").mkdir()
    (folder / "cdn").mkdir()
    make_repository(folder / "repo", folder / "cdn", files, size)
    race = Race(folder, runs)
    print(f"hub: one repository of {files} files of {size >> 10} KiB")
    with nginx(folder / "cdn", folder / "nginx") as cdn, hub(folder / "repo", cdn) as url:
        os.environ.update(HF_ENDPOINT=url, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_TELEMETRY="1")
        manifest = f"{HEAD}  whole: {{source: 'hf://org/repo'}}\n"

        def rival(place: Path) -> float:
            os.environ["HF_HOME"] = str(place / "home")
            return run([sys.executable, "-c", RIVAL], place)[0]

        def ours(place: Path) -> float:
            os.environ["HF_HOME"] = str(place / "home")
            taken = race.apply(place, manifest)
            assert len(list((place / "store/models/whole").iterdir())) == files
            return taken

        race.go({"reconciler": ours, "huggingface_hub": rival})
    race.tell("reconciler", {"huggingface_hub": 1.0})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--kib", type=int, default=64)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--cdn", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve, asked.cdn)
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        repository(Path(folder), asked.runs, asked.files, asked.kib << 10)


if __name__ == "__main__":
    main()
