"""A file of one chunk: no threads, no record; faster than either.

:func:`fetch_at_once` is for the plain case, which nearly all small files are: nothing is here, one request, one answer
whose body came together with its head, and the digest is the declared one. It looks before it takes: where anything is
otherwise, the answer goes as it is to :mod:`.download`, which judges it as every other.
"""

import hashlib

from reconciler.adapters.fetch.answers import validator_of
from reconciler.adapters.fetch.body import Body
from reconciler.adapters.fetch.client import Answer, Question
from reconciler.adapters.fetch.disk import check_space
from reconciler.adapters.fetch.limiter import Limiter
from reconciler.adapters.fetch.meter import Meter
from reconciler.adapters.fetch.partial import Partial
from reconciler.adapters.fetch.record import CHUNK_BYTES, Record
from reconciler.adapters.fetch.redirects import origin_of
from reconciler.adapters.fetch.resume import Stand
from reconciler.adapters.fetch.tools import Tools
from reconciler.core.errors import Failure, transient
from reconciler.core.ports import CancelToken, Fetched, FetchRequest, Location, Progress, ProgressSink

Begun = Answer | Failure  # what came of the first request, for whoever goes on


def fetch_at_once(
    tools: Tools, request: FetchRequest, partial: Partial, progress: ProgressSink, cancel: CancelToken
) -> Fetched | Begun | None:
    """The whole file, not synced; or what the first place has answered; None where nothing was asked.

    The connection of an answer stays counted: whoever goes on with it gives it back.

    Raises:
        Failure: from this machine's disk; the partial is gone.
    """
    location, size = request.locations[0], request.likely_bytes
    is_plain = partial.is_new and request.may_hold and request.declared is not None and request.reuse is None
    is_limited = tools.limiter.piece_bytes is not None  # what has come is to be paid for piece by piece
    most = CHUNK_BYTES if request.limit_bytes is None else min(CHUNK_BYTES, request.limit_bytes)
    if not is_plain or is_limited or not size or size > most:
        return None
    try:
        origin = origin_of(location.url)
    except Failure:
        return None
    if not tools.connections.try_take(origin):
        return None
    is_handed_on = False
    try:
        told = (request.model, request.path)
        progress(Progress(*told, "connecting", 0, size, source=location.label))
        question = Question("GET", location.url, location.headers, timeout_s=request.timeout_s, is_small=True)
        try:
            answer = tools.client.open(question, cancel)
        except Failure as failure:
            return failure
        is_usual = answer.status == 200 and "content-range" not in answer.headers
        whole = answer.body.look_at_whole(size) if is_usual else None
        if whole is None or f"sha256:{hashlib.sha256(whole).hexdigest()}" != request.declared:
            is_handed_on = True
            return answer
        try:
            _keep(request, partial, whole)
        finally:
            answer.body.take_whole(size)
            answer.close()
    except BaseException:
        partial.drop()
        raise
    finally:
        if not is_handed_on:
            tools.connections.give_back(origin)
    progress(Progress(*told, "done", size, size, source=location.label))
    return _fetched(request, location, answer, partial, whole)


def _keep(request: FetchRequest, partial: Partial, whole: memoryview) -> None:
    Record(request.target).forget()
    check_space(request.target, len(whole), request.min_free_bytes)
    partial.write(whole, 0)


def _fetched(request: FetchRequest, location: Location, answer: Answer, partial: Partial, whole: memoryview) -> Fetched:
    assert request.digest is not None  # noqa: S101 -- it was the declared one
    size, validator = len(whole), validator_of(answer.headers)
    return Fetched(request.digest, size, location.label, size, validator, whole, partial)


def receive_small(
    body: Body, stand: Stand, partial: Partial, meter: Meter, limiter: Limiter, cancel: CancelToken
) -> None:
    """Bring the rest of the stand's object, whose size is known, through one buffer.

    Raises:
        Failure: sorted; what came in is the stand's tail.
    """
    assert stand.size_bytes is not None  # noqa: S101 -- the caller asked
    is_limited = limiter.piece_bytes is not None
    whole = None if stand.tail or is_limited else body.take_whole(stand.size_bytes)
    if whole is None:
        whole = _received(body, stand, meter, limiter, cancel)
        body.settle()
    else:
        meter.count(len(whole))
    stand.hasher.update(whole)
    partial.write(whole, 0)
    stand.base, stand.tail = 1, b""
    stand.content = whole


def _received(body: Body, stand: Stand, meter: Meter, limiter: Limiter, cancel: CancelToken) -> memoryview:
    """All bytes of the stand's object; where it fails, what came in is the stand's tail."""
    assert stand.size_bytes is not None  # noqa: S101 -- the caller asked
    view = memoryview(bytearray(stand.size_bytes))
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
    return view.toreadonly()
