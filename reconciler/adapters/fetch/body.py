"""The body of an answer, pulled into the caller's buffers.

A large identity-coded body of known length is read past the HTTP library, straight from the socket into the buffer: the
library's first chunk empties its own buffer, the rest never enters it (measured: 1.4 s against 2.0 s for 2 GiB). Such a
connection is closed afterwards. All other bodies go through the library, so that their connection is used again.

No byte for ``timeout_s`` is ``stalled``, and so is less than ``min_rate_bytes`` a second over that time. Only time
spent waiting for the socket counts, not time the caller spent with the bytes.
"""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from reconciler.adapters.fetch.budget import Budget
from reconciler.core.errors import Failure, permanent, transient

if TYPE_CHECKING:
    import httpx

    from reconciler.adapters.fetch.transport import Transport
    from reconciler.adapters.fetch.wire import Stream

_RAW_FROM_BYTES = 2 << 20  # below this the kept connection is worth more than the faster way


class Body:
    """See the module. Not for several threads at once."""

    def __init__(
        self, response: "httpx.Response", transport: "Transport", budget: Budget, where: str, timeout_s: float
    ) -> None:
        self._response = response
        self._transport = transport
        self._budget = budget
        self._where = where
        self._timeout_s = timeout_s
        self._chunks: Iterator[bytes] = iter(response.stream)  # type: ignore[arg-type]
        self._rest = memoryview(b"")
        self._length = self._known_length()
        self._taken_bytes = 0  # handed out
        self._raw: Stream | None = None
        self._waited_s = 0.0
        self._window_bytes = 0
        self._is_first = True
        self.min_rate_bytes = 1000

    def _known_length(self) -> int | None:
        headers = self._response.headers
        text = headers.get("content-length", "")
        return int(text) if text.isdigit() and "transfer-encoding" not in headers else None

    @property
    def is_framed(self) -> bool:
        """Whether the end of the body is told from a lost connection."""
        chunked = self._response.headers.get("transfer-encoding", "").lower() == "chunked"
        return chunked or self._length is not None

    def read_into(self, view: memoryview) -> int:
        """Bytes put into ``view``; 0 at the end of a complete body.

        Raises:
            Failure: transient; ``truncated``, ``stalled``, ``connection_reset``, ``cancelled`` ...
        """
        if self._rest:
            return self._hand_out(view)
        if self._raw is not None:
            return self._read_raw(view)
        chunk = self._timed_chunk()
        if chunk is None:
            return 0
        self._rest = memoryview(chunk)
        self._go_raw(len(chunk))
        return self._hand_out(view)

    def look_at_whole(self, size_bytes: int) -> memoryview | None:
        """The body, uncopied, where all ``size_bytes`` of it are here already; nothing is taken."""
        if self._taken_bytes or self._rest or self._length != size_bytes:
            return None
        look: Callable[[], memoryview | None] | None = getattr(self._response, "look_at_whole", None)
        return look() if look else None

    def take_whole(self, size_bytes: int) -> memoryview | None:
        """As :meth:`look_at_whole`, and it is taken."""
        whole = self.look_at_whole(size_bytes)
        if whole is not None:
            reply: Any = self._response  # only our own replies have a whole
            reply.take_whole()
            self._taken_bytes = size_bytes
        return whole

    def read_all(self, max_bytes: int) -> bytes:
        """The whole body.

        Raises:
            Failure: permanent ``too_large`` over ``max_bytes``.
        """
        parts: list[bytes] = []
        total = 0
        while (chunk := self._timed_chunk()) is not None:
            parts.append(chunk)
            total += len(chunk)
            if total > max_bytes:
                raise permanent("too_large", f"{self._where} answers with more than {max_bytes} bytes")
        return b"".join(parts)

    def peek(self, max_bytes: int) -> bytes:
        """The first bytes only, for an error message; does not wait long."""
        self._timeout_s = min(self._timeout_s, 2.0)
        self._is_first = False
        parts = b""
        while len(parts) < max_bytes and (chunk := self._timed_chunk()) is not None:
            parts += chunk
        return parts[:max_bytes]

    def settle(self) -> None:
        """Take note of the end of a body whose last byte was handed out, so that its connection is used again."""
        if self._raw is None and not self._rest and self._length == self._taken_bytes:
            self._timed_chunk()

    def close(self) -> None:
        """Give the connection back where everything was read, else close it."""
        with self._transport.spend(self._budget):
            if self._raw is not None:
                self._raw.close()
            self._response.close()

    def _hand_out(self, view: memoryview) -> int:
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._taken_bytes += count
        return count

    def _go_raw(self, first_bytes: int) -> None:
        if self._length is None or self._taken_bytes or self._length - first_bytes < _RAW_FROM_BYTES:
            return
        self._raw = self._response.extensions.get("network_stream")

    def _read_raw(self, view: memoryview) -> int:
        assert self._raw is not None  # noqa: S101 -- the caller asked
        assert self._length is not None  # noqa: S101 -- raw reading needs a length
        left = self._length - self._taken_bytes
        if not left:
            return 0
        with self._patience():
            count = self._raw.read_into(view[:left])
        if not count:
            raise transient("truncated", f"{self._where} ended {left} bytes before its announced length")
        self._taken_bytes += count
        self._window_bytes += count
        return count

    def _timed_chunk(self) -> bytes | None:
        with self._patience():
            try:
                chunk = next(self._chunks, None)
            except Failure:
                raise
            except Exception as error:  # the library's own, all of one family each
                if type(error).__module__.split(".")[0] not in {"httpcore", "httpx"}:
                    raise
                from reconciler.adapters.fetch.transport import failure_of  # noqa: PLC0415 -- loaded only now and then

                raise failure_of(error, self._where) from error
        self._window_bytes += len(chunk or b"")
        return chunk

    def _patience(self) -> "_Patience":
        return _Patience(self)

    def begin_wait(self) -> float:
        """Bound the wait that follows."""
        now = time.monotonic()
        if not self._is_first:  # the first byte shares the deadline of the header
            self._budget.deadline = now + self._timeout_s
            self._budget.reason = "stalled"
        return now

    def end_wait(self, began: float) -> None:
        """Count a wait that gave something, and judge the rate."""
        self._is_first = False
        self._waited_s += time.monotonic() - began
        if self._waited_s < self._timeout_s:
            return
        is_slow = self._window_bytes < self.min_rate_bytes * self._waited_s
        self._waited_s, self._window_bytes = 0.0, 0
        if is_slow:
            raise transient("stalled", f"{self._where} sends less than {self.min_rate_bytes} bytes a second")


class _Patience:
    def __init__(self, body: Body) -> None:
        self._body = body
        self._began = 0.0
        self._spend = body._transport.spend(body._budget)  # noqa: SLF001 -- one class in two parts

    def __enter__(self) -> None:
        self._began = self._body.begin_wait()
        self._spend.__enter__()

    def __exit__(self, kind: object, *rest: object) -> None:
        self._spend.__exit__(None, None, None)
        if kind is None:
            self._body.end_wait(self._began)
