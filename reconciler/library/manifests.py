"""Manifests for an application: read, merged and checked, from files or from Git."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence

from reconciler.adapters import manifest
from reconciler.core.desired import DesiredState
from reconciler.core.errors import ManifestInvalid, permanent
from reconciler.core.git_place import Reach
from reconciler.core.ports import CancelToken
from reconciler.resolve import NEVER
from reconciler.sourcing import find_place, load_from_git, with_files
from reconciler.world import installed_extensions


def load_manifest(  # noqa: PLR0913 -- one value each for what, where and how far
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    environ: Mapping[str, str] | None = None,
    *,
    is_locked: bool = True,
    extensions: Callable[[], manifest.Extensions] = installed_extensions,
    store: str | None = None,
    reach: Reach = Reach.LOOK,
    cancel: CancelToken | None = None,
) -> DesiredState:
    """Read, merge and check manifests; with no paths, the default ones.

    Args:
        paths: files and folders, as ``-f`` names them.
        environ: where ``${NAME}`` is looked up; the process environment where None.
        is_locked: with the lock file beside them.
        extensions: schemes, formats and runtimes beyond ours: those of installed packages, or a Reconciler's own.
        store: of a bootstrap file, where the last good commit is kept; None for the default.
        reach: of a bootstrap file, how far to go for the manifest in Git.
        cancel: ends that fetch.

    Raises:
        ManifestInvalid: with every problem and its place.
        Failure: ``manifest_missing`` where there is none; ``cancelled``.
    """
    named = [paths] if isinstance(paths, str | os.PathLike) else paths
    names = [os.fspath(name) for name in named]
    environment = dict(os.environ if environ is None else environ)
    stdin = sys.stdin.buffer if "-" in names else None
    try:
        place, bootstrap = find_place(names, environment)
        if place is not None:
            if not is_locked:
                hint = "lock in a checkout of the repository, and commit models.lock.json beside the manifest"
                raise permanent("manifest_in_git", "the manifest lies in Git, and its lock file with it", hint=hint)
            return with_files(load_from_git(place, store, environment, reach, cancel=cancel or NEVER)[0], bootstrap)
        here = os.getcwd()  # noqa: PTH109 -- the adapter speaks text
        return manifest.load(names, environment, here, stdin, extensions, is_locked=is_locked)
    except ManifestInvalid as invalid:
        if not names and invalid.problems[0].found == "no manifest":
            invalid.reason = "manifest_missing"
        raise


def load_manifests(
    hosts: Sequence[str],
    paths: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    *,
    store: str | None = None,
    reach: Reach = Reach.LOOK,
) -> tuple[DesiredState, ...]:
    """The manifest as each of these machines reads it: one in Git may have a file of its own for each host name.

    Arguments and errors are those of :func:`load_manifest`.
    """
    environment = dict(os.environ if environ is None else environ)
    place, bootstrap = find_place(paths, environment)
    if place is None:
        return (load_manifest(paths, environment),) * len(hosts)
    return tuple(with_files(desired, bootstrap) for desired in load_from_git(place, store, environment, reach, hosts))
