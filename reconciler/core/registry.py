"""What can be registered: sources, formats, archives, runtimes. One ordered list, the newest first.

Order is the whole policy: what code registered last comes first, then what installed packages bring, then what is built
in; the first that can handle a model is used. Packages are asked for only when something is looked up, since finding
them costs a walk over the installed distributions. How they are found is the shell's business
(:mod:`reconciler.adapters.plugins`); here they are values.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from reconciler.core.records import dataclass

T = TypeVar("T")
BUILT_IN = "reconciler"
BY_CODE = "(registered by code)"


@dataclass(frozen=True, slots=True)
class Registration(Generic[T]):
    """One registered thing. ``item`` is None where a package's entry point could not be loaded: ``error`` says why."""

    name: str
    package: str
    item: T | None
    error: str = ""


class Registry(Generic[T]):
    """Things of one kind, newest first.

    Args:
        built_in: what the product itself brings, the most preferred first.
        discover: asked once, at the first look-up, for what installed packages bring.
    """

    def __init__(
        self, built_in: Iterable[T] = (), discover: Callable[[], Iterable[Registration[T]]] | None = None
    ) -> None:
        self._by_code: tuple[Registration[T], ...] = ()
        self._built_in = tuple(Registration(_name(item), BUILT_IN, item) for item in built_in)
        self._discover = discover
        self._discovered: tuple[Registration[T], ...] | None = None

    def register(self, item: T, package: str = BY_CODE) -> None:
        """Put ``item`` before everything registered so far."""
        self._by_code = (Registration(_name(item), package, item), *self._by_code)

    def __iter__(self) -> Iterator[T]:
        """The usable items, newest first."""
        return (entry.item for entry in self.listing() if entry.item is not None)

    def find(self, can_handle: Callable[[T], bool]) -> T | None:
        """The newest item that can handle it, or None."""
        return next((item for item in self if can_handle(item)), None)

    def listing(self) -> tuple[Registration[T], ...]:
        """Everything, newest first, with the package it comes from; also what could not be loaded."""
        if self._discovered is None:
            self._discovered = tuple(self._discover()) if self._discover else ()
        return (*self._by_code, *self._discovered, *self._built_in)


def _name(item: object) -> str:
    """What ``doctor`` calls it: its own ``name`` or ``type``, else its class."""
    name = getattr(item, "name", None) or getattr(item, "type", None)
    return name if isinstance(name, str) else getattr(item, "__name__", type(item).__name__)
