"""Shared pieces of these tests lie one folder up: faulty.py, servers.py, fetching.py."""

import shutil
import subprocess
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


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A key and a certificate for 127.0.0.1 that nobody trusts yet."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    command = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    where = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run(["openssl", *command.split(), *where], check=True, capture_output=True)
    return folder
