"""``ollama://[HOST/][NAMESPACE/]NAME[:TAG]``: a model of the Ollama library, which is a container registry.

RECONCILER_OLLAMA_REGISTRY names another registry for references without a host, e.g. a mirror; OLLAMA_HOST is not that:
it names a running server.
"""

import re

from reconciler.adapters.sources.objects import split_endpoint
from reconciler.adapters.sources.oci_client import Repository, is_loopback, origin_of
from reconciler.adapters.sources.registry_oci import ImageReference, OciSource
from reconciler.core.errors import permanent
from reconciler.core.ports import SourceContext

DEFAULT_REGISTRY = "https://registry.ollama.ai"
MIRROR = "RECONCILER_OLLAMA_REGISTRY"
_REFERENCE = re.compile(
    r"ollama://(?:([A-Za-z0-9.\[\]:-]+)/)??(?:([A-Za-z0-9_.-]+)/)?([A-Za-z0-9_][A-Za-z0-9_.-]*)"
    r"(?::([A-Za-z0-9_][A-Za-z0-9._-]*))?(?:@(sha256:[0-9a-f]{64}))?"
)


class OllamaSource(OciSource):
    """The Ollama library and its mirrors."""

    name = "ollama"
    schemes: tuple[str, ...] = ("ollama",)

    def parse(self, url: str, context: SourceContext) -> ImageReference:
        """Take a reference apart.

        Raises:
            Failure: permanent ``bad_source`` or ``bad_endpoint``.
        """
        match = _REFERENCE.fullmatch(url)
        if match is None:
            raise permanent("bad_source", "this is no Ollama model", hint="ollama://NAME:TAG")
        host, namespace, name, tag, digest = match.groups()
        if host is None and namespace and ("." in namespace or namespace == "localhost"):
            host, namespace = namespace, None
        origin = origin_of(host) if host else _registry(context)
        return ImageReference(Repository(origin, f"{namespace or 'library'}/{name}"), digest or tag or "latest", url)


def _registry(context: SourceContext) -> str:
    mirror = context.environment.get(MIRROR)
    if not mirror:
        return DEFAULT_REGISTRY
    scheme, host, path = split_endpoint(mirror, MIRROR)
    if path or (scheme == "http" and not is_loopback(host)):
        raise permanent("bad_endpoint", f"{MIRROR} must be https://HOST[:PORT], or http on loopback")
    return f"{scheme}://{host}"
