"""One small file outside the store, written whole or not at all: a saved plan, a lock file.

Written beside its place, synced, and moved there in one step; what was there before stays until then.
"""

import os
from pathlib import Path

PRIVATE, PUBLIC = 0o600, 0o644


def write_whole(path: str | Path, data: bytes, mode: int = PRIVATE) -> None:
    """Put ``data`` at ``path``, with the permissions ``mode``.

    Raises:
        OSError: it cannot be written; nothing has changed.
    """
    target = Path(path)
    import tempfile  # noqa: PLC0415 -- most verbs write nothing so

    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
