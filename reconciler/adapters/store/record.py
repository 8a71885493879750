"""What a model's folder itself remembers, so that a lost ledger can be rebuilt: one extended attribute, best effort.

The bytes are the caller's (compact JSON, at most some 3 KiB: ext4 keeps 4 KiB of attributes a file). They travel with
the folder when it is swapped, and are gone when it is removed.
"""

import os

from reconciler.adapters.store.folders import open_below, open_root, sync
from reconciler.adapters.store.layout import MODELS, RECORD_ATTRIBUTE
from reconciler.core.errors import Failure
from reconciler.core.names import check_segment


def set_record(tree_fd: int, record: bytes) -> bool:
    """Best effort: not every file system has extended attributes, and some bound them at 4 KiB a file."""
    if not record or not hasattr(os, "setxattr"):
        return False
    try:
        os.setxattr(tree_fd, RECORD_ATTRIBUTE, record)
    except OSError:
        return False
    return True


def write_record(root: str, model: str, record: bytes) -> bool:
    """Replace the record of a placed model; False where the file system keeps none, or it is not placed."""
    if read_record(root, model) == record:
        return True
    try:
        with open_root(root) as root_fd, open_below(root_fd, (MODELS, check_segment(model))) as tree_fd:
            is_written = set_record(tree_fd, record)
            sync(tree_fd, model)
            return is_written
    except (OSError, Failure):
        return False


def read_record(root: str, model: str) -> bytes | None:
    """The record a placed model's folder bears; None where it has none."""
    if not hasattr(os, "getxattr"):
        return None
    try:
        with open_root(root) as root_fd, open_below(root_fd, (MODELS, check_segment(model))) as tree_fd:
            return os.getxattr(tree_fd, RECORD_ATTRIBUTE)
    except (OSError, Failure):
        return None
