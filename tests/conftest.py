"""What every test shares: no home folder, no proxy, no colour of the machine leaks in; CI forbids skipping."""

import os
import sys

import pytest
from hypothesis import settings

# CI judges a change, so it draws the same cases each time; a developer's run goes on looking for new ones. How long a
# case takes says nothing on a machine with other work, the first one least of all: it pays for the imports.
settings.register_profile("desk", deadline=None)
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")


def pytest_addoption(parser):
    parser.addoption("--life", type=int, action="append", help="the seed of one simulated life of the watch")


def pytest_configure(config):
    """The command is started hundreds of times: its modules are compiled once, and so are the tests themselves."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(config.cache.mkdir("bytecode"))
    sys.dont_write_bytecode = False


def pytest_ignore_collect(collection_path, config):
    """A file that is slow as a whole is not even imported for a run without: each worker would make its large bodies."""
    if config.option.markexpr != "not slow" or collection_path.suffix != ".py":
        return None
    return True if "\npytestmark = pytest.mark.slow\n" in collection_path.read_text() else None


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path_factory):
    """A test sees an empty home and none of the variables that change what the product does."""
    for name in list(os.environ):
        if (
            name.startswith(("RECONCILER_", "HF_", "AWS_", "OLLAMA_", "XDG_"))
            and name != "RECONCILER_TESTS_FORBID_SKIPS"
        ):
            monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NO_COLOR", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where the environment says so, a skipped test is a failed one: CI installs all that tests need."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("RECONCILER_TESTS_FORBID_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which is forbidden here: {report.longrepr}"
    return report
