"""Bundles: models carried to a machine without a network, in one file.

A bundle is an uncompressed tar of ``bundle.json`` and one ``blobs/sha256/<hex>`` for each distinct file, in a stable
order and without times, so that equal models give equal bundles. Export hashes what it reads. Import trusts nothing:
the reader of models' archives unpacks it into a stage (regular files only, nothing outside, bounded), every file must
be the digest its name says, none may be missing or over; then blobs are committed, and models that are not in the store
yet are placed. What the models stand for is remembered, so that a later apply asks nobody.
"""

from reconciler.bundles.carried import Carried
from reconciler.bundles.packing import export_bundle
from reconciler.bundles.unpacking import import_bundle

__all__ = ["Carried", "export_bundle", "import_bundle"]
