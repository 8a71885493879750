"""What is signed, how it is read, and what a check of one kind looks like."""

import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from reconciler.core.errors import Failure, permanent, transient
from reconciler.core.records import dataclass
from reconciler.core.words import Digest

PIECE_BYTES = 1 << 20
_RESIGN = "ask whoever publishes the model to sign it again, or correct signature in the manifest"


@dataclass(frozen=True, slots=True)
class SignedFile:
    """One file: its path within the model, where its bytes lie (absolute), its digest as it was verified."""

    path: str
    place: str
    digest: Digest
    size_bytes: int
    is_cancelled: Callable[[], bool] = lambda: False

    @property
    def sha256(self) -> bytes:
        """The digest as bytes."""
        return bytes.fromhex(self.digest.removeprefix("sha256:"))

    def pieces(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from ``start`` up to ``end``, piece by piece.

        Raises:
            Failure: transient ``unreadable`` or ``cancelled``.
        """
        left = (self.size_bytes if end is None else end) - start
        try:
            with open(self.place, "rb") as file:  # noqa: PTH123 -- paths are text throughout the adapters
                file.seek(start)
                while left > 0 and (data := file.read(min(PIECE_BYTES, left))):
                    if self.is_cancelled():
                        raise transient("cancelled", f"stopped while the signature of {self.path} was checked")
                    left -= len(data)
                    yield data
        except OSError as error:
            raise transient("unreadable", f"{self.path} cannot be read: {error.strerror}") from error

    @contextmanager
    def mapped(self) -> Iterator[memoryview | bytes]:
        """All of it at once, for what signs the content itself; it is mapped, not read into memory."""
        try:
            with open(self.place, "rb") as file:  # noqa: PTH123 -- paths are text throughout the adapters
                if self.size_bytes == 0:
                    yield b""
                    return
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
                    view = memoryview(mapping)
                    try:
                        yield view
                    finally:
                        view.release()
        except OSError as error:
            raise transient("unreadable", f"{self.path} cannot be read: {error.strerror}") from error


class Check(Protocol):
    """One kind of signature, with the keys that are allowed."""

    def look(self, signature: bytes) -> None:
        """Refuse what is no such signature or names another key."""
        ...

    def verify(self, signature: bytes, files: Sequence[SignedFile], *, is_whole: bool) -> str:
        """The signer's word, where the signature holds for the files."""
        ...


def bad(message: str) -> Failure:
    """The signature does not hold."""
    return permanent("bad_signature", message, hint=_RESIGN)


def unknown(message: str) -> Failure:
    """Nobody that the manifest names has signed."""
    return permanent("unknown_key", message, hint="compare the publisher's key with signature.key in the manifest")
