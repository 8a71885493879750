"""A manifest in Git, on real repositories: which commit, which files, and what keeps the last good one."""

import os
import re
import threading
import time
from pathlib import Path

import pytest
from git_made import MANIFEST, Remote, git_after, git_server
from sampling import others_slow

from reconciler.adapters.git import split_ref, token_credential
from reconciler.core.errors import Failure, FailureKind
from reconciler.core.policies import Credential, SecretReference

NEVER = threading.Event()


def folder_of(made):
    return Path(made.folder)


@pytest.fixture
def server(remote):
    with git_server(remote.root) as found:
        yield found


def failing(source, cancel=NEVER):
    with pytest.raises(Failure) as caught:
        source.fetch(cancel)
    return caught.value


def texts(manifest):
    return [(label.partition(":")[2], data.decode()) for label, data, _ in manifest.documents]


def test_the_manifest_of_the_default_branch_is_read_with_its_commit(remote, source):
    remote.write("models.yaml")
    commit = remote.commit()
    manifest = source().fetch(NEVER)
    assert manifest.commit == commit
    assert manifest.documents == ((f"{commit[:12]}:models.yaml", MANIFEST.encode(), None),)


@pytest.mark.parametrize("transport", others_slow("http", "file"))
def test_a_branch_a_tag_and_a_commit_can_be_followed(remote, source, server, transport):
    url = remote.url if transport == "file" else server.url()
    remote.write("models.yaml", "# first\n")
    first = remote.commit()
    remote.git("tag", "-a", "-m", "one", "v1")
    remote.git("push", "-q", "origin", "v1")
    remote.write("models.yaml", "# second\n")
    second = remote.commit()
    remote.git("checkout", "-q", "-b", "release/7")
    remote.write("models.yaml", "# third\n")
    third = remote.commit()
    wanted = {"v1": first, "refs/tags/v1": first, first: first, "main": second, None: second, "release/7": third}
    for ref, commit in wanted.items():
        manifest = source(url, ref=ref).fetch(NEVER)
        assert manifest.commit == commit, ref
        text = {first: "# first\n", second: "# second\n", third: "# third\n"}[commit]
        assert texts(manifest) == [("models.yaml", text)]


def test_a_push_a_force_push_and_a_revert_are_followed(remote, source):
    remote.write("models.yaml", "# good\n")
    remote.commit()
    followed = source(ref="main")
    assert texts(followed.fetch(NEVER)) == [("models.yaml", "# good\n")]
    remote.write("models.yaml", "# bad\n")
    remote.commit()
    assert texts(followed.fetch(NEVER)) == [("models.yaml", "# bad\n")]
    remote.git("revert", "--no-edit", "HEAD")
    reverted = remote.commit()
    assert texts(followed.fetch(NEVER)) == [("models.yaml", "# good\n")]
    assert followed.fetch(NEVER).commit == reverted
    remote.git("reset", "-q", "--hard", "HEAD~2")
    remote.write("models.yaml", "# rewritten\n")
    rewritten = remote.commit()
    assert followed.fetch(NEVER).commit == rewritten


def test_nothing_new_costs_one_question_and_a_known_commit_none(remote, source, server):
    remote.write("models.yaml")
    commit = remote.commit()
    source(server.url()).fetch(NEVER)
    server.requests.clear()
    source(server.url()).fetch(NEVER)
    assert [path for _, path, _ in server.requests if path.endswith("git-upload-pack")].count(
        "/fleet.git/git-upload-pack"
    ) == 1
    source(server.url(), ref=commit).fetch(NEVER)
    server.requests.clear()
    assert source(server.url(), ref=commit).fetch(NEVER).commit == commit
    assert server.requests == []


def test_only_one_commit_of_a_long_history_is_fetched(remote, source, server):
    for number in range(5):
        remote.write("models.yaml", f"# {number}\n")
        remote.commit()
    made = source(server.url())
    made.fetch(NEVER)
    count = remote.run("rev-list", "--all", "--count", inside=folder_of(made))
    assert count == "1"


def test_offline_gives_the_last_good_commit_also_to_a_new_process(remote, source, server):
    remote.write("models.yaml", "# one\n")
    commit = remote.commit()
    assert source(server.url()).offline(NEVER) is None
    source(server.url()).fetch(NEVER)
    server.answers["/"] = (503, {})
    failure = failing(source(server.url()))
    assert (failure.kind, failure.reason) == (FailureKind.TRANSIENT, "git_unreachable")
    found = source(server.url()).offline(NEVER)
    assert found.commit == commit
    assert texts(found) == [("models.yaml", "# one\n")]


def test_a_commit_that_is_not_good_is_read_but_never_the_last_good_one(remote, source, monkeypatch):
    remote.write("models.yaml", "# good\n")
    good = remote.commit()
    made = source()
    made.fetch(NEVER)
    remote.write("models.yaml", "# bad\n")
    bad = remote.commit()
    assert made.fetch(NEVER, lambda _: False).commit == bad
    assert made.offline(NEVER).commit == good
    monkeypatch.setattr("reconciler.adapters.git.repository.MAX_PACKS", 1)  # made anew, which must not lose it
    assert made.fetch(NEVER, lambda _: False).commit == bad
    assert made.offline(NEVER).commit == good
    assert made.fetch(NEVER, lambda found: texts(found) == [("models.yaml", "# bad\n")]).commit == bad
    assert made.offline(NEVER).commit == bad
    assert made.fetch(NEVER, pytest.fail).commit == bad  # which is no news


