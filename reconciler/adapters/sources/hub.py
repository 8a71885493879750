"""``hf://ORG/REPO[:QUANT][@REVISION][/PATH]``: the Hugging Face Hub, or whatever HF_ENDPOINT names.

A branch or tag is resolved once to a commit; the files that come out name that commit, so that a later apply cannot see
another one. Without PATH it is the whole repository under its own paths, or what globs leave, or one quantization
(:mod:`~reconciler.adapters.sources.selection` has the rules). A PATH that is one shard brings its whole set; an index
brings the shards it lists, and one it lists that is not there fails the model rather than leave it with a hole.
"""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote

from reconciler.adapters.sources.hub_client import COMMIT, HubClient, HubFile, check_online
from reconciler.adapters.sources.selection import (
    complete_shards,
    is_index,
    needs_choice,
    pick_quant,
    quants_of,
    select,
)
from reconciler.core.desired import Artifact, DesiredModel
from reconciler.core.errors import Failure, permanent
from reconciler.core.names import check_collisions, check_path
from reconciler.core.observed import Resolution
from reconciler.core.ports import Location, SourceContext
from reconciler.core.records import dataclass
from reconciler.core.roles import assign_roles, role_by_name
from reconciler.core.words import Role

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REFERENCE = re.compile(
    rf"hf://({_NAME}(?:/{_NAME})?)(?::([A-Za-z0-9._-]*))?(?:@(refs/(?:pr|convert)/[^/]+|[^/@]+))?(?:/(.*))?", re.DOTALL
)
_PLAIN = "/:@+,=()"  # of a file's name, what a reference holds as it stands
Tree = dict[str, HubFile]


@dataclass(frozen=True, slots=True)
class HubReference:
    """What a hub URL says. ``quant`` is None where there is no colon; ``path`` is as written."""

    repo: str
    quant: str | None
    revision: str
    path: str

    @property
    def file(self) -> str:
        """The file that PATH names, decoded."""
        return unquote(self.path)

    @property
    def is_commit(self) -> bool:
        """Whether the revision can never mean anything else."""
        return COMMIT.fullmatch(self.revision) is not None


class HubSource:
    """Repositories of models on a hub."""

    name = "hub"
    schemes: tuple[str, ...] = ("hf",)

    def needs_resolving(self, artifact: Artifact) -> bool:
        """Unless it is one file of one commit, and its size is known."""
        url = next((url for url in artifact.sources if url.startswith("hf:")), "")
        if not url or not artifact.path or artifact.size_bytes is None:
            return True
        reference = parse(url)
        return not (reference.is_commit and reference.path)

    def resolve(self, model: DesiredModel, artifact: Artifact, url: str, context: SourceContext) -> Resolution:
        """The files of one commit. See :meth:`reconciler.core.ports.Source.resolve`."""
        reference = parse(url)
        client = HubClient(context, reference.repo)
        commit = reference.revision if reference.is_commit else client.commit_of(reference.revision)
        tree = client.tree(commit)
        reader = _TreeReader(client, commit, tree, model)
        files = reader.one_file(reference, artifact, url) if reference.path else reader.whole(reference, artifact)
        check_collisions([file.path for file in files], f"hf://{reference.repo}: repository file")
        return Resolution(model.name, model.spec_digest, tuple(files), revision=commit)

    def locate(self, artifact: Artifact, url: str, context: SourceContext) -> Location:
        """``ENDPOINT/REPO/resolve/COMMIT/PATH``; the token goes along as a header bound to the endpoint."""
        reference = parse(url)
        label = f"hf://{reference.repo}@{reference.revision}/{reference.path}"
        check_online(context.environment, label)
        if not reference.path:
            raise permanent("not_resolved", f"{label} stands for a whole repository", hint="it is resolved first")
        client = HubClient(context, reference.repo)
        return Location(
            client.file_url(reference.revision, reference.file),
            label,
            client.headers(),
            refresh=lambda: self.locate(artifact, url, context),
        )

    def fingerprint(self, url: str, context: SourceContext) -> str:
        """A word that changes when the repository does, or when the hub answers otherwise. Never raises."""
        try:
            reference = parse(url)
            client = HubClient(context, reference.repo)
            return f"{client.commit_of(reference.revision)}|{'token' if client.headers() else ''}"
        except Failure as failure:
            return f"failure:{failure.reason}"


def parse(url: str) -> HubReference:
    """Take a hub URL apart.

    Raises:
        Failure: permanent ``bad_source`` or ``hostile_name``.
    """
    match = _REFERENCE.fullmatch(url)
    if match is None:
        raise permanent("bad_source", "this is no hub reference", hint="hf://ORG/REPO[:QUANT][@REVISION][/PATH]")
    repo, quant, revision, path = match.groups()
    named = check_path(unquote(revision or "main"), "revision")  # published, it becomes the name of a file
    if path:
        check_path(unquote(path), "repository file")
    return HubReference(repo, quant, named, path or "")


