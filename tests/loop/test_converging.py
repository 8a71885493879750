"""The loop on real files: what a pass brings about, and that a second one does nothing."""

import os
import re
import shutil
import subprocess

import pytest
from machines import kinds


def test_a_fresh_machine_becomes_what_the_manifest_says(machine):
    first, second = machine.model("alpha", b"a" * 5000), machine.model("beta", b"b" * 70_000, state="loaded")
    assert kinds(machine.plan()) == {"download": ["alpha", "beta"], "load": ["beta"]}
    result = machine.apply()
    assert result["summary"]["done"] == 3
    assert result["summary"]["bytes_downloaded"] == 75_000
    assert machine.has("alpha", first)
    assert machine.has("beta", second)
    assert machine.status("alpha")["state"] == "present"
    assert machine.status("beta")["state"] == "loaded"
    assert machine.partials() == []


def test_a_plan_estimates_its_time_from_what_this_machine_did_before(machine):
    machine.model("alpha", os.urandom(2 << 20))
    assert machine.plan()["summary"]["estimated_seconds"] is None
    machine.apply()
    machine.model("beta", os.urandom(2 << 20))
    assert 0 <= machine.plan()["summary"]["estimated_seconds"] < 60


def test_a_second_apply_asks_nobody_and_writes_nothing(machine):
    machine.model("alpha", b"a" * 5000)
    machine.apply()
    machine.origin.forget()
    log = machine.folder / "strace.txt"
    calls = "trace=openat,creat,write,pwrite64,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,link,linkat,"
    calls += "symlink,symlinkat,ftruncate,truncate,fsync,fdatasync,chmod,fchmod,fchmodat,utimensat,fallocate,setxattr"
    subprocess.run(
        ["strace", "-f", "-y", "-o", str(log), "-e", calls, *machine.command("apply")],
        check=True,
        capture_output=True,
        cwd=machine.folder,
    )
    assert machine.origin.requests == []
    store = str(machine.store)
    writes = [
        line
        for line in log.read_text().splitlines()
        if store in line and not (" openat(" in line and not re.search(r"O_WRONLY|O_RDWR|O_TRUNC", line))
    ]
    # the lock is opened for writing because a lock needs it; nothing is written to it
    assert [line for line in writes if "/lock>" not in line and '"lock"' not in line] == []


def test_equal_content_is_fetched_and_stored_once(machine):
    content = os.urandom(300_000)
    digest = machine.model("alpha", content)
    machine.models["beta"] = dict(machine.models["alpha"])
    machine.apply()
    assert machine.origin.asked("GET").count("/alpha.bin") == 1
    assert machine.placed("alpha").stat().st_ino == machine.placed("beta", "alpha.bin").stat().st_ino
    assert machine.blob(digest).stat().st_nlink == 3


def test_a_missing_placed_file_is_placed_again_without_asking_anybody(machine):
    digest = machine.model("alpha", b"a" * 5000)
    machine.apply()
    machine.origin.forget()
    machine.placed("alpha").unlink()
    plan = machine.plan()
    assert kinds(plan) == {"link": ["alpha"]}
    assert plan["actions"][0]["cause"] == "drift"
    machine.apply()
    assert machine.has("alpha", digest)
    assert machine.origin.requests == []


def test_lost_bytes_are_fetched_again(machine):
    digest = machine.model("alpha", b"a" * 5000)
    machine.apply()
    shutil.rmtree(machine.placed("alpha").parent)
    machine.blob(digest).unlink()
    assert kinds(machine.plan()) == {"download": ["alpha"]}
    machine.apply()
    assert machine.has("alpha", digest)


def test_a_flipped_byte_is_found_set_aside_and_repaired_in_one_apply(machine):
    digest = machine.model("alpha", b"a" * 5000)
    machine.apply()
    path = machine.placed("alpha")
    path.chmod(0o644)
    path.write_bytes(b"a" * 2000 + b"X" + b"a" * 2999)
    path.chmod(0o444)
    result = machine.apply()
    assert [outcome["kind"] for outcome in result["outcomes"]] == ["verify", "download"]
    assert machine.has("alpha", digest)
    assert len(list((machine.store / "quarantine").iterdir())) == 1


def test_a_truncated_file_is_repaired(machine):
    digest = machine.model("alpha", b"a" * 5000)
    machine.apply()
    machine.placed("alpha").chmod(0o644)
    os.truncate(machine.placed("alpha"), 100)
    machine.apply()
    assert machine.has("alpha", digest)


def test_a_replaced_file_is_set_aside_and_the_right_one_placed(machine):
    digest = machine.model("alpha", b"a" * 5000)
    machine.apply()
    machine.origin.forget()
    machine.placed("alpha").unlink()
    machine.placed("alpha").write_bytes(b"something else")
    machine.apply()
    assert machine.has("alpha", digest)
    assert machine.origin.requests == []
    assert [path.read_bytes() for path in (machine.store / "quarantine").iterdir()] == [b"something else"]


def test_a_changed_mode_is_drift(machine):
    digest = machine.model("alpha", b"a" * 5000)
    machine.apply()
    machine.placed("alpha").chmod(0o644)
    assert machine.plan()["summary"]["changes"] == 1
    machine.apply()
    assert machine.has("alpha", digest)
    assert machine.plan()["summary"]["changes"] == 0