def test_another_url_or_ref_has_a_last_good_commit_of_its_own(remote, source, tmp_path):
    remote.write("models.yaml")
    remote.commit()
    source(ref="main").fetch(NEVER)
    assert source(ref="other").offline(NEVER) is None
    assert source(f"file://{tmp_path}/elsewhere.git", ref="main").offline(NEVER) is None


def test_a_folder_is_all_its_manifests_in_order(remote, source):
    for name in ("b.yaml", "a.yml", ".hidden.yaml", "notes.txt", "sub/c.yaml"):
        remote.write(f"fleet/{name}", f"# {name}\n")
    remote.commit()
    assert texts(source(path="fleet").fetch(NEVER)) == [("fleet/a.yml", "# a.yml\n"), ("fleet/b.yaml", "# b.yaml\n")]
    remote.write("top.yaml", "# top\n")
    remote.commit()
    assert texts(source(path=".").fetch(NEVER)) == [("top.yaml", "# top\n")]


@pytest.mark.parametrize(
    ("path", "beside"), [("models.yaml", ""), ("fleet/models.yaml", "fleet/"), ("fleet", "fleet/"), (".", "")]
)
def test_the_overlay_of_a_device_comes_after_the_base(remote, source, path, beside):
    remote.write("models.yaml", "# base\n")
    remote.write("fleet/models.yaml", "# base\n")
    remote.write(f"{beside}devices/kiosk-7.yaml", "# kiosk\n")
    remote.commit()
    documents = texts(source(path=path, hostname="kiosk-7").fetch(NEVER))
    assert [text for _, text in documents] == ["# base\n", "# kiosk\n"]
    assert len(source(path=path, hostname="kiosk-8").fetch(NEVER).documents) == 1
    assert len(source(path=path, hostname="../kiosk-7").fetch(NEVER).documents) == 1


def test_what_is_not_there_is_told_apart(remote, source, server):
    remote.write("models.yaml")
    remote.commit()
    reasons = {
        "git_ref_missing": source(ref="no-such-branch"),
        "git_path_missing": source(path="nope/models.yaml"),
        "git_repository_missing": source(f"{remote.url}-nope"),
    }
    for reason, made in reasons.items():
        failure = failing(made)
        assert (failure.kind, failure.reason) == (FailureKind.PERMANENT, reason)
    assert failing(source(server.url("nope.git"))).reason == "git_repository_missing"
    assert failing(source(ref="1" * 40)).reason == "git_ref_missing"
    assert failing(source(server.url(), ref="1" * 40)).reason == "git_ref_missing"


def test_an_empty_repository_has_no_ref(remote, source):
    assert failing(source()).reason == "git_ref_missing"


def test_a_name_that_is_a_branch_and_a_tag_is_refused(remote, source):
    remote.write("models.yaml")
    commit = remote.commit()
    remote.git("tag", "main")
    remote.git("push", "-q", "origin", "refs/tags/main")
    assert failing(source(ref="main")).reason == "git_ref_ambiguous"
    assert source(ref="refs/heads/main").fetch(NEVER).commit == commit


def test_a_token_by_reference_opens_a_private_repository_and_is_no_argument(remote, source, server, tmp_path):
    remote.write("models.yaml")
    commit = remote.commit()
    server.users["x-access-token"] = "s3cr3t-token"
    failure = failing(source(server.url()))
    assert (failure.kind, failure.reason) == (FailureKind.PERMANENT, "git_unauthorized")
    (tmp_path / "token").write_text("s3cr3t-token\n")
    made = source(server.url())
    credential = token_credential(made.address, SecretReference(file=str(tmp_path / "token")))
    assert source(server.url(), credential=credential).fetch(NEVER).commit == commit
    (tmp_path / "token").write_text("revoked\n")
    refused = failing(source(server.url(), credential=credential))
    assert refused.reason == "git_unauthorized"
    assert "revoked" not in refused.message
    stored = b"".join(path.read_bytes() for path in (tmp_path / "here").rglob("*") if path.is_file())
    assert b"s3cr3t-token" not in stored


def test_a_token_of_the_environment_is_bound_to_its_host(remote, source, server):
    remote.write("models.yaml")
    remote.commit()
    other = Credential(host="example.com", port=443, bearer=SecretReference(env="TOKEN"))
    made = source(server.url(), credential=other, environment={"PATH": os.environ["PATH"], "TOKEN": "abc"})
    made.fetch(NEVER)
    assert all("authorization" not in headers for _, _, headers in server.requests)


