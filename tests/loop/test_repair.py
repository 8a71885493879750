"""Drift of a big file through the command: only what is bad comes over the network, and the bad copy is kept aside."""

import os
import random
import shutil

import pytest
from watching import eventually, watching

MIB = 1 << 20
BODY = random.Random(3).randbytes(12 * MIB + 12_345)


@pytest.fixture
def placed(machine):
    """A converged machine with one big model, at the origin's count of zero."""
    machine.digest = machine.model("big", BODY)
    machine.apply()
    machine.origin.forget()
    return machine


def flip(machine, *places):
    """Change single bytes; who can do that can also set the time back, as a failing disk does."""
    path = machine.placed("big")
    stat = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(bytes([BODY[place] ^ 1]))
    path.chmod(0o444)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def cut(machine, size, then_grow=False):
    path = machine.placed("big")
    path.chmod(0o644)
    os.truncate(path, size)
    if then_grow:
        os.truncate(path, len(BODY))


def aside(machine):
    return [path.read_bytes() for path in (machine.store / "quarantine").iterdir()]


def check(machine, at_most):
    assert machine.has("big", machine.digest)
    assert 0 < machine.origin.sent <= at_most
    assert machine.partials() == []
    assert len(aside(machine)) == 1
    assert aside(machine)[0] != BODY
    machine.origin.forget()
    assert machine.plan()["summary"]["changes"] == 0


def test_flipped_bytes_are_found_by_verify_and_mended_by_apply(placed):
    flip(placed, 0, 5 * MIB + 7, len(BODY) - 1)
    placed.run("verify", code=4)
    assert placed.origin.sent == 0
    placed.apply()
    check(placed, 2 * MIB + 12_345)


def test_verify_repairs_at_once_where_it_is_told_to(placed):
    flip(placed, 3 * MIB)
    placed.run("verify", "--repair")
    check(placed, MIB)


@pytest.mark.parametrize("harm", [lambda machine: flip(machine, 3 * MIB), lambda machine: cut(machine, 9 * MIB)])
def test_a_bad_copy_gives_way_where_its_own_repair_needs_the_room(placed, harm):
    placed.head["cache"]["maxSize"] = "20MiB"
    placed.apply()
    harm(placed)
    placed.run("verify", code=4)
    done = placed.apply()
    assert [outcome["kind"] for outcome in done["outcomes"]] == ["evict", "download"]
    assert placed.has("big", placed.digest)
    assert aside(placed) == []
    assert placed.plan()["summary"]["changes"] == 0


def test_a_bad_copy_in_its_place_gives_way_to_its_repair(placed):
    placed.head["cache"]["maxSize"] = "20MiB"
    cut(placed, 9 * MIB)
    done = placed.apply()
    assert [outcome["kind"] for outcome in done["outcomes"]] == ["evict", "download"]
    assert placed.has("big", placed.digest)
    assert aside(placed) == []


def test_bad_copies_go_before_any_model_where_the_limit_is_lowered(placed):
    small = placed.model("small", b"small" * 1000)
    cut(placed, 9 * MIB)
    placed.apply()
    assert len(aside(placed)) == 1
    placed.head["cache"]["maxSize"] = "13MiB"
    done = placed.apply()
    assert [(outcome["kind"], outcome["model"]) for outcome in done["outcomes"]] == [("evict", "big")]
    assert aside(placed) == []
    assert placed.has("big", placed.digest)
    assert placed.has("small", small)


def lose(machine, *, blob=True, placed=True):
    if placed:
        machine.placed("big").unlink()
    if blob:
        machine.blob(machine.digest).unlink()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lose, "missing"),
        (lambda machine: shutil.rmtree(machine.placed("big").parent), "unplaced"),
        (lambda machine: (lose(machine, blob=False), machine.placed("big").symlink_to("/etc/passwd")), "unplaced"),
        (lambda machine: (lose(machine, blob=False), machine.placed("big").write_bytes(b"other")), "unplaced"),
        (lambda machine: machine.placed("big").chmod(0o644), "unplaced"),
    ],
    ids=["gone", "folder gone", "link in its place", "other content in its place", "mode"],
)
def test_verify_tells_what_is_not_there_and_mends_it_only_where_it_is_told_to(placed, harm, reason):
    harm(placed)
    for names in ((), ("big",), ()):
        found = placed.run("verify", *names, code=4)["outcomes"]
        assert [(outcome["status"], outcome["reason"]) for outcome in found] == [("failed", reason)]
        assert not placed.has("big", placed.digest)
    assert reason in {told for told, _ in placed.told()}
    placed.run("verify", "--repair")
    assert placed.has("big", placed.digest)
    placed.run("verify")


