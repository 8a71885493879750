"""A file of one chunk: no threads, no record; faster than either."""

from reconciler.adapters.fetch.body import Body
from reconciler.adapters.fetch.limiter import Limiter
from reconciler.adapters.fetch.meter import Meter
from reconciler.adapters.fetch.partial import Partial
from reconciler.adapters.fetch.resume import Stand
from reconciler.core.errors import transient
from reconciler.core.ports import CancelToken


def receive_small(
    body: Body, stand: Stand, partial: Partial, meter: Meter, limiter: Limiter, cancel: CancelToken
) -> None:
    """Bring the rest of the stand's object, whose size is known, through one buffer.

    Raises:
        Failure: sorted; what came in is the stand's tail.
    """
    assert stand.size_bytes is not None  # noqa: S101 -- the caller asked
    buffer = bytearray(stand.size_bytes)
    view = memoryview(buffer)
    position = len(stand.tail)
    view[:position] = stand.tail
    try:
        while position < len(view):
            count = body.read_into(view[position:])
            if not count:
                raise transient("truncated", f"{stand.url} ended before its announced length")
            position += count
            meter.count(count)
            limiter.take(count, cancel)
    finally:
        stand.tail = bytes(view[:position])
    body.settle()
    stand.hasher.update(view)
    partial.write(view, 0)
    stand.base, stand.tail = 1, b""
    stand.content = view.toreadonly()
