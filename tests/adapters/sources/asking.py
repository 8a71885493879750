"""What the tests of sources ask with: a context of plain values over the real HTTP client."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reconciler.adapters.fetch.client import Client
from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.words import Digest

MODEL = DesiredModel("m", spec_digest=Digest("sha256:" + "0" * 64))


@dataclass
class Context:
    """A SourceContext of plain values."""

    http: Client
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)  # host[:port]: headers
    cancel: Any = field(default_factory=threading.Event)

    def credentials(self, url: str) -> tuple[tuple[str, str], ...]:
        return self.secrets.get(url.partition("://")[2].partition("/")[0], ())


def artifact(url: str, **given: Any) -> Artifact:
    return Artifact(given.pop("path", url.rpartition("/")[2]), (url,), **given)