def test_a_file_of_several_that_is_gone_is_told_and_equal_ones_are_told_apart(machine):
    bodies = {"x": b"same" * 2000, "y": b"same" * 2000, "z": b"another" * 1000}
    digests = {path: machine.origin.put(f"/{path}", body) for path, body in bodies.items()}
    files = [{"path": path, "source": f"{machine.origin.url}/{path}"} for path in bodies]
    machine.models["three"] = {"files": files}
    machine.apply()
    machine.run("verify")
    machine.placed("three", "z").unlink()
    machine.blob(digests["z"]).unlink()
    outcome = machine.run("verify", code=4)["outcomes"][0]
    assert (outcome["reason"], outcome["message"]) == ("missing", "z: not in the store any more")
    machine.run("verify", "--repair")
    assert machine.placed("three", "z").read_bytes() == bodies["z"]
    assert aside(machine) == []


def test_of_a_truncated_file_the_rest_is_fetched(placed):
    cut(placed, 10 * MIB + 5)
    placed.apply()
    check(placed, 2 * MIB + 12_345)


def test_a_hole_is_filled(placed):
    cut(placed, 9 * MIB, then_grow=True)
    placed.apply()
    check(placed, 3 * MIB + 12_345)


def test_a_file_whose_digest_nobody_declared_is_mended_too(placed):
    del placed.models["big"]["sha256"]
    placed.apply()
    flip(placed, 5 * MIB)
    placed.origin.forget()
    placed.run("verify", "--repair")
    check(placed, MIB)


def test_what_the_source_has_by_now_is_never_mixed_with_the_copy(placed):
    del placed.models["big"]["sha256"]
    placed.apply()
    cut(placed, 10 * MIB)
    newer = random.Random(4).randbytes(len(BODY))
    digest = placed.origin.put("/big.bin", newer)
    placed.apply()
    assert placed.has("big", digest)


def test_a_repair_that_cannot_be_made_leaves_nothing_bad_in_its_place(placed):
    cut(placed, 10 * MIB)
    placed.origin.answers["/big.bin"] = (503, {})
    placed.apply(code=4)
    assert not placed.placed("big").exists()
    assert placed.status("big")["state"] != "present"
    assert len(aside(placed)) == 1
    placed.origin.answers.clear()
    placed.run("poke")
    placed.apply()
    check(placed, 2 * MIB + 12_345)


def test_an_index_that_lies_costs_a_full_download_and_no_wrong_byte(placed):
    path = placed.placed("big")
    try:
        index = os.getxattr(path, "user.reconciler.chunks")
    except OSError:
        pytest.skip("this file system keeps no attributes")
    path.chmod(0o644)
    os.setxattr(path, "user.reconciler.chunks", index[:-8] + bytes(8))
    path.chmod(0o444)
    flip(placed, 11 * MIB + 3)
    placed.run("verify", "--repair")
    check(placed, 14 * MIB)


def test_a_file_without_an_index_is_fetched_whole(placed):
    path = placed.placed("big")
    path.chmod(0o644)
    try:
        os.removexattr(path, "user.reconciler.chunks")
    except OSError:
        pytest.skip("this file system keeps no attributes")
    path.chmod(0o444)
    flip(placed, 11 * MIB)
    placed.run("verify", "--repair")
    check(placed, len(BODY))
    assert placed.origin.sent == 0  # counted anew by check


def test_a_running_watch_fetches_only_what_is_bad(placed):
    with watching(placed, "--interval", "1h") as watch:
        watch.started()
        placed.placed("big").chmod(0o644)
        with placed.placed("big").open("r+b") as file:
            file.seek(4 * MIB)
            file.write(b"damage")
        eventually(lambda: placed.has("big", placed.digest))
    check(placed, MIB)
