"""Shared pieces of these tests lie one folder up: faulty.py, servers.py, fetching.py."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from fetching import Case


@pytest.fixture
def case(tmp_path):
    folder = tmp_path / "partial"
    folder.mkdir()
    made = Case(folder)
    yield made
    if made.engine is not None:
        made.engine.close()
