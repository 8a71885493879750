"""Which of several costly variants the default run takes: the first; the slow suite takes the others too."""

from typing import Any

import pytest


def others_slow(first: Any, *others: Any) -> list[Any]:
    """For ``pytest.mark.parametrize``."""
    return [first, *(pytest.param(other, marks=pytest.mark.slow) for other in others)]
