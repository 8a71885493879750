"""A signature counts for the rule and the keys by which it was found good, and for no other."""

from dataclasses import replace

import pytest
from worlds import observed as an_observation

from reconciler.core.desired import Artifact, DesiredModel, DesiredState, SignatureRule
from reconciler.core.inventory import Inventory
from reconciler.core.plan import plan
from reconciler.core.stored import BlobFact, FileStat, StoredFile, StoredModel, StoreFacts
from reconciler.core.targets import assess
from reconciler.core.vouching import is_as_declared, is_inline, is_vouched, rule_digest
from reconciler.core.words import Condition, Digest, ExtractMode, SignatureKind

KEY = Digest("sha256:" + "1" * 64)
CONTENT = Digest("sha256:" + "2" * 64)
SPEC = Digest("sha256:" + "3" * 64)
RULE = SignatureRule(SignatureKind.MINISIGN, ("/keys/a.pub",))
KEYS = {"/keys/a.pub": KEY}
STAT = FileStat(1, 2, 10, 3)
MODEL = DesiredModel(
    "m", artifacts=(Artifact("m.bin", ("https://h/m.bin",), CONTENT, 10),), signature=RULE, spec_digest=SPEC
)
STORED = StoredModel("m", SPEC, (StoredFile("m.bin", CONTENT, 10, 4096, stat=STAT),))


def inventory(stored=STORED, keys=KEYS):
    world = an_observation()
    store = StoreFacts(models=(stored,), blobs=(BlobFact(CONTENT, 10, 4096, is_verified=True),), used_bytes=4096)
    return Inventory(replace(world, store=store, keys=tuple(keys.items())))


def test_the_rule_is_its_kind_and_its_keys_content_not_their_place():
    moved = replace(RULE, keys=("/elsewhere.pub",))
    assert rule_digest(RULE, KEYS) == rule_digest(moved, {"/elsewhere.pub": KEY})
    assert rule_digest(RULE, KEYS) != rule_digest(RULE, {"/keys/a.pub": CONTENT})
    assert rule_digest(RULE, KEYS) != rule_digest(replace(RULE, kind=SignatureKind.COSIGN), KEYS)


def test_a_key_that_cannot_be_read_is_no_rule():
    assert rule_digest(RULE, {}) == ""
    assert rule_digest(RULE, {"/keys/a.pub": Digest("")}) == ""


def test_a_key_may_be_written_out():
    inline = replace(RULE, keys=("RWQ" + "A" * 53,))
    assert is_inline(inline.keys[0])
    assert not is_inline("/keys/a.pub")
    assert rule_digest(inline, {}) != ""


def test_nobody_has_to_vouch_where_it_is_not_asked():
    assert is_vouched(replace(MODEL, signature=None), STORED, {})


@pytest.mark.parametrize(
    ("signer", "under", "is_good"), [("", "right", False), ("x", "wrong", False), ("x", "right", True)]
)
def test_a_revision_counts_as_signed_by_the_rule_in_force(signer, under, is_good):
    word = rule_digest(RULE, KEYS) if under == "right" else KEY
    assert is_vouched(MODEL, replace(STORED, signed_by=signer, signed_under=word), KEYS) is is_good


def test_a_model_in_the_store_is_checked_when_a_signature_is_asked_for():
    need = assess(MODEL, inventory(), STORED)
    assert need is not None
    assert need.reason == "signature_required"
    assert not need.fetch
    vouched = replace(STORED, signed_by="x", signed_under=rule_digest(RULE, KEYS))
    assert assess(MODEL, inventory(vouched), vouched) is None


def test_an_unpacked_model_is_fetched_again_to_check_its_archive():
    archive = Artifact("m.zip", ("https://h/m.zip",), KEY, 10)
    model = replace(MODEL, artifacts=(archive,), extract=ExtractMode.AUTO)
    need = assess(model, inventory(), STORED)
    assert need is not None
    assert [file.path for file in need.fetch] == ["m.zip"]
    assert need.is_extracted


def test_a_damaged_file_is_mended_before_anybody_asks_who_signed():
    damaged = replace(STORED, files=(replace(STORED.files[0], condition=Condition.DAMAGED),))
    need = assess(MODEL, inventory(damaged), damaged)
    assert need is not None
    assert need.reason == "damaged"


def test_the_plan_says_that_a_signature_has_to_be_checked():
    found = plan(DesiredState(models=(MODEL,)), inventory().observed)
    assert [(action.kind.value, action.reason, action.cause.value) for action in found.actions] == [
        ("link", "signature_required", "intent")
    ]


@pytest.mark.parametrize(
    ("digest", "is_unpacked", "is_right"), [("b", False, False), ("b", True, True), ("a", False, True)]
)
def test_the_same_spec_with_a_file_of_another_digest_than_declared_is_not_what_was_asked_for(
    digest, is_unpacked, is_right
):
    declared = Digest("sha256:" + "a" * 64)
    model = replace(MODEL, artifacts=(Artifact("m.bin", ("https://h/m.bin",), declared),), signature=None)
    file = StoredFile("m.bin", Digest("sha256:" + digest * 64), 5, 4096)
    stored = replace(STORED, spec_digest=model.spec_digest, files=(file,), is_unpacked=is_unpacked)
    assert is_as_declared(model, stored) is is_right
    assert is_as_declared(replace(model, artifacts=(Artifact("m.bin", ("https://h/m.bin",)),)), stored)
