"""``s3://``, ``gs://``, ``az://``: objects and prefixes of a bucket, one way for all three clouds.

The key is as written, never percent-decoded. A key that ends in ``/`` (or none) is a prefix: every object below it,
under its path relative to the prefix. Any other key is one object; where there is none of that name but objects below
it, it is taken as a prefix too. What differs from cloud to cloud (URLs, signatures, listing) is a :class:`Dialect`.

No cloud library: signing and listing are small, and one engine downloads everything.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

from reconciler.adapters.sources.objects import MAX_OBJECTS, ObjectFacts
from reconciler.adapters.sources.selection import select
from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.errors import Failure, permanent
from reconciler.core.names import check_collisions, check_path, quote
from reconciler.core.observed import Resolution
from reconciler.core.ports import Location, SourceContext
from reconciler.core.reference import display
from reconciler.core.roles import assign_roles


class Dialect(Protocol):
    """One cloud's way to say it."""

    @property
    def scheme(self) -> str:
        """Of the URLs it reads."""
        ...

    def look(self, bucket: str, key: str, context: SourceContext) -> ObjectFacts | None:
        """One object's facts; None where there is none of that name.

        Raises:
            Failure: sorted, for anything but "not there".
        """
        ...

    def walk(self, bucket: str, prefix: str, context: SourceContext) -> Iterator[ObjectFacts]:
        """Every object whose key starts with ``prefix``, page by page."""
        ...

    def place(self, bucket: str, key: str, context: SourceContext) -> tuple[str, tuple[tuple[str, str], ...]]:
        """URL and headers to GET one object with."""
        ...


class BucketSource:
    """Objects of one kind of bucket."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.name = dialect.scheme
        self.schemes: tuple[str, ...] = (dialect.scheme,)

    def needs_resolving(self, artifact: Artifact) -> bool:
        """Unless it is one object whose size is known."""
        return artifact.size_bytes is None or not artifact.path

    def resolve(self, model: DesiredModel, artifact: Artifact, url: str, context: SourceContext) -> Resolution:
        """The object, or the objects below the prefix. See :meth:`reconciler.core.ports.Source.resolve`."""
        bucket, key = parse(url)
        if key and not key.endswith("/"):
            facts = self._dialect.look(bucket, key, context)
            if facts is not None:
                return self._one(model, artifact, facts)
            key += "/"
        return self._tree(model, artifact, url, (bucket, key), context)

    def locate(self, artifact: Artifact, url: str, context: SourceContext) -> Location:
        """The object's URL, with signed headers for its origin where there are keys."""
        bucket, key = parse(url)
        target, headers = self._dialect.place(bucket, key, context)
        return Location(target, display(url), headers, refresh=lambda: self.locate(artifact, url, context))

    def fingerprint(self, url: str, context: SourceContext) -> str:
        """A word that changes when the object does, or when the cloud answers otherwise. Never raises."""
        try:
            bucket, key = parse(url)
            facts = self._dialect.look(bucket, key, context) if key else None
        except Failure as failure:
            return f"failure:{failure.reason}"
        return f"{facts.revision}|{facts.size_bytes}" if facts else "absent"

    def _one(self, model: DesiredModel, artifact: Artifact, facts: ObjectFacts) -> Resolution:
        file = replace(
            artifact,
            path=artifact.path or check_path(facts.key.rpartition("/")[2], "object key"),
            size_bytes=facts.size_bytes if artifact.size_bytes is None else artifact.size_bytes,
            digest=artifact.digest or facts.digest,
        )
        return Resolution(model.name, model.spec_digest, (file,), revision=facts.revision)

    def _tree(
        self, model: DesiredModel, artifact: Artifact, url: str, place: tuple[str, str], context: SourceContext
    ) -> Resolution:
        bucket, prefix = place
        found = {}
        for facts in self._dialect.walk(bucket, prefix, context):
            if not facts.key.startswith(prefix):
                raise permanent(
                    "hostile_name", f"{display(url)}: the listing names {quote(facts.key)}, which is outside"
                )
            if not facts.key.endswith("/"):  # an empty object that stands for a folder
                found[facts.key.removeprefix(prefix)] = facts
            if len(found) > MAX_OBJECTS:
                raise permanent("tree_too_large", f"{display(url)}: more than {MAX_OBJECTS} objects")
        what = f"{display(url)}: object key"
        chosen = {check_path(key, what): found[key] for key in select(found, model.include, model.exclude)}
        names = sorted(chosen)
        if not names:
            raise permanent("not_found", f"{display(url)}: there is no such object or prefix", hint="check the source")
        check_collisions(names, what)
        roles = assign_roles(names)
        files = tuple(
            Artifact(
                name,
                (f"{self.name}://{bucket}/{chosen[name].key}",),
                chosen[name].digest,
                chosen[name].size_bytes,
                roles[name],
                artifact.optional,
            )
            for name in names
        )
        listing = "\n".join(f"{name}\t{chosen[name].revision}\t{chosen[name].size_bytes}" for name in names)
        revision = hashlib.sha256(listing.encode()).hexdigest()[:16]
        return Resolution(model.name, model.spec_digest, files, revision=revision)


def parse(url: str) -> tuple[str, str]:
    """Bucket and key; the key may be empty.

    Raises:
        Failure: permanent ``bad_source``; ``hostile_name`` for a key that URL handling would bend (``.``, ``..``).
    """
    bucket, _, key = url.partition("://")[2].partition("/")
    if not bucket:
        raise permanent("bad_source", "this names no bucket", hint="s3://BUCKET/KEY")
    if any(segment in (".", "..") for segment in key.split("/")):
        raise permanent("hostile_name", f"object key {quote(key)} holds a dot segment")
    return bucket, key


def s3_source(now: Callable[[], float]) -> BucketSource:
    """Buckets of Amazon and its kin; ``now`` is the wall clock that signatures carry."""
    from reconciler.adapters.sources.s3 import S3Dialect  # noqa: PLC0415 -- one cloud at a time

    return BucketSource(S3Dialect(now))


def gcs_source() -> BucketSource:
    """Buckets of Google."""
    from reconciler.adapters.sources.gcs import GcsDialect  # noqa: PLC0415 -- one cloud at a time

    return BucketSource(GcsDialect())


def azure_source(now: Callable[[], float]) -> BucketSource:
    """Containers of Azure; ``now`` is the wall clock that signatures carry."""
    from reconciler.adapters.sources.azure import AzureDialect  # noqa: PLC0415 -- one cloud at a time

    return BucketSource(AzureDialect(now))
