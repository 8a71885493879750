"""Models as code: make a machine hold the models that a manifest names.

The library in three lines::

    from reconciler import Reconciler, load_manifest
    with Reconciler(load_manifest("models.yaml")) as reconciler:
        reconciler.apply()

The package is read top down: :mod:`reconciler.cli` parses a command, :mod:`reconciler.reconcile` runs one pass
(observe, plan, guard, execute), :mod:`reconciler.core` decides, :mod:`reconciler.adapters` touches the world.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Reconciler", "__version__", "load_manifest"]

if TYPE_CHECKING:
    from reconciler.library import Reconciler, load_manifest


def __getattr__(name: str) -> Any:
    """Import the library only when it is used: ``reconciler version`` must not pay for it."""
    if name in ("Reconciler", "load_manifest"):
        from reconciler import library  # noqa: PLC0415

        return getattr(library, name)
    raise AttributeError(f"module 'reconciler' has no attribute {name!r}")
