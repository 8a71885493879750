"""A manifest in Git: ask what the ref stands for, fetch that one commit, see who signed it, read the files.

A fetch that brings nothing new costs one question to the remote; a commit id that is here already costs none. What was
found good last is remembered in the bare repository itself, so that a start without network goes on with it. Whether
a manifest is valid its caller knows: a commit is good only where :data:`Judge` says so.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import field, replace

from reconciler.adapters.git.address import Address, check_path, check_ref, parse_address
from reconciler.adapters.git.faults import DAMAGED
from reconciler.adapters.git.program import Program, check_version
from reconciler.adapters.git.repository import (
    Followed,
    fetch_commit,
    is_grown,
    is_repository,
    keep,
    remove,
    resolve,
    size_bytes,
)
from reconciler.adapters.git.settings import git_environment, secret_headers
from reconciler.adapters.git.signature import check_signature, check_signers
from reconciler.adapters.git.tree import Document, Wanted, read_documents
from reconciler.core.errors import Failure, transient
from reconciler.core.os_errors import map_os_error
from reconciler.core.policies import Credential
from reconciler.core.ports import CancelToken
from reconciler.core.records import dataclass

MAX_MANIFEST_BYTES = 16 << 20
MAX_REPOSITORY_BYTES = 256 << 20
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class GitManifest:
    """The manifest of one commit: files as ``load_documents`` takes them, and the commit's whole id."""

    commit: str
    documents: tuple[Document, ...]


Judge = Callable[[GitManifest], bool]


