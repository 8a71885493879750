"""What installed packages bring: the entry points of a group, loaded one by one.

An entry point names an object, or a class or function without arguments that makes one. A package that cannot be
loaded harms nobody: it is listed with its error, for ``doctor``, and everything else goes on.
"""

import inspect
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from reconciler.core.registry import Registration

SOURCES = "reconciler.sources"
FORMATS = "reconciler.formats"
ARCHIVES = "reconciler.archives"
RUNTIMES = "reconciler.runtimes"


def discover(group: str, *, make: bool = True) -> tuple[Registration[Any], ...]:
    """What every installed package registers under ``group``, sorted by package and name.

    Args:
        group: an entry-point group such as ``reconciler.sources``.
        make: whether classes and functions are called to make the item; False where the factory is the item.
    """
    found = sorted(entry_points(group=group), key=lambda entry: (_package(entry), entry.name))
    return tuple(_load(entry, make=make) for entry in found)


def discoverer(group: str, *, make: bool = True) -> Callable[[], tuple[Registration[Any], ...]]:
    """:func:`discover` put off until a registry looks something up."""
    return lambda: discover(group, make=make)


def _load(entry: EntryPoint, *, make: bool) -> Registration[Any]:
    package = _package(entry)
    try:
        item = entry.load()
        if make and (inspect.isclass(item) or inspect.isfunction(item)):
            item = item()
    except Exception as error:  # noqa: BLE001 -- a stranger's import may fail in any way
        return Registration(entry.name, package, None, f"{type(error).__name__}: {error}")
    return Registration(entry.name, package, item)


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "(unknown)"
