"""Told by test_store_crash.py in a process of its own: every change a store knows, each step fit to be told twice."""

import hashlib
import os
import sys

from reconciler.adapters.store import Store
from reconciler.adapters.store import place as place_module
from reconciler.core.errors import Failure


def sha(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def tell(root):
    store = Store(root, lambda: 1e9)
    if os.path.exists(f"{root}/two-steps"):
        place_module.exchange = lambda *_, **__: False
    with store.acquire():
        store.sweep()
        new = sha(b"new f")
        partial = store.partial_path("NEW", "f", new)
        if store.stat_blob(new) is None or os.path.exists(partial):
            store.commit(partial, new, 5)
        known = {"f": sha(b"old f"), "sub/g": sha(b"old g")}
        store.place("m", [("f", new), ("sub/h", sha(b"shared"))], b"new", {**known, "sub/h": sha(b"shared")})
        store.unplace("gone", {"w": sha(b"shared"), "deep/er/x": sha(b"only here")})
        store.remove_blob(sha(b"only here"))
        store.remove_blob(sha(b"old g"))
        if store.stat_blob(sha(b"old f")) is not None:
            store.quarantine(sha(b"old f"), "story")
        store.adopt_file("hand", "made")


if __name__ == "__main__":
    try:
        tell(sys.argv[1])
    except Failure as failure:
        print(failure.reason)
        sys.exit(3)
