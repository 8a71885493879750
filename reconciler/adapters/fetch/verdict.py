"""The last word on a file: its digest, its size, and what it looks like where nobody declared either."""

from reconciler.adapters.fetch import answers
from reconciler.adapters.fetch.opening import coded_failure, page_failure
from reconciler.adapters.fetch.partial import Partial
from reconciler.adapters.fetch.resume import Stand
from reconciler.core.errors import Failure, permanent
from reconciler.core.ports import FetchRequest, Location

PAGE = "html"  # in place of a coding: the header said it is a page


def judge(stand: Stand, request: FetchRequest, partial: Partial, location: Location, coding: str) -> Failure | None:
    """Why the finished file is not what was asked for; None where it is.

    ``coding`` is what the header said of the content: a coding nobody asked for, or :data:`PAGE`.
    """
    found = f"sha256:{stand.hasher.hexdigest()}"
    if request.digest is not None and found != request.digest:
        return _wrong_digest(found, request, location, coding if not stand.is_pieced else "")
    size = stand.size_bytes
    assert size is not None  # noqa: S101 -- the attempt ended with the object's end
    if request.size_bytes is not None and size != request.size_bytes:
        text = f"{location.label} holds {size} bytes, the manifest says {request.size_bytes}"
        return permanent("size_mismatch", text, hint="correct the model's size, or its source")
    if request.digest is None and not request.path.lower().endswith((".html", ".htm")):
        head = bytearray(min(size, 256))
        partial.read_into(memoryview(head), 0)
        if answers.looks_like_html(bytes(head)):
            return page_failure(location.url, has_left_host=False)
    return None


def _wrong_digest(found: str, request: FetchRequest, location: Location, coding: str) -> Failure:
    if coding == PAGE:
        return page_failure(location.url, has_left_host=False)
    if coding:
        return coded_failure(location.url, coding)
    return permanent(
        "digest_mismatch",
        f"{location.label} has the digest {found}, the manifest says {request.digest}",
        hint="correct the model's sha256, or its source",
    )
