"""A second server of the hub's API: olah, a mirror that others run, alone and two of them in a row."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import venv

import pytest
from hubs import FILES, hub_of
from machines import Machine
from origin import Origin
from servers import free_port, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="session")
def olah(tmp_path_factory):
    """The program, in an environment of its own: it wants other versions than we do."""
    folder = tmp_path_factory.mktemp("olah")
    venv.create(folder, with_pip=True)
    done = subprocess.run([folder / "bin" / "pip", "install", "-q", "olah"], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("the package index does not give olah")
    return folder / "bin" / "olah-cli"


@contextlib.contextmanager
def mirror(program, folder, upstream):
    """A mirror of the hub at ``upstream`` (host and port); its own host and port."""
    folder.mkdir()
    port = free_port()
    here = f"127.0.0.1:{port}"
    command = [
        program, "--host", "127.0.0.1", "--port", str(port), "--hf-scheme", "http", "--hf-netloc", upstream, "--hf-lfs-netloc", upstream,
        "--mirror-scheme", "http", "--mirror-netloc", here, "--mirror-lfs-netloc", here,
        "--repos-path", str(folder / "repos"), "--log-path", str(folder / "logs"),
    ]  # fmt: skip
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=folder)
    try:
        for _ in range(5):  # it takes longer to start than most
            with contextlib.suppress(AssertionError):
                wait_for(port, process, "olah")
                break
        yield here
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def hub(tmp_path):
    with hub_of(Machine(tmp_path, Origin())) as running:
        running.hub.cdn = ""  # a mirror fetches everything from one place
        yield running


@pytest.fixture(params=[1, 2])
def mirrored(hub, olah, tmp_path, request):
    """The hub's machine, asking over one mirror or over two in a row."""
    with contextlib.ExitStack() as stack:
        place = hub.server.netloc
        for number in range(request.param):
            place = stack.enter_context(mirror(olah, tmp_path / f"mirror{number}", place))
        hub.env["HF_ENDPOINT"] = f"http://{place}"
        yield hub


def test_a_repository_comes_over_mirrors_and_stays_at_its_commit(mirrored):
    mirrored.want("hf://org/repo")
    mirrored.apply()
    assert mirrored.placed() == FILES
    assert mirrored.machine.status("m")["revision"] == "c" * 40
    assert mirrored.apply()["outcomes"] == []


def has_a_finished_chunk(machine):
    return any(path.read_bytes().count(b"\n") > 1 for path in (machine.store / "partial").rglob("*.json"))


def test_a_download_over_mirrors_is_gone_on_with(mirrored):
    big = random.Random(5).randbytes(20 << 20)
    mirrored.repo.files["onnx/model.bin"] = big
    mirrored.want("hf://org/repo/onnx/model.bin")
    mirrored.machine.head["network"] = {"bandwidth": "4MB/s", "connections": 1}
    mirrored.machine.write()
    process = subprocess.Popen(
        [*mirrored.machine.command("apply")],
        env={**os.environ, **mirrored.env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 60
    while not has_a_finished_chunk(mirrored.machine) and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert mirrored.machine.partials()
    del mirrored.machine.head["network"]
    mirrored.apply()
    assert mirrored.placed() == {"model.bin": big}
    assert mirrored.machine.partials() == []


def test_the_hubs_own_client_reads_the_same_over_the_same_mirrors(mirrored, tmp_path):
    script = (
        "import sys; from huggingface_hub import snapshot_download; "
        "print(snapshot_download('org/repo', cache_dir=sys.argv[1], endpoint=sys.argv[2]))"
    )
    env = {**os.environ, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-c", script, str(tmp_path / "cache"), mirrored.env["HF_ENDPOINT"]]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    for name, data in FILES.items():
        with open(f"{done.stdout.strip().splitlines()[-1]}/{name}", "rb") as file:
            assert file.read() == data
