"""What installed packages bring: the entry points of a group, loaded one by one.

An entry point names an object, or a class or function without arguments that makes one. A package that cannot be
loaded, or whose object lacks a method of its kind, harms nobody: it is listed with its error, for ``doctor``, and
everything else goes on. What loads is used through a guard (:mod:`~reconciler.adapters.plugins.guarded`), so that a
stranger's mistake fails the one model it was made for, with a reason that names the package.

Most machines have no such package: whether one may be there is told from the entry points' own files, without
:mod:`importlib.metadata`, whose import alone takes as long as all of a small download.
"""

import functools
import os
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

from reconciler.adapters.plugins.guarded import Guarded, trouble_with
from reconciler.core.registry import Registration

SOURCES = "reconciler.sources"
FORMATS = "reconciler.formats"
ARCHIVES = "reconciler.archives"
RUNTIMES = "reconciler.runtimes"


def discover(group: str) -> tuple[Registration[Any], ...]:
    """What every installed package registers under ``group``, sorted by package and name.

    Classes and functions are called to make the item, but for runtimes: there the factory is the item.

    Args:
        group: an entry-point group such as ``reconciler.sources``.
    """
    path = tuple(sys.path)
    if not _may_be_there(path):
        return ()
    found = sorted(_installed(path).select(group=group), key=lambda entry: (_package(entry), entry.name))
    return tuple(_load(entry, group) for entry in found)


@functools.cache
def _installed(path: tuple[str, ...]) -> Any:  # noqa: ARG001 -- what is found depends on it
    """All entry points: looking through what is installed takes 5 ms, whatever the group."""
    from importlib.metadata import entry_points  # noqa: PLC0415 -- see above

    return entry_points()


@functools.cache
def _may_be_there(path: tuple[str, ...]) -> bool:
    """Whether any installed package may name one of our groups; True also where that cannot be told from files."""
    if any(hasattr(finder, "find_distributions") for finder in sys.meta_path if finder is not PathFinder):
        return True
    return any(_names_a_group(folder or ".") for folder in path)


def _names_a_group(folder: str) -> bool:
    try:
        names = os.listdir(folder)  # noqa: PTH208 -- names alone
    except FileNotFoundError:
        return False
    except OSError:
        return True  # a zip, or something that only importlib can read
    for name in names:
        if name.endswith((".dist-info", ".egg-info")):
            try:
                with open(f"{folder}/{name}/entry_points.txt", "rb") as file:  # noqa: PTH123 -- for every package
                    if b"[reconciler." in file.read():
                        return True
            except OSError:
                continue
        elif name.endswith(".egg"):
            return True
    return False


def discoverer(group: str) -> Callable[[], tuple[Registration[Any], ...]]:
    """:func:`discover` put off until a registry looks something up."""
    return lambda: discover(group)


def _load(entry: "EntryPoint", group: str) -> Registration[Any]:
    import inspect  # noqa: PLC0415 -- only where there is something

    package = _package(entry)
    try:
        item = entry.load()
        if group != RUNTIMES and (inspect.isclass(item) or inspect.isfunction(item)):
            item = item()
        trouble = trouble_with(item, group)
    except Exception as error:  # noqa: BLE001 -- a stranger's import may fail in any way
        trouble = f"{type(error).__name__}: {error}"
    if trouble:
        return Registration(entry.name, package, None, trouble)
    return Registration(entry.name, package, Guarded(item, entry.name, package))


def _package(entry: "EntryPoint") -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "(unknown)"
