"""``source`` and ``files``: the artifacts of one model."""

from bisect import bisect_left

from reconciler.adapters.manifest.border import Border
from reconciler.adapters.manifest.findings import describe, quoted
from reconciler.adapters.manifest.tree import BROKEN, Node
from reconciler.core.desired import Artifact
from reconciler.core.errors import Failure
from reconciler.core.names import check_collisions, check_path
from reconciler.core.reference import Reference
from reconciler.core.units import parse_size
from reconciler.core.words import Digest, Role

_MAX_COLLISIONS = 5  # told one by one


def parse_single(node: Node, path: str, border: Border) -> tuple[Artifact, ...]:
    """The one artifact of a model with ``source``: a file named after its first source, or a tree (path empty)."""
    references = _references(node.child("source"), f"{path}.source", border)
    if not references:
        return ()
    first, at = references[0]
    if first.is_tree:
        digest = node.child("sha256")
        if digest is not None:
            hint = "a repository, prefix or image is pinned by its commit, version or digest"
            border.findings.add(digest.key_place, "sha256 for a whole tree", "sha256 for single files", hint=hint)
        name = ""
    else:
        name = _file_name(first, at, f"{path}.source", border)
    return (_artifact(node, name, references, path, border, Role.PRIMARY),)


def parse_files(node: Node, path: str, border: Border) -> tuple[Artifact, ...]:
    """The artifacts of a model with ``files``; without any role the first is the primary one."""
    entries = [(index, child) for index, child in enumerate(node.value) if child.kind == "object"]
    has_primary = any((role := child.child("role")) is not None and role.value == "primary" for _, child in entries)
    artifacts: list[tuple[Artifact, Node]] = []
    for index, child in entries:
        role = Role.COMPANION if has_primary or artifacts else Role.PRIMARY
        artifact = _file(child, f"{path}.files[{index}]", border, role)
        if artifact is not None:
            artifacts.append((artifact, child))
    if entries and all(artifact.optional for artifact, _ in artifacts) and len(artifacts) == len(entries):
        border.findings.add(node.key_place, f"{path} with nothing but optional files", "a file that is required")
    _collisions(artifacts, border)
    return tuple(artifact for artifact, _ in artifacts)


def _file(node: Node, path: str, border: Border, role: Role) -> Artifact | None:
    references = _references(node.child("source"), f"{path}.source", border)
    if not references:
        return None
    first, at = references[0]
    if first.is_tree:
        expected = "the source of one file; a whole tree is the source: of a model"
        border.findings.value(at, f"{path}.source", expected)
        return None
    named = node.child("path")
    if named is None:
        name = "" if node.has("path") else _file_name(first, at, f"{path}.source", border)
    else:
        name = _given_path(named, f"{path}.path", border)
    return _artifact(node, name, references, path, border, role) if name else None


def _artifact(
    node: Node, name: str, references: list[tuple[Reference, Node]], path: str, border: Border, role: Role
) -> Artifact:
    first = references[0][0]
    for reference, at in references[1:]:
        if reference.is_tree != first.is_tree:
            kinds = ("a single file", "a whole tree")
            border.findings.value(at, f"{path}.source", f"{kinds[first.is_tree]}, as the first source is")
    digest, size, given_role, optional = (node.child(key) for key in ("sha256", "size", "role", "optional"))
    no_size: int | None = None
    return Artifact(
        path=name,
        sources=tuple(reference.url for reference, _ in references),
        digest=None if digest is None else Digest(f"sha256:{digest.value[-64:].lower()}"),
        size_bytes=border.convert(size, f"{path}.size", parse_size, no_size),
        role=role if given_role is None else Role(given_role.value),
        optional=optional is not None and optional.value is True,
    )


def _references(node: Node | None, path: str, border: Border) -> list[tuple[Reference, Node]]:
    """Those sources that read well, each with its place; a source that stands there twice is a problem."""
    if node is None:
        return []
    is_list = node.kind == "array"
    found: list[tuple[Reference, Node]] = []
    for index, child in enumerate(node.value if is_list else [node]):
        where = f"{path}[{index}]" if is_list else path
        if child.kind == BROKEN or (reference := border.reference(child, where)) is None:
            continue
        if any(reference.url == other.url for other, _ in found):
            border.findings.value(child, where, "every source once")
            continue
        found.append((reference, child))
    return found


def _file_name(reference: Reference, node: Node, path: str, border: Border) -> str:
    try:
        return reference.file_name
    except ValueError as error:
        border.findings.value(node, path, str(error))
        return ""


def _given_path(node: Node, path: str, border: Border) -> str:
    try:
        return check_path(node.value)
    except Failure as failure:
        trouble = failure.message.rpartition(repr(node.value)[-1:])[2].strip() or "is not safe"
        border.findings.value(node, path, f"a relative path below the model's folder; this one {trouble}")
        return ""


def _collisions(artifacts: list[tuple[Artifact, Node]], border: Border) -> None:
    """Paths that no file system may tell apart, or one of which is the folder of another."""
    left = list(artifacts)
    for _ in range(_MAX_COLLISIONS):
        paths = [artifact.path for artifact, _ in left]
        if not _trouble(paths):
            return
        # The shortest run of paths that collides ends with the one to name.
        end = bisect_left(range(len(paths)), 1, key=lambda last: bool(_trouble(paths[: last + 1])))
        other = _trouble(paths[: end + 1]).rpartition("collides with ")[2]
        artifact, node = left.pop(end)
        at = node.child("path") or node.child("source") or node
        found = f"the path {quoted(artifact.path)}, which collides with {other}"
        if any(child.shown is not None for _, entry in artifacts for child in entry.value.values()):
            found = f"the path {describe(at)}, which collides with another"  # it may come from the environment
        border.findings.add(at.place, found, "paths that differ in more than case or Unicode form")


def _trouble(paths: list[str]) -> str:
    try:
        check_collisions(paths)
    except Failure as failure:
        return failure.message
    return ""