def test_a_changed_digest_brings_a_new_revision_and_rollback_brings_the_old_one_back(machine):
    old = machine.model("alpha", b"old" * 1000)
    machine.apply()
    new = machine.model("alpha", b"new" * 1000)
    machine.apply()
    assert machine.has("alpha", new)
    assert machine.blob(old).exists()
    machine.origin.forget()
    machine.run("rollback", "alpha")
    assert machine.has("alpha", old)
    assert machine.origin.requests == []
    machine.apply()  # the manual decision holds until the manifest asks for something else
    assert machine.has("alpha", old)


def test_a_lost_database_is_rebuilt_without_a_request(machine):
    digests = {name: machine.model(name, name.encode() * 1000) for name in ("alpha", "beta")}
    machine.apply()
    machine.origin.forget()
    for path in machine.store.glob("state.db*"):
        path.unlink()
    machine.apply()
    assert machine.origin.requests == []
    assert all(machine.has(name, digest) for name, digest in digests.items())
    assert machine.plan()["summary"]["changes"] == 0
    assert ("ledger_rebuilt", "2 models of the store are known again") in machine.told()


@pytest.mark.parametrize("words", [("events",), ("status",), ("show", "alpha"), ("df",)])
def test_who_reads_a_lost_database_is_told_once_that_it_is_lost(machine, words):
    machine.model("alpha", b"a" * 1000)
    machine.apply()
    (machine.store / "state.db").write_bytes(b"no database " * 1000)
    machine.run(*words)
    assert machine.stderr.count("ledger_lost") == 1
    assert "the next apply rebuilds it" in machine.stderr
    assert machine.run("history", "alpha", code=1)["reason"] == "ledger_lost"


def test_a_new_database_of_a_new_store_is_not_called_rebuilt(machine):
    machine.model("alpha", b"a" * 1000)
    machine.apply()
    assert "ledger_rebuilt" not in {reason for reason, _ in machine.told()}


def test_a_corrupt_database_is_moved_aside_and_rebuilt(machine):
    digest = machine.model("alpha", b"a" * 5000, pin=True)
    machine.apply()
    machine.origin.forget()
    (machine.store / "state.db").write_bytes(b"not a database" * 500)
    machine.apply()
    assert machine.origin.requests == []
    assert machine.has("alpha", digest)
    assert machine.status("alpha")["pinned"]
    assert [path.name for path in machine.store.glob("state.db.corrupt*")]
    assert machine.plan()["summary"]["changes"] == 0


def test_what_leaves_the_manifest_stays_as_cache_and_prune_takes_it(machine):
    machine.model("alpha", b"a" * 5000)
    machine.model("beta", b"b" * 5000)
    machine.apply()
    del machine.models["beta"]
    machine.apply()
    assert machine.placed("beta").exists()
    assert kinds(machine.plan()) == {}
    machine.apply("--prune")
    assert not machine.placed("beta").parent.exists()
    assert machine.placed("alpha").exists()


def test_absent_evicts_at_once_and_the_catalogue_row_stays(machine):
    machine.model("alpha", b"a" * 5000)
    machine.model("beta", b"b" * 5000)
    machine.apply()
    machine.models["alpha"] = {"state": "absent"}
    assert machine.apply()["summary"]["bytes_freed"] == 8192
    assert not machine.placed("alpha").exists()
    assert machine.status("alpha")["state"] == "absent"
    assert machine.run("history", "alpha")["lifecycle"] == "evicted"


def test_links_are_made_and_a_strangers_file_is_not_replaced(machine):
    link, taken = machine.folder / "app" / "model.bin", machine.folder / "taken"
    machine.model("alpha", b"a" * 5000, links=[str(link)])
    machine.apply()
    assert link.resolve() == machine.placed("alpha").resolve()
    assert machine.plan()["summary"]["changes"] == 0
    taken.write_text("mine")
    machine.models["alpha"]["links"] = [str(link), str(taken)]
    machine.apply(code=3)
    assert taken.read_text() == "mine"


def test_foreign_files_are_left_alone_until_adopted(machine):
    digest = machine.model("alpha", b"a" * 5000)
    machine.write()
    folder = machine.store / "models" / "alpha"
    folder.mkdir(parents=True)
    (folder / "alpha.bin").write_bytes(b"a" * 5000)
    machine.apply(code=3)
    assert machine.origin.asked("GET") == []
    machine.run("adopt", "alpha")
    assert machine.has("alpha", digest)
    assert machine.plan()["summary"]["changes"] == 0


def test_bytes_brought_in_from_a_file_are_told(machine):
    path = machine.folder / "alpha.bin"
    path.write_bytes(b"a" * 5000)
    machine.models["alpha"] = {"source": f"file://{path}"}
    result = machine.apply()
    assert result["outcomes"][0]["bytes"] == result["summary"]["bytes_downloaded"] == 5000


def test_a_signed_url_is_used_again_though_nobody_remembers_its_query(machine):
    digest = machine.model("alpha", b"a" * 5000)
    machine.model("beta", b"b" * 5000)
    machine.models["alpha"]["source"] += "?sig=hush"
    machine.apply("--only", "beta")  # asks every source, and remembers what it said
    machine.apply()
    assert machine.has("alpha", digest)
    assert not any(b"hush" in path.read_bytes() for path in machine.store.glob("state.db*"))


def test_pruning_while_a_revision_is_replaced_keeps_the_new_one(machine):
    old = machine.model("alpha", b"old" * 1000)
    machine.apply()
    new = machine.model("alpha", b"new" * 1000)
    machine.apply("--prune")
    assert machine.has("alpha", new)
    machine.apply("--prune")
    assert machine.has("alpha", new)
    assert not machine.blob(old).exists()
