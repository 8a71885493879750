"""Every test of the loop has a machine and an origin of its own."""

import pytest
from hubs import hub_of
from machines import Machine, kinds
from origin import serving

__all__ = ["Machine", "kinds"]


@pytest.fixture
def origin():
    with serving() as server:
        yield server


@pytest.fixture
def machine(tmp_path, origin):
    return Machine(tmp_path, origin)


@pytest.fixture
def hub(machine):
    with hub_of(machine) as running:
        yield running
