"""How one file of the store stands: its blob, its placed name and its proof against what the ledger remembers."""

from reconciler.adapters.ledger import FileRow
from reconciler.adapters.store import Blob, Placed
from reconciler.core.ports import Proof
from reconciler.core.stored import FileStat, StoredFile
from reconciler.core.words import Condition

SEALED_MODE = 0o444


def judge(row: FileRow, blob: Blob | None, proof: Proof | None, placed: Placed | None) -> StoredFile:
    """How one file of the current revision stands."""
    if blob is None:
        if placed is not None and placed.digest is None and placed.stat.size_bytes == row.size_bytes:
            return _file(
                row, None, Condition.UNVERIFIED, "its blob is gone, the placed file is still there", placed.stat
            )
        return _file(row, None, Condition.MISSING, "its blob is gone")
    kept = judge_kept(row, blob, proof)
    if kept.condition is not Condition.INTACT:
        return kept
    if placed is None:
        return _file(row, blob, Condition.UNPLACED, "the file under models/ is gone")
    if placed.digest != row.digest:
        return _file(row, blob, Condition.UNPLACED, "the file under models/ was replaced")
    return kept


def judge_kept(row: FileRow, blob: Blob | None, proof: Proof | None) -> StoredFile:
    """How one blob stands against what is remembered of it."""
    if blob is None:
        return _file(row, None, Condition.MISSING, "its blob is gone")
    if blob.stat.size_bytes != row.size_bytes:
        detail = f"{blob.stat.size_bytes} bytes on disk where {row.size_bytes} belong"
        return _file(row, blob, Condition.DAMAGED, detail)
    if proof is None:
        return _file(row, blob, Condition.UNVERIFIED, "no proof")
    if not is_same_version(proof.stat, blob.stat):
        return _file(row, blob, Condition.UNVERIFIED, "it was written to since it was verified")
    if blob.stat.mode & 0o7777 != SEALED_MODE:
        return _file(row, blob, Condition.UNPLACED, f"its mode is {blob.stat.mode & 0o7777:04o}, not 0444")
    return _file(row, blob, Condition.INTACT)


def _file(
    row: FileRow, blob: Blob | None, condition: Condition, detail: str = "", stat: FileStat | None = None
) -> StoredFile:
    allocated = blob.allocated_bytes if blob else 0
    found = stat or (blob.stat if blob else None)
    return StoredFile(row.path, row.digest, row.size_bytes, allocated, condition, row.role, found, detail)


def is_same_version(proof: FileStat, now: FileStat) -> bool:
    """Whether a file is the version that was verified. Device numbers may change with a reboot: they do not count."""
    return (proof.inode, proof.size_bytes, proof.mtime_ns) == (now.inode, now.size_bytes, now.mtime_ns)