def test_a_secret_does_not_follow_a_redirect(remote, source, server, tmp_path):
    remote.write("models.yaml")
    remote.commit()
    with git_server(remote.root) as thief:
        server.answers["/moved.git"] = (302, {"Location": f"{thief.url()}{{rest}}"})
        environment = {"PATH": os.environ["PATH"], "TOKEN": "abc"}
        credential = token_credential(source(server.url()).address, SecretReference(env="TOKEN"))
        made = source(server.url("moved.git"), credential=credential, environment=environment)
        assert failing(made).reason == "git_redirected"
        assert thief.requests == []


def test_a_missing_secret_is_told_by_the_name_of_its_reference(source, server):
    credential = token_credential(source(server.url()).address, SecretReference(env="NOT_SET"))
    failure = failing(source(server.url(), credential=credential))
    assert (failure.reason, "NOT_SET" in failure.message) == ("secret_missing", True)
    assert server.requests == []


def test_a_server_that_hangs_is_given_up_and_a_cancel_ends_it_at_once(remote, source, server):
    remote.write("models.yaml")
    remote.commit()
    server.stall = threading.Event()
    failure = failing(source(server.url(), timeout_s=0.4))
    assert (failure.kind, failure.reason) == (FailureKind.TRANSIENT, "git_timed_out")
    cancel = threading.Event()
    timer = threading.Timer(0.3, cancel.set)
    timer.start()
    started = time.monotonic()
    assert failing(source(server.url(), timeout_s=60), cancel).reason == "cancelled"
    assert time.monotonic() - started < 5
    timer.join()


def test_nobody_listening_is_transient(source):
    failure = failing(source("http://127.0.0.1:9/fleet.git"))
    assert (failure.kind, failure.reason) == (FailureKind.TRANSIENT, "git_unreachable")
    assert not re.search(r"\d ms", failure.message)  # it reads the same at the next try, and is told once


def test_a_damaged_repository_here_is_made_anew(remote, source):
    remote.write("models.yaml", "# one\n")
    remote.commit()
    made = source()
    made.fetch(NEVER)
    for path in folder_of(made).rglob("*.pack"):
        path.chmod(0o644)
        path.write_bytes(b"")
    remote.write("models.yaml", "# two\n")
    commit = remote.commit()
    assert made.offline(NEVER) is None
    assert made.fetch(NEVER).commit == commit
    assert texts(made.offline(NEVER)) == [("models.yaml", "# two\n")]


def test_a_stale_lock_of_a_killed_git_is_no_obstacle(remote, source):
    remote.write("models.yaml")
    remote.commit()
    made = source()
    made.fetch(NEVER)
    (folder_of(made) / "shallow.lock").write_text("")
    remote.write("models.yaml", "# two\n")
    commit = remote.commit()
    assert made.fetch(NEVER).commit == commit


def test_an_outage_while_the_repository_is_made_anew_loses_nothing(remote, source):
    remote.write("models.yaml")
    commit = remote.commit()
    made = source()
    made.fetch(NEVER)
    (folder_of(made) / "shallow.lock").write_text("")
    remote.write("models.yaml", "# two\n")
    remote.commit()
    remote.bare.rename(remote.root / "gone.git")
    failing(made)
    assert made.offline(NEVER).commit == commit


@pytest.mark.parametrize("name", ["fleet.git", "fleet", "work", "o'b x.git", "link"])
def test_a_folder_of_another_user_can_be_fetched_from(remote, source, tmp_path, name):
    remote.write("models.yaml")
    commit = remote.commit()
    (remote.root / "o'b x.git").symlink_to(remote.bare)
    (remote.root / "link").symlink_to(remote.work)
    environment = git_after(tmp_path, "export GIT_TEST_ASSUME_DIFFERENT_OWNER=1")
    made = source(f"file://{remote.root}/{name.replace(' ', '%20')}", environment=environment)
    assert made.fetch(NEVER).commit == commit


def test_ids_of_either_algorithm_are_followed_and_a_repository_may_change_it(remote, source, tmp_path):
    remote.write("models.yaml")
    remote.commit()
    source().fetch(NEVER)
    remote.bare.rename(tmp_path / "old.git")
    other = Remote(tmp_path / "other", "sha256")
    other.write("models.yaml", "# longer\n")
    commit = other.commit()
    other.bare.rename(remote.bare)
    assert len(commit) == 64
    assert source().fetch(NEVER).commit == commit
    assert source().offline(NEVER).commit == commit
    with git_server(remote.root) as server:
        found = source(server.url(), ref=commit, folder=str(tmp_path / "fresh")).fetch(NEVER)
        assert (found.commit, texts(found)) == (commit, [("models.yaml", "# longer\n")])


def test_many_pushes_do_not_pile_up(remote, source, monkeypatch):
    monkeypatch.setattr("reconciler.adapters.git.repository.MAX_PACKS", 3)
    made = source()
    for number in range(8):
        remote.write("models.yaml", f"# {number}\n")
        commit = remote.commit()
        assert made.fetch(NEVER).commit == commit
    assert len(list(folder_of(made).rglob("*.pack"))) <= 4


def test_the_ref_of_a_url_stands_behind_the_hash():
    assert split_ref("https://host/r.git#main") == ("https://host/r.git", "main")
    assert split_ref("https://host/r.git#") == ("https://host/r.git", None)
    assert split_ref("https://host/r.git") == ("https://host/r.git", None)
