"""Records, beside each example, the plan it gives on an empty store: ``python examples/record_plans.py``.

The same list is what the tests hold the recorded plans against.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SNAPSHOTS = [f"gitops/snapshots/{name}.json" for name in ("kiosk-7", "kiosk-8", "lab-1")]
FLEET = [word for path in SNAPSHOTS for word in ("--observed", path)]

# recorded file → what is typed in this folder
PLANS: dict[str, list[str]] = {
    "quickstart.plan.txt": ["-f", "quickstart.yaml", "plan"],
    "limits.plan.txt": ["-f", "limits.yaml", "plan"],
    "fleet.plan.txt": ["-f", "fleet.yaml", "plan", *FLEET],
    "gitops/models.plan.txt": ["-f", "gitops/models.yaml", "plan", *FLEET],
    "gitops/devices/kiosk-7.plan.txt": [
        *("-f", "gitops/models.yaml", "-f", "gitops/devices/kiosk-7.yaml", "plan", *FLEET[:2])
    ],
}


def planned(arguments: list[str], store: str) -> str:
    """What the command prints, as it would on a terminal of 120 columns without colour."""
    command = [sys.executable, "-m", "reconciler", "--store", store, *arguments]
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=HERE, env=environment, text=True, capture_output=True, check=False, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{arguments}: exit {done.returncode}\n{done.stderr}")
    return f"$ reconciler {' '.join(arguments)}\n{done.stdout}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in PLANS.items():
            (HERE / name).write_text(planned(arguments, f"{folder}/store"))
