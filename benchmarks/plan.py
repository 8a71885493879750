"""Start-up and planning, against terraform in the same run.

Promises: ``plan`` with nothing to change over 1,000 models takes at most a quarter of ``terraform plan`` over 1,000
``terraform_data`` resources; from 1,000 to 10,000 models it grows less than 13-fold; ``version`` takes at most 120 ms;
``status`` of 1,000 models at most 0.5 s. Medians of whole processes; the two rivals run in turns.

Run: ``python benchmarks/plan.py [--runs 5]``. Needs ``terraform`` on the PATH for the ratio (skipped aloud without).
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "reconciler"]


def seconds(command: list[str], cwd: Path, env: dict[str, str] | None = None) -> float:
    """How long one whole process takes; its failure ends the benchmark."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, check=False)
    taken = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{command} exited {done.returncode}:\n{done.stderr.decode()[-2000:]}")
    return taken


def make_models(folder: Path, count: int) -> None:
    """A manifest of ``count`` models with local sources, and a store that holds them all."""
    folder.mkdir()
    (folder / "files").mkdir()
    lines = [
        "apiVersion: reconciler/v1",
        "cache: {maxSize: 10GiB, minFreeSpace: 1MB}",
        "network: {models: 16}",
        "models:",
    ]
    for number in range(count):
        content = f"model {number}\n".encode() * 3
        (folder / "files" / f"{number}.bin").write_bytes(content)
        lines += [
            f"  model-{number:05}:",
            f"    source: file:files/{number}.bin",
            f"    sha256: {hashlib.sha256(content).hexdigest()}",
            f"    priority: {('low', 'normal', 'high')[number % 3]}",
            "    metadata: {category: language}",
        ]
    (folder / "models.yaml").write_text("\n".join(lines) + "\n")
    print(f"  (first apply of {count} models: {seconds([*COMMAND, '--store', 'store', 'apply'], folder):.1f} s)")


def make_terraform(folder: Path, count: int) -> dict[str, str]:
    """The same number of resources that have nothing to do, applied."""
    folder.mkdir()
    resources = {f"m{number}": {"input": {"n": number}} for number in range(count)}
    (folder / "main.tf.json").write_text(json.dumps({"resource": {"terraform_data": resources}}))
    env = {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    seconds(["terraform", "init", "-input=false"], folder, env)
    seconds(["terraform", "apply", "-auto-approve", "-input=false"], folder, env)
    return env


def main() -> None:
    """Measure and print; exit 1 where a promise is broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    broken = []

    def report(name: str, figure: float, limit: float, unit: str) -> None:
        print(f"{name:<48} {figure:8.3f} {unit:<2} (promised: at most {limit} {unit})")
        if figure > limit:
            broken.append(name)

    with tempfile.TemporaryDirectory(prefix="reconciler-bench-") as root:
        small, large = Path(root) / "small", Path(root) / "large"
        make_models(small, 1000)
        make_models(large, 10000)
        plan = [*COMMAND, "--store", "store", "plan"]
        rival = shutil.which("terraform")
        env = make_terraform(Path(root) / "terraform", 1000) if rival else {}
        ours, theirs, version, status = [], [], [], []
        for _ in range(runs):
            ours.append(seconds(plan, small))
            if rival:
                theirs.append(seconds(["terraform", "plan", "-input=false"], Path(root) / "terraform", env))
            version.append(seconds([*COMMAND, "version"], small))
            status.append(seconds([*COMMAND, "--store", "store", "status"], small))
        big = [seconds(plan, large) for _ in range(max(3, runs // 2))]
        middle = statistics.median
        print(f"plan of 1,000 models: {middle(ours):.3f} s; of 10,000: {middle(big):.3f} s")
        if rival:
            print(f"terraform plan of 1,000 resources: {middle(theirs):.3f} s")
            report("plan / terraform plan", middle(ours) / middle(theirs), 0.25, "x")
        else:
            print("terraform is not on the PATH: no ratio measured")
        report("plan of 10,000 / plan of 1,000", middle(big) / middle(ours), 13, "x")
        report("version", middle(version), 0.120, "s")
        report("status of 1,000 models", middle(status), 0.5, "s")
    if broken:
        sys.exit("broken: " + ", ".join(broken))


if __name__ == "__main__":
    main()
