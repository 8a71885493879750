"""Single parts of an object whose other bytes are here already: for repairs.

The first part asks for the object's validator (HEAD), so that every range request carries ``If-Range`` and the parts of
two versions never mix. A server that answers no HEAD (a URL signed for GET alone) tells its validator with the first
part; that part needs no guard, since there is nothing yet that it could be mixed with.
"""

from collections.abc import Callable
from dataclasses import dataclass

from reconciler.adapters.fetch import answers
from reconciler.adapters.fetch.client import Question
from reconciler.adapters.fetch.meter import Meter
from reconciler.adapters.fetch.opening import ObjectChangedError, Place, RangeRefusedError, Want, open_range
from reconciler.adapters.fetch.partial import Partial, aligned_buffer
from reconciler.adapters.fetch.record import CHUNK_BYTES
from reconciler.adapters.fetch.redirects import label_of
from reconciler.adapters.fetch.resume import Stand
from reconciler.adapters.fetch.tools import Tools
from reconciler.core.errors import transient
from reconciler.core.ports import CancelToken, FetchRequest


@dataclass(slots=True)
class PartSource:
    """Fetches parts of the stand's object into ``partial``; the stand's validator is known after the first one.

    ``checkpoint`` is called before more than the settings' ``risk_bytes`` have come in since it was last.
    """

    tools: Tools
    request: FetchRequest
    place: Place
    partial: Partial
    stand: Stand
    meter: Meter
    cancel: CancelToken
    checkpoint: Callable[[], None]
    _since_bytes: int = 0

    def fetch(self, start: int, end: int) -> None:
        """Bring bytes ``start`` to ``end - 1``.

        Raises:
            Failure: sorted.
            ObjectChangedError, RangeRefusedError: the object must be fetched whole.
        """
        if self._since_bytes and self._since_bytes + end - start > self.tools.settings.risk_bytes:
            self.checkpoint()
            self._since_bytes = 0
        self.ask_validator()
        want = Want(start, end, self.stand.validator, self.stand.size_bytes)
        opened = open_range(self.tools.client, self.place, want, self.request, self.cancel, self.tools.settings.now())
        try:
            if opened.answer.status != 206:
                raise ObjectChangedError
            if not self.stand.validator:
                self._adopt(answers.validator_of(opened.answer.headers))
            self._pour(opened.answer.body.read_into, start, end)
            opened.answer.body.settle()
        finally:
            opened.answer.close()
        self._since_bytes += end - start

    def ask_validator(self) -> None:
        """Make the validator known, where the server tells it without being asked for content.

        Raises:
            Failure: of the network.
            ObjectChangedError: the object has another size.
            RangeRefusedError: it has no strong validator.
        """
        if self.stand.validator:
            return
        question = Question("HEAD", self.place.url, self.place.headers, timeout_s=self.request.timeout_s)
        answer = self.tools.client.open(question, self.cancel)
        try:
            if not answers.is_success(answer.status):
                return
            length = answers.length_of(answer.headers, answer.url)
            if length not in {None, self.stand.size_bytes}:
                raise ObjectChangedError
            self._adopt(answers.validator_of(answer.headers))
        finally:
            answer.close()

    def _adopt(self, validator: str) -> None:
        if not validator:
            raise RangeRefusedError(transient("bad_range", f"{label_of(self.place.url)} names no version of the file"))
        self.stand.validator = validator

    def _pour(self, read_into: Callable[[memoryview], int], start: int, end: int) -> None:
        view = aligned_buffer(CHUNK_BYTES)
        while start < end:
            wanted, position = min(CHUNK_BYTES, end - start), 0
            while position < wanted:
                count = read_into(view[position:wanted])
                if not count:
                    raise transient("truncated", f"{label_of(self.place.url)} ended before its announced length")
                position += count
                self.meter.count(count)
                self.tools.limiter.take(count, self.cancel)
            self.partial.write(view[:wanted], start)
            self.meter.tell()
            start += wanted
