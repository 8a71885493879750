"""Where models come from: one file per kind of place, all behind :class:`reconciler.core.ports.Source`.

A source does two things. It *resolves* a reference to concrete files, with sizes and digests as far as the place tells,
and it *locates* one file for the download engine. It never moves a model's bytes itself.
"""

from reconciler.adapters.sources.registry import Sources, built_in_sources

__all__ = ["Sources", "built_in_sources"]
