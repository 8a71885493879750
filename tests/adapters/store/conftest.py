"""A real store in a real folder, and short ways to fill it."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from reconciler.adapters.store import Store

NOW = 1_800_000_000.0


@dataclass
class Bench:
    """A store and what tests do with it."""

    store: Store
    root: Path

    def blob(self, content: bytes):
        """Commit ``content``; its digest."""
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        partial = Path(self.store.partial_path("m", "f", digest))
        partial.write_bytes(content)
        self.store.commit(str(partial), digest, len(content))
        return digest

    def placed(self, model):
        """What a user finds below ``models/<model>``: path → content."""
        folder = self.root / "models" / model
        return {
            str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
        }

    def files_below(self, name):
        """Relative paths of all that is no folder."""
        folder = self.root / name
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.fixture
def bench(tmp_path):
    store = Store(str(tmp_path / "store"), lambda: NOW)
    store.create()
    return Bench(store, Path(store.root))


def allocated(path):
    return os.lstat(path).st_blocks * 512