@dataclass(frozen=True, slots=True)
class GitSource:
    """A manifest that lies in a Git repository.

    Attributes:
        url: https, ssh or file; http on loopback. Without user and secret.
        ref: a branch, tag, full ref name or whole commit id; None for the repository's own branch.
        path: of the manifest in the repository: a file, or a folder of ``*.yaml`` and ``*.yml``.
        folder: where the bare repository is kept; made where it is missing, owned by one process at a time.
        environment: of the process, for proxies, certificates and secrets by reference.
        hostname: whose ``devices/HOSTNAME.yaml`` beside the manifest is merged over it; empty for none.
        credential: for this host alone (an empty host is the URL's own); read again at every fetch.
        signers: an allowed-signers file (ssh) or a GnuPG key ring's folder; None where signatures do not matter.
        ssh: (private key file, known-hosts file), each None for the user's own.
        timeout_s: for one run of git.
        max_bytes: of all files of the manifest together.
        max_repository_bytes: of what a fetch may write to the disk.

    Raises:
        Failure: permanent ``git_url_refused``, ``git_ref_refused`` or ``git_path_refused``, at once.
    """

    url: str
    folder: str
    ref: str | None = None
    path: str = "models.yaml"
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    hostname: str = ""
    credential: Credential | None = None
    signers: str | None = None
    ssh: tuple[str | None, str | None] = (None, None)
    timeout_s: float = TIMEOUT_S
    max_bytes: int = MAX_MANIFEST_BYTES
    max_repository_bytes: int = MAX_REPOSITORY_BYTES
    address: Address = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", parse_address(self.url))
        if self.credential is not None and not self.credential.host:
            own = replace(self.credential, host=self.address.host, port=self.address.port)
            object.__setattr__(self, "credential", own)
        object.__setattr__(self, "ref", check_ref(self.ref))
        object.__setattr__(self, "path", check_path(self.path))
        object.__setattr__(self, "folder", os.path.abspath(self.folder))  # noqa: PTH100

    @property
    def label(self) -> str:
        """For people: ``https://host/path#ref``, without query and user."""
        return f"{self.address.label}#{self.ref}" if self.ref else self.address.label

    def fetch(self, cancel: CancelToken, is_good: Judge | None = None) -> GitManifest:
        """Bring what the ref stands for now, and read the manifest of that commit.

        Args:
            cancel: asked while git runs.
            is_good: asked about a commit that is news; where it says no, :meth:`offline` gives what it gave. None:
                whatever can be read is good.

        Raises:
            Failure: transient ``git_unreachable``, ``git_certificate``, ``git_timed_out``, ``cancelled``; permanent
                ``git_ref_missing``, ``git_ref_ambiguous``, ``git_path_missing``, ``git_not_a_file``,
                ``git_unauthorized``, ``git_repository_missing``, ``git_too_large``, …; refused ``git_unsigned``.
                What :meth:`offline` gives stays what it was.
        """
        followed, program = self._prepare(self.folder, cancel)
        check_version(program)
        self._settle()
        if not is_grown(self.folder, self.max_repository_bytes):
            try:
                return self._take(followed, program, is_good)[0]
            except Failure as failure:
                if failure.reason != DAMAGED:
                    raise
        return self._take_anew(cancel, is_good)

    def offline(self, cancel: CancelToken) -> GitManifest | None:
        """The manifest of the last commit of this URL and ref that was found good; None where there is none.

        Raises:
            Failure: permanent ``git_path_missing`` and the like, where the path is another than then; refused
                ``git_unsigned`` where the commit no longer has an allowed signer.
        """
        if not is_repository(self.folder):
            self._settle()
        if not is_repository(self.folder):
            return None
        followed, program = self._prepare(self.folder, cancel, with_secret=False)
        try:
            commit = resolve(program, f"{followed.current}^{{commit}}")
            return None if commit is None else self._read(followed, program, commit, tag=followed.current)
        except Failure as failure:
            if failure.reason != DAMAGED:
                raise
            return None

    def _prepare(self, folder: str, cancel: CancelToken, *, with_secret: bool = True) -> tuple[Followed, Program]:
        if self.signers is not None:
            check_signers(self.signers)
        credential = self.credential if with_secret else None
        headers, secrets = secret_headers(self.address, credential, self.environment)
        key = hashlib.sha256(f"{self.url}\n{self.ref or ''}".encode()).hexdigest()[:32]
        environment = git_environment(self.address, folder, self.environment, headers, self.signers, self.ssh)
        limit = size_bytes(folder) + self.max_repository_bytes
        program = Program(folder, environment, self.timeout_s, cancel, lambda: size_bytes(folder) > limit)
        return Followed(self.address, self.ref, key, secrets), program

    def _settle(self) -> None:
        """Finish what a crash may have left between taking the old repository away and putting the new one there."""
        fresh = f"{self.folder}.new"
        try:
            os.makedirs(os.path.dirname(self.folder), exist_ok=True)  # noqa: PTH103, PTH120
            if not os.path.lexists(self.folder) and is_repository(fresh):
                os.rename(fresh, self.folder)  # noqa: PTH104
            remove(fresh)
        except OSError as error:
            raise map_os_error(error, f"cannot keep the repository at {self.folder}") from error

    def _take(self, followed: Followed, program: Program, is_good: Judge | None) -> tuple[GitManifest, bool]:
        """The manifest, and whether its commit is the last good one now."""
        commit = fetch_commit(program, followed)
        manifest = self._read(followed, program, commit, tag=followed.candidate)
        found = resolve(program, followed.candidate)
        if found is None or found == resolve(program, followed.current):
            return manifest, True
        if is_good is not None and not is_good(manifest):
            return manifest, False
        keep(program, followed.current, found)
        return manifest, True

    def _take_anew(self, cancel: CancelToken, is_good: Judge | None) -> GitManifest:
        """Fetch into a new repository beside the old one, which stays until the new one is good."""
        fresh = f"{self.folder}.new"
        remove(fresh)
        followed, program = self._prepare(fresh, cancel)
        try:
            manifest, is_kept = self._take(followed, program, is_good)
        except Failure as failure:
            remove(fresh)
            if failure.reason == DAMAGED:
                raise transient("git_unreachable", failure.message, hint="the next try comes by itself") from failure
            raise
        if not is_kept:
            remove(fresh)
            return manifest
        remove(self.folder)
        self._settle()
        return manifest

    def _read(self, followed: Followed, program: Program, commit: str, *, tag: str) -> GitManifest:
        if self.signers is not None:
            check_signature(program, commit, tag, followed.ref)
        return GitManifest(commit, read_documents(program, commit, Wanted(self.path, self.hostname, self.max_bytes)))
