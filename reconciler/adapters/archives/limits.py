"""What an archive may cost, and how its failures are worded. One table for all kinds.

========================  ==============================================================================================
entries                   100,000, folders and skipped ones counted
bytes                     ``limit_bytes`` of the caller, each member rounded up to 4 KiB as the disk does
one member's ratio        1,100 : 1 once 100 MiB came out. Deflate itself ends at 1,032 : 1, so this stops bzip2, xz
                          and zstd bombs; zip bombs are stopped by declared sizes and by the ban on overlaps
depth                     2,048 bytes of path (``core.names``); an archive within an archive is a file like any other
headers                   64 MiB of zip directory, 1 MiB of one tar extended header
memory                    256 MiB of xz dictionary, 128 MiB of zstd window
========================  ==============================================================================================
"""

from reconciler.core import names
from reconciler.core.errors import Failure, permanent, transient

MAX_ENTRIES = 100_000
MAX_DIRECTORY_BYTES = 64 << 20
MAX_EXTENDED_BYTES = 1 << 20
MAX_RATIO = 1_100
RATIO_FREE_BYTES = 100 << 20
BLOCK_BYTES = 4096

_HINT = "nothing was extracted; get the archive again from its publisher"


def on_disk(size: int) -> int:
    """Bytes that a file of ``size`` takes on disk."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def unsafe(why: str) -> Failure:
    """A member that could write outside its folder, or over another."""
    return permanent("archive_unsafe", f"the archive is refused: {why}", hint=_HINT)


def damaged(why: str) -> Failure:
    """Bytes that are not what the archive says they are."""
    return permanent("archive_damaged", f"the archive is damaged: {why}", hint=_HINT)


def truncated(why: str) -> Failure:
    """An end before the end."""
    return permanent("archive_truncated", f"the archive is cut off: {why}", hint=_HINT)


def too_large(why: str) -> Failure:
    """More than there is room for, or than is plausible."""
    return permanent(
        "archive_too_large", f"the archive is too large: {why}", hint="raise cache.maxSize, or do not extract it"
    )


def encrypted(name: str) -> Failure:
    """A member that needs a password."""
    return permanent("archive_encrypted", f"member {names.quote(name)} is encrypted", hint=_HINT)


def unsupported(why: str) -> Failure:
    """A method or a kind of member that is not read here."""
    return permanent("archive_unsupported", f"the archive cannot be read: {why}", hint="repack it as zip or tar.gz")


def cancelled() -> Failure:
    """The caller asked to stop."""
    return transient("cancelled", "extraction was cancelled")


def clean_name(name: str) -> str | None:
    """The relative path of a member, or None for one that is left out (the archive's own folder, macOS leftovers).

    Raises:
        Failure: permanent ``archive_unsafe``.
    """
    bare = name.rstrip("/") if name.strip("/") else name
    if bare in {".", "./"}:
        return None
    try:
        path = names.check_path(bare, "member")
    except Failure as failure:
        raise unsafe(failure.message) from failure
    last = path.rsplit("/", 1)[-1]
    is_leftover = path.split("/", 1)[0] == "__MACOSX" or last.startswith("._") or last == ".DS_Store"
    return None if is_leftover else path
