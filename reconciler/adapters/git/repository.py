"""The bare repository that fetched commits are kept in: a cache that may be thrown away and made anew.

It holds one shallow commit per thing that is followed, under ``refs/reconciler/KEY/`` (KEY stands for URL and ref):
``candidate`` is what was fetched last, ``current`` the last commit that was found good. It has no work tree and no
hooks, and nothing of it is ever executed.
"""

import os
import shlex
import shutil
from collections.abc import Sequence
from urllib.parse import unquote

from reconciler.adapters.git.address import Address, is_commit
from reconciler.adapters.git.faults import DAMAGED, sort_failure
from reconciler.adapters.git.program import Program
from reconciler.core.errors import Failure, permanent, transient
from reconciler.core.os_errors import map_os_error
from reconciler.core.records import dataclass

MAX_PACKS = 50  # then it is made anew: cheaper than collecting garbage, and it is only one commit
_SHA256_DIGITS = 64
_FETCH = (
    *("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance"),
    *("--force", "--refmap="),
)


@dataclass(frozen=True, slots=True)
class Followed:
    """What is followed: ``ref`` None is the branch that the repository names itself. ``secrets`` are never quoted."""

    address: Address
    ref: str | None
    key: str
    secrets: tuple[str, ...] = ()

    @property
    def candidate(self) -> str:
        """The ref of what was fetched last."""
        return f"refs/reconciler/{self.key}/candidate"

    @property
    def current(self) -> str:
        """The ref of the last commit that was found good."""
        return f"refs/reconciler/{self.key}/current"

    @property
    def label(self) -> str:
        """For messages."""
        return f"{self.ref or 'HEAD'} of {self.address.label}"


def is_repository(folder: str) -> bool:
    """Whether something that git would take for a repository is there."""
    return os.path.isfile(os.path.join(folder, "HEAD"))  # noqa: PTH113, PTH118 -- the adapter speaks text


def is_grown(folder: str, limit_bytes: int) -> bool:
    """Whether so many fetches left so much that it should be made anew."""
    try:
        packs = os.listdir(os.path.join(folder, "objects", "pack"))  # noqa: PTH208, PTH118
    except OSError:
        return False
    return sum(name.endswith(".pack") for name in packs) > MAX_PACKS or size_bytes(folder) > limit_bytes


