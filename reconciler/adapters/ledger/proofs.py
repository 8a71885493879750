"""Proofs: the stat that each blob had when it was last hashed and found right."""

import sqlite3
from collections.abc import Iterable

from reconciler.adapters.ledger.access import Access
from reconciler.core.ports import Proof
from reconciler.core.stored import FileStat
from reconciler.core.words import Digest

_TOP = 1 << 63


def signed(number: int) -> int:
    """A 64-bit number as SQLite holds it; file systems hand out inodes above 2⁶³."""
    return number - (_TOP << 1) if number >= _TOP else number


def unsigned(number: int) -> int:
    """The reverse."""
    return number if number >= 0 else number + (_TOP << 1)


def all_proofs(connection: sqlite3.Connection) -> dict[Digest, Proof]:
    """Every proof by digest."""
    rows = connection.execute("SELECT digest, device, inode, size_bytes, mtime_ns, mode, verified_at FROM proofs")
    return {raw[0]: _proof(*raw) for raw in rows}


def _proof(  # noqa: PLR0913, PLR0917 -- a row of seven columns, unpacked by position because it is hot
    digest: Digest, device: int, inode: int, size: int, mtime: int, mode: int, verified_at: float
) -> Proof:
    if device < 0 or inode < 0:
        device, inode = unsigned(device), unsigned(inode)
    return Proof(digest, FileStat(device, inode, size, mtime, mode), verified_at)


class Proofs:
    """Remember and forget proofs."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def get_all(self) -> dict[Digest, Proof]:
        """Every proof by digest."""
        return self._access.read(all_proofs)

    def get(self, digest: Digest) -> Proof | None:
        """The proof of one blob."""
        query = "SELECT digest, device, inode, size_bytes, mtime_ns, mode, verified_at FROM proofs WHERE digest = ?"
        raw = self._access.read(lambda connection: connection.execute(query, (digest,)).fetchone())
        return _proof(*raw) if raw else None

    def save(self, proofs: Iterable[Proof]) -> None:
        """Remember these; a blob has one proof, the latest. A time that SQLite cannot hold is never matched again."""
        rows = [
            (
                proof.digest,
                signed(proof.stat.device),
                signed(proof.stat.inode),
                proof.stat.size_bytes,
                max(-_TOP, min(proof.stat.mtime_ns, _TOP - 1)),
                proof.stat.mode,
                proof.verified_at,
            )
            for proof in proofs
        ]
        with self._access.transaction() as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO proofs (digest, device, inode, size_bytes, mtime_ns, mode, verified_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            for row in rows:
                self._access.note("proof", "saved", str(row[0]))

    def forget(self, digests: Iterable[Digest]) -> None:
        """These blobs are gone or no longer believed."""
        with self._access.transaction() as connection:
            for digest in digests:
                connection.execute("DELETE FROM proofs WHERE digest = ?", (digest,))
                self._access.note("proof", "deleted", digest)
