"""The command in-process and as a process, over a stand-in for the library."""

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest
from stub_process import HERE, command


@dataclass
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import stub_library  # noqa: PLC0415 -- its folder has just become importable

    monkeypatch.setitem(sys.modules, "reconciler.library", stub_library)
    return stub_library


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder with a manifest of two models and a store that holds one of them."""
    store = tmp_path / "store"
    store.mkdir()
    (store / "small").write_text("whole")
    (tmp_path / "models.yaml").write_text("small 1000\nlarge 4700000000\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECONCILER_STORE", str(store))
    for name in ("RECONCILER_LOG_FORMAT", "RECONCILER_LOG_LEVEL", "RECONCILER_DEBUG", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def run(stub, site, capsys):
    """Call ``main`` with arguments; what it returned and printed."""
    from reconciler.cli import main  # noqa: PLC0415 -- after the library was replaced

    def call(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


@pytest.fixture
def process(site):
    """Run the command as a process."""

    def call(*arguments, **settings):
        env = os.environ | settings.pop("env", {})
        done = subprocess.run(
            command(*arguments), capture_output=True, text=True, timeout=60, cwd=site, env=env, check=False, **settings
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return call
