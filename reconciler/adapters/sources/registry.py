"""Which source handles a URL: the newest registered one that says it can."""

from collections.abc import Callable, Iterable

from reconciler.adapters.sources.late import late
from reconciler.core.errors import permanent
from reconciler.core.ports import Source
from reconciler.core.reference import display, scheme_of
from reconciler.core.registry import Registration, Registry


def built_in_sources(now: Callable[[], float]) -> tuple[Source, ...]:
    """The sources that come with the product.

    Args:
        now: the wall clock in seconds since the epoch; requests to buckets are signed with it.
    """
    return (
        late("web", ("https", "http"), "web", "WebSource"),
        late("local", ("file",), "local", "LocalSource"),
        late("hub", ("hf",), "hub", "HubSource"),
        late("s3", ("s3",), "bucket", "s3_source", now),
        late("gs", ("gs",), "bucket", "gcs_source"),
        late("az", ("az",), "bucket", "azure_source", now),
        late("oci", ("oci",), "registry_oci", "OciSource"),
        late("ollama", ("ollama",), "ollama", "OllamaSource"),
    )


class Sources(Registry[Source]):
    """The registered sources, asked by URL."""

    def __init__(
        self, built_in: Iterable[Source], discover: Callable[[], Iterable[Registration[Source]]] | None = None
    ) -> None:
        super().__init__(built_in, discover)

    def for_url(self, url: str) -> Source:
        """The newest source for ``url``.

        A source with a method ``handles(url) -> bool`` is asked by it (one host, say); any other by its schemes.

        Raises:
            Failure: permanent ``unknown_scheme``.
        """
        scheme = scheme_of(url)
        source = self.find(lambda item: _handles(item, url, scheme))
        if source is None:
            known = ", ".join(sorted({word for item in self for word in item.schemes}))
            raise permanent("unknown_scheme", f"no source handles {display(url)}", hint=f"known schemes: {known}")
        return source


def _handles(source: Source, url: str, scheme: str) -> bool:
    handles = getattr(source, "handles", None)
    return bool(handles(url)) if callable(handles) else scheme in source.schemes
