"""``https`` and ``http``: one URL, one file.

A size that nobody declared is asked for with HEAD and identity coding; servers that refuse HEAD are asked for the first
byte instead. The ETag is the revision. Nothing else is believed: the bytes are judged by the engine.
"""

import re
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from reconciler.adapters.sources.answers import etag_of, length_of, sort_status
from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.errors import Failure
from reconciler.core.names import check_segment
from reconciler.core.observed import Resolution
from reconciler.core.ports import HttpAnswer, Location, SourceContext
from reconciler.core.reference import display

_REFUSES_HEAD = (400, 403, 405, 500, 501)  # signed URLs answer 403 to HEAD: the method is part of the signature
_FIRST_BYTE = (("range", "bytes=0-0"),)
_IDENTITY = (("accept-encoding", "identity"),)
_TOTAL = re.compile(r"bytes (?:0-0|\*)/(\d{1,18})")


class WebSource:
    """A file behind a URL."""

    name = "web"
    schemes: tuple[str, ...] = ("https", "http")

    def needs_resolving(self, artifact: Artifact) -> bool:
        """Only where nobody declared the size."""
        return artifact.size_bytes is None or not artifact.path

    def resolve(self, model: DesiredModel, artifact: Artifact, url: str, context: SourceContext) -> Resolution:
        """Ask the origin for size and ETag. See :meth:`reconciler.core.ports.Source.resolve`."""
        answer = _probe(url, context)
        size = artifact.size_bytes
        if size is None:
            size = _size_of(answer)
        path = artifact.path or check_segment(unquote(urlsplit(url).path.rpartition("/")[2]), "file name of a URL")
        file = replace(artifact, path=path, size_bytes=size)
        return Resolution(model.name, model.spec_digest, (file,), revision=etag_of(answer.headers))

    def locate(self, artifact: Artifact, url: str, context: SourceContext) -> Location:
        """The URL as it stands, with the headers that the manifest gives for its host."""
        del artifact
        return Location(
            url, display(url), context.credentials(url), refresh=lambda: self.locate(Artifact("", ()), url, context)
        )

    def fingerprint(self, url: str, context: SourceContext) -> str:
        """A word that changes when the origin answers otherwise: un-sticks a permanent failure. Never raises."""
        try:
            answer = _head(url, context)
        except Failure as failure:
            return f"failure:{failure.reason}"
        facts = (answer.headers.get(name, "") for name in ("etag", "last-modified", "content-length"))
        return "|".join((str(answer.status), *facts))


def _head(url: str, context: SourceContext) -> HttpAnswer:
    headers = (*_IDENTITY, *context.credentials(url))
    answer = context.http.ask("HEAD", url, headers=headers)
    if answer.status not in _REFUSES_HEAD:
        return answer
    try:
        return context.http.ask("GET", url, headers=(*headers, *_FIRST_BYTE), max_bytes=1 << 20)
    except Failure as failure:
        if failure.reason != "too_large":
            raise
        return HttpAnswer(206, {}, b"")  # it is there, but ranges are ignored: its size stays unknown


def _probe(url: str, context: SourceContext) -> HttpAnswer:
    answer = _head(url, context)
    if answer.status not in (200, 206, 416):
        raise sort_status(answer, display(url))
    return answer


def _size_of(answer: HttpAnswer) -> int | None:
    """The whole object's size in bytes, from a length or from the total of a range."""
    if answer.status == 200:
        return length_of(answer.headers)
    match = _TOTAL.fullmatch(answer.headers.get("content-range", "").strip())
    return int(match[1]) if match else None
