"""Git as the source of the manifest: the git program on a bare repository, and nothing of it that could run code.

Reading order is execution order: :mod:`address` checks URL, ref and path by their words; :mod:`settings` shuts git's
doors; :mod:`program` runs it within bounds; :mod:`repository` fetches one commit; :mod:`signature` sees who signed it;
:mod:`tree` reads files out of it; :mod:`source` is all of that in order. :mod:`faults` sorts what goes wrong.
"""

from reconciler.adapters.git.address import Address, check_path, check_ref, is_commit, parse_address, split_ref
from reconciler.adapters.git.settings import token_credential
from reconciler.adapters.git.source import GitManifest, GitSource, Judge

__all__ = [
    "Address",
    "GitManifest",
    "GitSource",
    "Judge",
    "check_path",
    "check_ref",
    "is_commit",
    "parse_address",
    "split_ref",
    "token_credential",
]