def size_bytes(folder: str) -> int:
    """What its files take now; those that vanish meanwhile do not count."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118
            except OSError:
                continue
    return total


def remove(folder: str) -> None:
    """Take a repository away, whatever is left of it."""
    shutil.rmtree(folder, ignore_errors=True)


def make(program: Program, algorithm: str = "sha1") -> None:
    """``git init --bare``, without the template's hooks; ``algorithm`` is what ids are made by.

    Raises:
        Failure: sorted, where the folder cannot be written.
    """
    what = f"cannot make a repository at {program.folder}"
    try:
        os.makedirs(program.folder, mode=0o700, exist_ok=True)  # noqa: PTH103
    except OSError as error:
        raise map_os_error(error, what) from error
    words = ["init", "--quiet", "--bare", "--template=", "--initial-branch=none", f"--object-format={algorithm}"]
    ran = program.run([*words, program.folder])
    if ran.code:
        raise sort_failure(ran.errors, what)


def fetch_commit(program: Program, followed: Followed) -> str:
    """Bring what is followed here where it is not; the commit's id. The repository is made where there is none.

    Raises:
        Failure: sorted; ``DAMAGED`` also where the ids here are made by another algorithm than the remote's.
    """
    is_new = not is_repository(program.folder)
    if is_new:
        make(program)  # git asks nobody without one
    name, there = _ask(program, followed)
    if is_new and len(there) == _SHA256_DIGITS:
        remove(program.folder)
        make(program, "sha256")
    if resolve(program, followed.candidate) != there:
        _fetch(program, followed, name)
    commit = resolve(program, f"{followed.candidate}^{{commit}}")
    if commit is None:
        raise permanent("git_ref_missing", f"{followed.label} is no commit", hint="name a branch, a tag or a commit")
    return commit


def resolve(program: Program, name: str) -> str | None:
    """The id of the object that ``name`` stands for here; None where there is none."""
    ran = program.run(["cat-file", "--batch-check=%(objectname)"], given=f"{name}\n".encode())
    if ran.code:
        raise transient(DAMAGED, f"the repository at {program.folder} is damaged", hint="it is made anew")
    found = ran.output.decode().strip()
    return found if is_commit(found) else None


def keep(program: Program, name: str, commit: str) -> None:
    """Remember ``commit`` under ``name``."""
    ran = program.run(["update-ref", "--no-deref", name, commit])
    if ran.code:
        raise sort_failure(ran.errors, f"cannot remember commit {commit[:12]}")


def _ask(program: Program, followed: Followed) -> tuple[str, str]:
    """(what to fetch, its id) as the remote has it now; nobody is asked about a commit, which never changes."""
    ref = followed.ref
    if ref is not None and is_commit(ref):
        return ref, ref
    full = ref is not None and ref.startswith("refs/")
    names = ["HEAD"] if ref is None else [ref] if full else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
    ran = program.run(["ls-remote", *_served_by(followed.address), "--", followed.address.url, *names])
    if ran.code:
        raise _failure(followed, ran.errors)
    lines = [line.split("\t") for line in ran.output.decode(errors="replace").splitlines()]
    found = {line[1]: line[0] for line in lines if len(line) == 2 and is_commit(line[0]) and line[1] in names}
    if not found:
        hint = "name a branch, a tag or a commit that is there"
        raise permanent("git_ref_missing", f"there is no {followed.label}", hint=hint)
    if len(found) > 1:
        hint = f"write {' or '.join(names)}"
        raise permanent("git_ref_ambiguous", f"{followed.label} is a branch and a tag", hint=hint)
    return next(iter(found.items()))


def _fetch(program: Program, followed: Followed, name: str) -> None:
    """One commit without its past; with it where the server cannot do otherwise."""
    target = f"+{name}:{followed.candidate}"
    errors = _try(program, followed, ["--depth=1"], [target])
    if errors and "does not support shallow" in errors:  # plain files behind a web server
        errors = _try(program, followed, [], [target])
    if errors and "unadvertised object" in errors:  # an old server gives commits only by the name of a branch
        spaces = [f"+refs/{kind}/*:refs/reconciler/{followed.key}/{kind}/*" for kind in ("heads", "tags")]
        errors = _try(program, followed, [], spaces)
        if not errors and resolve(program, f"{name}^{{commit}}") is not None:
            keep(program, followed.candidate, name)
            return
    if errors:
        raise _failure(followed, errors)


def _try(program: Program, followed: Followed, options: Sequence[str], targets: Sequence[str]) -> str:
    """Git's complaint; empty where it went well."""
    ran = program.run([*_FETCH, *_served_by(followed.address), *options, "--", followed.address.url, *targets])
    return (ran.errors.strip() or f"error: git fetch ended with {ran.code}") if ran.code else ""


def _served_by(address: Address) -> list[str]:
    """For a folder of this machine: git serves it also where another user owns it, since it was named.

    Git reads ``safe.directory`` from its own arguments, and hands no setting on to the program that serves the folder.
    It serves PATH, or what it finds at PATH/.git or PATH.git.
    """
    if address.scheme != "file":
        return []
    path = unquote(address.url.partition("://")[2]).rstrip("/")
    places = dict.fromkeys((path, os.path.realpath(path)))
    words = (shlex.quote(f"safe.directory={place}{end}") for place in places for end in ("", "/.git", ".git"))
    return [f"--upload-pack=git -c {' -c '.join(words)} upload-pack"]


def _failure(followed: Followed, errors: str) -> Failure:
    return sort_failure(errors, f"cannot fetch {followed.label}", followed.secrets)
