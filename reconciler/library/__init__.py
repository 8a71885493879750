"""The library: the same reconciler that the command runs, inside an application.

::

    from reconciler import Reconciler, load_manifest

    with Reconciler(load_manifest("models.yaml")) as reconciler:
        for action in reconciler.plan().actions:
            print(action.kind, action.model, action.message)
        reconciler.apply()
        model = open(reconciler.path("whisper-base"), "rb")

Reading never writes below the store. What changes the store takes the owner's lock for as long as it lasts.

Reading order: :mod:`manifests` → :mod:`opened` → :mod:`reading`, :mod:`marking` → :mod:`acting`, which has the class.
"""

from reconciler.library.acting import Reconciler
from reconciler.library.manifests import load_manifest, load_manifests

__all__ = ["Reconciler", "load_manifest", "load_manifests"]
