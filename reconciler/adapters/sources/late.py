"""A source whose module is imported when it is first asked: a verb that touches no origin pays for none of them."""

from collections.abc import Callable
from importlib import import_module

from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.observed import Resolution
from reconciler.core.ports import Location, Source, SourceContext


class LateSource:
    """Stands in for a source until something is asked of it."""

    def __init__(self, name: str, schemes: tuple[str, ...], make: Callable[[], Source]) -> None:
        self.name = name
        self.schemes = schemes
        self._make = make
        self._made: Source | None = None

    def needs_resolving(self, artifact: Artifact) -> bool:
        """See :class:`reconciler.core.ports.Source`."""
        return self._source().needs_resolving(artifact)

    def resolve(self, model: DesiredModel, artifact: Artifact, url: str, context: SourceContext) -> Resolution:
        """See :class:`reconciler.core.ports.Source`."""
        return self._source().resolve(model, artifact, url, context)

    def locate(self, artifact: Artifact, url: str, context: SourceContext) -> Location:
        """See :class:`reconciler.core.ports.Source`."""
        return self._source().locate(artifact, url, context)

    def fingerprint(self, url: str, context: SourceContext) -> str:
        """A word that changes when the origin answers otherwise; empty where the source cannot tell. Never raises."""
        ask: Callable[[str, SourceContext], str] | None = getattr(self._source(), "fingerprint", None)
        return ask(url, context) if ask else ""

    def _source(self) -> Source:
        if self._made is None:
            self._made = self._make()
        return self._made


def late(name: str, schemes: tuple[str, ...], module: str, factory: str, *given: object) -> Source:
    """A stand-in for ``reconciler.adapters.sources.MODULE.FACTORY(*given)``."""

    def make() -> Source:
        source: Source = getattr(import_module(f"reconciler.adapters.sources.{module}"), factory)(*given)
        return source

    return LateSource(name, schemes, make)
