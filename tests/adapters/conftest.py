"""A repository of a test's own, and what reads it."""

import os

import pytest
from git_made import Remote

from reconciler.adapters.git import GitSource


@pytest.fixture
def remote(tmp_path):
    return Remote(tmp_path / "remote")


@pytest.fixture
def source(remote, tmp_path):
    def make(url=None, **keys):
        keys = {"environment": {"PATH": os.environ["PATH"]}, "folder": str(tmp_path / "here" / "git")} | keys
        return GitSource(url or remote.url, **keys)

    return make
