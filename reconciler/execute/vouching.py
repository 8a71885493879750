"""Nothing is placed that nobody vouched for, where the manifest asks for a signature.

Signatures are fetched before the model's bytes and checked over the files as they came: an archive as it was packed.
:func:`vouch_for` is asked by everything that places a model, so there is no way around it.
"""

from collections.abc import Sequence

from reconciler.adapters.ledger import FileRow
from reconciler.adapters.signatures import SignedFile
from reconciler.core.desired import DesiredModel
from reconciler.core.stored import StoredModel
from reconciler.core.vouching import rule_digest
from reconciler.core.words import Digest
from reconciler.execute.work import Work
from reconciler.signing import Vouch, fetch_signatures, key_facts, vouch

REFUSALS = frozenset({"unsigned", "bad_signature", "unknown_key", "signature_support_missing"})


def prepare(work: Work, model: DesiredModel) -> None:
    """Fetch the model's signatures, before any other byte of it.

    Raises:
        Failure: permanent ``unsigned``, ``bad_signature``, ``unknown_key``, ``signature_support_missing``.
    """
    if model.signature is None or model.name in work.signatures:
        return
    cancel = work.cancel_of(model.name)
    work.signatures[model.name] = fetch_signatures(work.world, work.desired, model, work.targets(model), cancel)


def vouch_for(work: Work, name: str, spec_digest: Digest, rows: Sequence[FileRow]) -> Vouch:
    """Who vouches for what is about to be placed; nobody, where the manifest does not ask.

    Raises:
        Failure: as :func:`prepare`.
    """
    model = work.models.get(name)
    rule = model.signature if model is not None else None
    if model is None or rule is None:
        return Vouch()
    known = work.vouched.get(name) or _remembered(work, model, spec_digest, rows)
    if known is None:
        prepare(work, model)
        files = [_signed_file(work, model, row) for row in rows]
        known = vouch(model, rule, work.signatures[name], files)
    work.vouched[name] = known
    return known


def _signed_file(work: Work, model: DesiredModel, row: FileRow) -> SignedFile:
    is_cancelled = work.cancel_of(model.name).is_set
    return SignedFile(row.path, work.world.store.blob_path(row.digest), row.digest, row.size_bytes, is_cancelled)


def _remembered(work: Work, model: DesiredModel, spec_digest: Digest, rows: Sequence[FileRow]) -> Vouch | None:
    """What an earlier pass found of the very same files under the very same rule and keys."""
    row = work.ledger.revisions.get(model.name, spec_digest)
    if row is None or model.signature is None or not row.signed_by:
        return None
    under = rule_digest(model.signature, dict(key_facts(work.desired)))
    same = {(file.path, file.digest) for file in row.files} == {(file.path, file.digest) for file in rows}
    return Vouch(row.signed_by, row.signed_under) if same and row.signed_under == under else None


def forget_refused(work: Work, model: DesiredModel, rows: Sequence[FileRow]) -> None:
    """Bytes that nobody vouches for do not stay in the store, unless another model is made of them."""
    for row in rows:
        if not work.is_needed(row.digest, model.name) and not work.is_referenced(row.digest):
            work.world.store.remove_blob(row.digest)


def vouch_for_foreign(work: Work, model: DesiredModel, stranger: StoredModel) -> None:
    """Files that somebody else placed are taken over only where they are signed as the manifest asks.

    Raises:
        Failure: as :func:`prepare`.
    """
    if model.signature is None:
        return
    prepare(work, model)
    cancel, store = work.cancel_of(model.name), work.world.store
    files = []
    for file in stranger.files:
        place = store.placed_path(stranger.name, file.path)
        digest = store.hash_file(place, None, cancel).digest
        files.append(SignedFile(file.path, place, digest, file.size_bytes, cancel.is_set))
    work.vouched[model.name] = vouch(model, model.signature, work.signatures[model.name], files)