@dataclass(frozen=True, slots=True)
class _TreeReader:
    """One resolve: the commit's tree and the model that takes files of it."""

    client: HubClient
    commit: str
    tree: Tree
    model: DesiredModel

    def one_file(self, reference: HubReference, artifact: Artifact, url: str) -> list[Artifact]:
        """PATH alone; with its siblings where it is a shard or an index."""
        path = reference.path if reference.path in self.tree else reference.file
        found = self.tree.get(path)
        if found is None:
            raise self._missing(check_path(path, "repository file"))
        concrete = self._url(path)
        first = replace(
            artifact,
            path=artifact.path or posixpath.basename(path),
            sources=tuple(concrete if source == url else source for source in artifact.sources) or (concrete,),
            digest=artifact.digest or found.digest,
            size_bytes=found.size_bytes if artifact.size_bytes is None else artifact.size_bytes,
        )
        folder = posixpath.dirname(first.path)
        siblings = [name for name in self._complete([path]) if name != path]
        return [first, *(self._sibling(name, path, folder, artifact.optional) for name in siblings)]

    def whole(self, reference: HubReference, artifact: Artifact) -> list[Artifact]:
        """The repository, or what the quantization or the globs leave of it."""
        names = list(self.tree)
        chosen = self._chosen(reference, names)
        has_globs = bool(self.model.include or self.model.exclude)
        kept = set(select(self._complete(chosen, is_narrowed=has_globs), (), self.model.exclude))
        if not kept:
            raise permanent(
                "no_files", f"hf://{reference.repo}: no file is left to take", hint="check include and exclude"
            )
        roles = assign_roles(sorted(kept))
        return [self._artifact(name, name, roles[name], artifact.optional) for name in sorted(kept)]

    def _chosen(self, reference: HubReference, names: list[str]) -> list[str]:
        has_globs = bool(self.model.include or self.model.exclude)
        if reference.quant is None and (has_globs or not needs_choice(names)):
            return select(names, self.model.include, self.model.exclude)
        pool = select(names, self.model.include, self.model.exclude)
        chosen = pick_quant(pool, reference.quant or "")
        if not chosen:
            there = ", ".join(quant for quant in quants_of(pool) if quant) or "none"
            raise permanent(
                "no_such_quantization",
                f"hf://{reference.repo} has no GGUF of quantization {reference.quant or 'any'}",
                hint=f"there are: {there}",
            )
        return chosen

    def _complete(self, names: Sequence[str], *, is_narrowed: bool = False) -> list[str]:
        """``names`` with every shard that they imply.

        Where globs narrowed the choice, an index alone implies nothing: ``include: ["*.json"]`` means what it says.

        Raises:
            Failure: permanent ``incomplete`` where the repository lacks one.
        """
        wanted = set(names)
        for name in names:
            wanted.update(complete_shards(name, self.tree))
        for name in [name for name in wanted if is_index(name) and name in self.tree]:
            listed = self._listed(name)
            if not is_narrowed or listed & wanted:
                wanted.update(listed)
        if missing := sorted(wanted - set(self.tree)):
            raise permanent(
                "incomplete",
                f"hf://{self.client.repo}@{self.commit} lacks {len(missing)} shard(s), the first is {missing[0]}",
                hint="choose another revision, or exclude the index where it is a leftover",
            )
        return sorted(wanted)

    def _listed(self, index: str) -> set[str]:
        """The files that a weight map names, checked like every other name."""
        value: Any = self.client.read(self.commit, index)
        weights = value.get("weight_map") if isinstance(value, dict) else None
        if not isinstance(weights, dict) or not all(isinstance(name, str) for name in weights.values()):
            raise permanent("bad_index", f"hf://{self.client.repo}@{self.commit}/{index} has no weight map")
        folder = posixpath.dirname(index)
        names = {check_path(name, "weight map entry") for name in set(weights.values())}
        return {posixpath.join(folder, name) for name in names}

    def _sibling(self, name: str, beside: str, folder: str, optional: bool) -> Artifact:
        path = posixpath.join(folder, posixpath.relpath(name, posixpath.dirname(beside) or "."))
        return self._artifact(name, check_path(path), role_by_name(name), optional)

    def _artifact(self, name: str, path: str, role: Role, optional: bool) -> Artifact:
        file = self.tree[name]
        return Artifact(path, (self._url(name),), file.digest, file.size_bytes, role, optional)

    def _url(self, name: str) -> str:
        return f"hf://{self.client.repo}@{self.commit}/{quote(name, safe=_PLAIN)}"

    def _missing(self, path: str) -> Failure:
        near = [name for name in self.tree if posixpath.basename(name) == posixpath.basename(path)]
        hint = f"there is {near[0]}" if near else "check the path; the hub lists the files of the repository"
        return permanent("not_found", f"hf://{self.client.repo}@{self.commit} has no file {path}", hint=hint)
