"""Single parts of an object whose other bytes are here already: for repairs.

The first part asks for the object's validator (HEAD), so that every range request carries ``If-Range`` and the parts of
two versions never mix.
"""

from collections.abc import Callable
from dataclasses import dataclass

from reconciler.adapters.fetch import answers
from reconciler.adapters.fetch.client import Client, Question, failure_of_answer, secrets_of
from reconciler.adapters.fetch.meter import Meter
from reconciler.adapters.fetch.opening import ObjectChangedError, Place, RangeRefusedError, Want, open_range
from reconciler.adapters.fetch.partial import Partial, aligned_buffer
from reconciler.adapters.fetch.record import CHUNK_BYTES
from reconciler.adapters.fetch.redirects import label_of
from reconciler.core.errors import transient
from reconciler.core.ports import CancelToken, FetchRequest


@dataclass(slots=True)
class PartSource:
    """Fetches parts into ``partial``. ``validator`` is known after the first part."""

    client: Client
    request: FetchRequest
    place: Place
    partial: Partial
    meter: Meter
    cancel: CancelToken
    now: float
    validator: str = ""

    def fetch(self, start: int, end: int) -> None:
        """Bring bytes ``start`` to ``end - 1``.

        Raises:
            Failure: sorted.
            ObjectChangedError, RangeRefusedError: the object must be fetched whole.
        """
        if not self.validator:
            self._ask_validator()
        want = Want(start, end, self.validator)
        opened = open_range(self.client, self.place, want, self.request, self.cancel, self.now)
        try:
            if opened.answer.status != 206:
                raise ObjectChangedError
            self._pour(opened.answer.body.read_into, start, end)
            opened.answer.body.settle()
        finally:
            opened.answer.close()

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
            self.partial.write(view[:wanted], start)
            self.meter.tell()
            start += wanted

    def _ask_validator(self) -> None:
        question = Question("HEAD", self.place.url, self.place.headers, timeout_s=self.request.timeout_s)
        answer = self.client.open(question, self.cancel)
        try:
            if not answers.is_success(answer.status):
                raise failure_of_answer(answer, secrets_of(self.place.headers, (self.place.url,)), self.now)
            self.validator = answers.validator_of(answer.headers)
        finally:
            answer.close()
        if not self.validator:
            raise RangeRefusedError(transient("bad_range", f"{label_of(self.place.url)} names no version of the file"))
