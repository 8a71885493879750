"""The manifest: from bytes to a desired state. The door of yaml and jsonschema.

Reading order is execution order: :mod:`search` finds the files, :mod:`reader` makes positioned trees of their bytes,
:mod:`load` merges them, :mod:`walker` holds them against the schema, :mod:`parse` makes the frozen
:class:`~reconciler.core.desired.DesiredState`. A problem anywhere is noted in :mod:`findings` and the work goes on, so
that all problems are told at once; with any problem there is no state.
"""

from reconciler.adapters.manifest.bootstrap import TOKEN_USER, Checks, parse_bootstrap
from reconciler.adapters.manifest.border import Extensions
from reconciler.adapters.manifest.documents import validate_document
from reconciler.adapters.manifest.load import find_origins, load, load_documents, read_documents
from reconciler.adapters.manifest.schemas import schema_names, schema_text
from reconciler.adapters.manifest.search import Document, Origin
from reconciler.adapters.manifest.starter import starter

__all__ = [
    "TOKEN_USER",
    "Checks",
    "Document",
    "Extensions",
    "Origin",
    "find_origins",
    "load",
    "load_documents",
    "parse_bootstrap",
    "read_documents",
    "schema_names",
    "schema_text",
    "starter",
    "validate_document",
]
