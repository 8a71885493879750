"""The last word on a file: its digest, its size, and what it looks like where nobody declared either."""

from reconciler.adapters.fetch import answers
from reconciler.adapters.fetch.opening import Opened, coded_failure, page_failure, size_failure
from reconciler.adapters.fetch.partial import Partial
from reconciler.adapters.fetch.resume import Stand
from reconciler.core.errors import Failure, permanent, transient
from reconciler.core.ports import FetchRequest, Location
from reconciler.core.records import dataclass

_POINTER = b"version https://git-lfs.github.com/spec/v1\noid "


@dataclass(frozen=True, slots=True)
class Said:
    """What the header of the last answer said of its content."""

    coding: str = ""  # that nobody asked for
    is_page: bool = False
    has_left_host: bool = False
    is_endless: bool = False  # the end of the body cannot be told from a lost connection

    @classmethod
    def of(cls, opened: Opened, path: str) -> "Said":
        """What ``opened`` says; ``path`` is the file's own."""
        answer = opened.answer
        is_endless = opened.size_bytes is None and not answer.body.is_framed
        return cls(opened.coding, answers.is_html(answer.headers, path), answer.has_left_host, is_endless)


def judge(stand: Stand, request: FetchRequest, partial: Partial, location: Location, said: Said) -> Failure | None:
    """Why the finished file is not what was asked for; None where it is."""
    found = f"sha256:{stand.hasher.hexdigest()}"
    if found != request.digest and (request.declared is not None or _is_mixed(stand, request)):
        return _wrong_digest(found, request, location, Said() if stand.is_pieced else said)
    size = stand.size_bytes
    assert size is not None  # noqa: S101 -- the attempt ended with the object's end
    if request.size_bytes is not None and size != request.size_bytes:
        return size_failure(location.label, size, request)
    if said.is_endless and request.declared is None and size != request.likely_bytes:
        return transient("truncated", f"{location.label} ended after {size} bytes, not {request.likely_bytes}")
    if request.declared is None and not request.is_listed and not request.path.lower().endswith((".html", ".htm")):
        head = bytearray(min(size, answers.HEAD_BYTES))
        partial.read_into(memoryview(head), 0)
        if answers.looks_like_html(bytes(head)):
            return page_failure(location.url, has_left_host=said.has_left_host)
        if head.startswith(_POINTER):
            text = f"{location.label} is the pointer of a file in Git LFS, not the file"
            return permanent("pointer_instead_of_model", text, hint="use the link of the file itself")
    return None


def _is_mixed(stand: Stand, request: FetchRequest) -> bool:
    """A newer object is taken where it came as one; old and new parts together are neither."""
    return request.digest is not None and stand.is_pieced


def _wrong_digest(found: str, request: FetchRequest, location: Location, said: Said) -> Failure:
    if said.is_page:
        return page_failure(location.url, has_left_host=said.has_left_host)
    if said.coding:
        return coded_failure(location.url, said.coding)
    return permanent(
        "digest_mismatch",
        f"{location.label} has the digest {found}, the manifest says {request.digest}",
        hint="correct the model's sha256, or its source",
    )
