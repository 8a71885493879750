"""``acme://NAME``: a file on Acme's shelf, which is an HTTP server named by ACME_SHELF.

It also takes over one host of ordinary URLs, ``shelf.acme.test``, from the built-in source for the web.
"""

from dataclasses import replace
from urllib.parse import urlsplit

from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.errors import permanent
from reconciler.core.observed import Resolution
from reconciler.core.ports import Location, SourceContext


class Shelf:
    name = "shelf"
    schemes = ("acme",)

    def handles(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.scheme == "acme" or parts.hostname == "shelf.acme.test"

    def needs_resolving(self, artifact: Artifact) -> bool:
        return artifact.size_bytes is None

    def resolve(self, model: DesiredModel, artifact: Artifact, url: str, context: SourceContext) -> Resolution:
        answer = context.http.ask("HEAD", self.locate(artifact, url, context).url)
        if answer.status != 200:
            raise permanent("not_on_the_shelf", f"{url} is not on the shelf")
        file = replace(artifact, size_bytes=int(answer.headers["content-length"]))
        return Resolution(model.name, model.spec_digest, (file,), revision="shelf-7")

    def locate(self, artifact: Artifact, url: str, context: SourceContext) -> Location:
        return Location(f"{context.environment['ACME_SHELF']}/{url.rpartition('/')[2]}", label=url)
