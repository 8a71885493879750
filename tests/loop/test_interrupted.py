"""What a crash or a failed sibling leaves behind is used: no byte comes over the network twice."""

import io
import os
import zipfile

from machines import kinds
from watching import eventually

BODY = os.urandom(3 << 20)


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def leave_blob(machine, digest, content):
    """As a kill leaves it between the blob's name and its proof."""
    path = machine.blob(digest)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    path.chmod(0o444)


def test_a_blob_without_proof_is_read_and_not_fetched(machine):
    digest = machine.model("m", BODY)
    leave_blob(machine, digest, BODY)
    assert kinds(machine.plan()) == {"link": ["m"]}
    machine.apply()
    assert machine.has("m", digest)
    assert machine.origin.sent == 0
    assert machine.apply()["outcomes"] == []


def test_a_bad_blob_without_proof_is_set_aside(machine):
    digest = machine.model("m", BODY)
    leave_blob(machine, digest, BODY[:-1] + b"x")
    machine.apply()
    assert machine.has("m", digest)
    assert len(list((machine.store / "quarantine").iterdir())) == 1
    assert machine.partials() == []


def want_two(machine, first=BODY, second=BODY[::-1]):
    """A model of two files that nobody declared."""
    files = []
    for name, content in (("a.bin", first), ("b.bin", second)):
        machine.origin.put(f"/{name}", content)
        files.append({"path": name, "source": f"{machine.origin.url}/{name}"})
    machine.models["m"] = {"files": files}


def fail_second(machine):
    want_two(machine)
    machine.origin.answers["/b.bin"] = (503, {})
    machine.apply(code=4)
    del machine.origin.answers["/b.bin"]
    machine.run("poke")
    machine.origin.forget()


def test_a_failed_file_does_not_cost_its_siblings(machine):
    fail_second(machine)
    machine.apply()
    assert machine.origin.asked("GET") == ["/b.bin"]
    assert machine.placed("m", "a.bin").read_bytes() == BODY
    assert machine.placed("m", "b.bin").read_bytes() == BODY[::-1]
    assert machine.apply()["outcomes"] == []


def test_a_file_that_changed_meanwhile_is_fetched_again(machine):
    fail_second(machine)
    machine.origin.put("/a.bin", BODY[1:] + b"x")
    machine.apply()
    assert sorted(machine.origin.asked("GET")) == ["/a.bin", "/b.bin"]
    assert machine.placed("m", "a.bin").read_bytes() == BODY[1:] + b"x"


def test_a_kill_does_not_cost_the_files_that_are_whole(machine):
    machine.origin.rate = 6 << 20
    want_two(machine, second=BODY * 4)
    running = machine.start("apply")
    eventually(lambda: list(machine.store.glob("blobs/sha256/*/*")))
    running.kill()
    running.communicate()
    machine.origin.rate = None
    machine.origin.forget()
    machine.apply()
    assert machine.origin.asked("GET") == ["/b.bin"]


def test_what_is_remembered_of_a_file_is_a_hint(machine):
    fail_second(machine)
    for path in machine.store.glob("blobs/sha256/*/*"):
        path.unlink()
    machine.apply()
    assert machine.placed("m", "a.bin").read_bytes() == BODY
    assert machine.partials() == []


def test_an_archive_without_digest_is_not_fetched_again_for_unpacking(machine):
    machine.origin.put("/z.zip", zipped({"x.bin": BODY, "y.bin": bytes(8 << 20)}))
    machine.models["z"] = {"source": f"{machine.origin.url}/z.zip", "extract": True}
    machine.head["cache"]["maxSize"] = "8MiB"
    machine.apply(code=4)
    machine.head["cache"]["maxSize"] = "64MiB"
    machine.run("poke")
    machine.origin.forget()
    machine.apply()
    assert machine.origin.asked("GET") == []
    assert machine.placed("z", "x.bin").read_bytes() == BODY
