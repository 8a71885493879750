"""Makes ``gitops/snapshots/*.json``: three machines of an imaginary fleet, as ``reconciler snapshot`` prints them."""

import json
from pathlib import Path

from reconciler.core.document import snapshot_document
from reconciler.core.observed import DeviceFacts, DiskFacts, MemoryFacts, ObservedState, RuntimeFact
from reconciler.core.stored import StoreFacts

TAKEN_AT = 1_767_225_600.0  # 2026-01-01
FOLDER = Path(__file__).parent / "gitops" / "snapshots"
GIB = 1 << 30


def machine(name: str, arch: str, memory: int, disk: int, labels: dict[str, str]) -> ObservedState:
    return ObservedState(
        taken_at=TAKEN_AT,
        store=StoreFacts(path="/var/lib/reconciler"),
        disk=DiskFacts(total_bytes=disk, free_bytes=disk // 2),
        memory=MemoryFacts(total_bytes=memory, available_bytes=memory // 2),
        device=DeviceFacts(
            hostname=name,
            os="linux",
            arch=arch,
            labels=tuple(sorted(labels.items())),
            device_id=f"id-of-{name}",
            network="ethernet",
            local_minute=23 * 60,
        ),
        runtimes=(RuntimeFact("default", "page-cache"),),
    )


MACHINES = (
    machine("kiosk-7", "aarch64", 4 * GIB, 16 * GIB, {"site": "shop"}),
    machine("kiosk-8", "aarch64", 4 * GIB, 2_200_000_000, {"site": "shop", "rebuilding": "yes"}),
    machine("lab-1", "x86_64", 64 * GIB, 512 * GIB, {"site": "lab"}),
)

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for each in MACHINES:
        text = json.dumps(snapshot_document(each), indent=2) + "\n"
        (FOLDER / f"{each.device.hostname}.json").write_text(text)
