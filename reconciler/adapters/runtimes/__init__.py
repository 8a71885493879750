"""Where models are loaded to: one file per runtime, behind the protocol :class:`reconciler.core.ports.Runtime`."""

from reconciler.adapters.runtimes.page_cache import PageCache

__all__ = ["PageCache"]
