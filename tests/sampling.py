"""Which of several costly variants the default run takes: the first; the slow suite takes the others too."""

from typing import Any

import pytest


def others_slow(first: Any, *others: Any) -> list[Any]:
    """For ``pytest.mark.parametrize``; a tuple is one variant of several arguments."""
    values = (other if isinstance(other, tuple) else (other,) for other in others)
    return [first, *(pytest.param(*each, marks=pytest.mark.slow) for each in values)]
