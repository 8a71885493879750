"""The starter manifest: commented, valid as it stands, its limits fitted to the machine that ``init`` runs on."""

import os
import shutil
from pathlib import Path

GIB = 1 << 30
MIN_CACHE_BYTES = GIB


def starter_text() -> str:
    """The text, for this machine."""
    home = Path.home()
    disk = shutil.disk_usage(home if home.is_dir() else "/")
    return render(disk.free, _memory_bytes())


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def render(free_bytes: int, memory_bytes: int | None) -> str:
    """The text for a machine with so much free disk and so much memory."""
    cache = f"{max(MIN_CACHE_BYTES, free_bytes // 2) // GIB}GiB"
    memory = "this machine's" if memory_bytes is None else f"{memory_bytes / GIB:.0f} GiB"
    return TEMPLATE.format(cache=cache, free=f"{free_bytes // GIB} GiB", memory=memory)


TEMPLATE = """\
# What this machine holds. See what would happen:   reconciler plan
#                         Make it so:               reconciler apply
#                         Keep it so:               reconciler watch
# Editors check this file against the schema that `reconciler schema` prints.
apiVersion: reconciler/v1
kind: Manifest

cache:                      # the disk
  maxSize: {cache:<17}# half of the {free} that were free; a share such as 60% works too
  minFreeSpace: 2GiB        # this much stays free on the file system, whatever maxSize says
  evictionPolicy: lru       # who goes first when room is needed: lru, lfu, fifo, largest-first
  retention: 30d            # a model that left this file goes after so long without use; never

memory:                     # the RAM, for models with `state: loaded`
  budget: 50%               # of {memory}

# network:
#   bandwidth: 20MB/s       # of the whole process
#   windows: ["22:00-06:00"]  # download only then, local time

models: {{}}                  # replace the braces by entries such as these:
#
# models:
#   tiny-stories:
#     source: hf://ORG/REPO@REVISION/model.gguf   # also https://, file://, s3://, oci://, ollama://
#     sha256: HEX            # 64 digits: what makes it verifiable and shareable
#     priority: high        # critical, high, normal, low: who stays when not everything fits
#     state: present        # present, loaded, absent
#   old-model: {{state: absent}}
"""
