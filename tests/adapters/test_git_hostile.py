"""A manifest in Git where somebody means harm: URLs, repositories, signatures. Nothing runs, nothing leaks in."""

import os
import re
import subprocess
import threading

import pytest
from git_made import MANIFEST, Remote, allowed_signers, clean_environment, git_after, git_server, signing_key

from reconciler.adapters.git import parse_address
from reconciler.core.errors import Failure, FailureKind

NEVER = threading.Event()


def failing(call, *arguments):
    with pytest.raises(Failure) as caught:
        call(*arguments)
    return caught.value


REFUSED_URLS = (
    "",
    "-oProxyCommand=touch /tmp/x",
    "--upload-pack=touch",
    "ext::sh -c touch% /tmp/x",
    "EXT::x",
    "fd::17",
    "git://example.com/r.git",
    "ftp://example.com/r.git",
    "http://example.com/r.git",
    "http://127.0.0.1.example.com/r.git",
    "http://10.0.0.1/r.git",
    "http+unix://sock/r.git",
    "https://user:secret-word@example.com/r.git",
    "https://user@example.com/r.git",
    "https:///r.git",
    "https://example.com",
    "https:example.com/r.git",
    "https://exa mple.com/r.git",
    "https://example.com/r.git\nx",
    "https://example.com:port/r.git",
    "https://example.com/\udcff.git",
    "ssh://git:secret-word@example.com/r.git",
    "ssh://-oProxyCommand=x/r.git",
    "ssh://-x@example.com/r.git",
    "ssh://example.com/-x",
    "ssh://%2dx@example.com/r.git",
    "git@-oProxyCommand=x:r.git",
    "git@host::x",
    "host:repo.git",
    "../sibling.git",
    "./r.git",
    "r.git",
    "/srv/r.git",
    "file://host/r.git",
    "file:r.git",
    "file:///",
    "x" * 5000,
)


@pytest.mark.parametrize("url", REFUSED_URLS)
def test_a_url_that_is_not_plainly_allowed_is_refused_without_quoting_it(url, source):
    failure = failing(parse_address, url)
    assert (failure.kind, failure.reason) == (FailureKind.PERMANENT, "git_url_refused")
    assert "secret-word" not in failure.message + failure.hint
    if url:
        assert failing(source, url).reason == "git_url_refused"


@pytest.mark.parametrize(
    ("url", "label"),
    [
        ("https://example.com/o/r.git", "https://example.com/o/r.git"),
        ("https://Example.com:8443/o/r.git?token=abc", "https://example.com:8443/o/r.git"),
        ("http://127.0.0.1:8080/r.git", "http://127.0.0.1:8080/r.git"),
        ("http://[::1]:8080/r.git", "http://[::1]:8080/r.git"),
        ("http://localhost/r.git", "http://localhost/r.git"),
        ("ssh://git@example.com:2222/o/r.git", "ssh://example.com:2222/o/r.git"),
        ("git@example.com:o/r.git", "example.com:o/r.git"),
        ("file:///srv/r.git", "file:///srv/r.git"),
    ],
)
def test_what_is_allowed_is_shown_without_user_and_query(url, label):
    assert parse_address(url).label == label


@pytest.mark.parametrize(
    "ref",
    [
        "-x",
        "--upload-pack=x",
        "a..b",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "refs/heads/*",
        "a\n",
        "a.lock",
        "@{1}",
        "x/",
        "\udcff",
    ],
)
def test_a_ref_that_git_does_not_allow_is_refused(source, ref):
    assert failing(lambda: source(ref=ref)).reason == "git_ref_refused"


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a\0b", "a\\b", "a\nb", "\udcff"])
def test_a_path_that_leads_out_is_refused(source, path):
    assert failing(lambda: source(path=path)).reason == "git_path_refused"


def test_a_symbolic_link_is_no_manifest(remote, source):
    remote.write("real.yaml")
    (remote.work / "models.yaml").symlink_to("real.yaml")
    (remote.work / "outside.yaml").symlink_to("/etc/passwd")
    (remote.work / "away").symlink_to("/etc")
    remote.commit()
    for path in ("models.yaml", "outside.yaml", ".", "away"):
        failure = failing(source(path=path).fetch, NEVER)
        assert (failure.kind, failure.reason) == (FailureKind.PERMANENT, "git_not_a_file")
    assert failing(source(path="away/passwd").fetch, NEVER).reason == "git_path_missing"


def test_a_linked_overlay_is_refused_not_passed_over(remote, source):
    remote.write("models.yaml")
    (remote.work / "devices").mkdir()
    (remote.work / "devices" / "kiosk.yaml").symlink_to("../models.yaml")
    remote.commit()
    assert failing(source(hostname="kiosk").fetch, NEVER).reason == "git_not_a_file"


def test_a_submodule_is_neither_read_nor_fetched(remote, source, tmp_path):
    other = Remote(tmp_path / "other")
    other.write("models.yaml")
    other.commit()
    remote.write("models.yaml")
    remote.run("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", other.url, "sub", inside=remote.work)
    remote.commit()
    assert failing(source(path="sub").fetch, NEVER).reason == "git_not_a_file"
    assert failing(source(path="sub/models.yaml").fetch, NEVER).reason == "git_path_missing"
    assert len(source().fetch(NEVER).documents) == 1


def test_hooks_filters_and_settings_of_repositories_never_run(remote, source, tmp_path):
    proof = tmp_path / "ran"
    script = f"#!/bin/sh\ntouch {proof}\ncat\n"
    program = tmp_path / "evil"
    program.write_text(script)
    program.chmod(0o755)
    remote.write(".gitattributes", "*.yaml filter=evil diff=evil text eol=crlf ident\n")
    remote.write("models.yaml", "# $Id$\n")
    remote.commit()
    made = source()
    made.fetch(NEVER)
    remote.write("models.yaml", "# $Id$ two\n")
    remote.commit()  # before there are hooks: a push runs those of the place it goes to
    for repository in (remote.bare, made.folder):
        hooks = os.path.join(repository, "hooks")
        os.makedirs(hooks, exist_ok=True)
        for hook in (
            "post-checkout",
            "post-update",
            "reference-transaction",
            "pre-auto-gc",
            "post-merge",
            "post-rewrite",
        ):
            path = os.path.join(hooks, hook)
            with open(path, "w") as file:
                file.write(script)
            os.chmod(path, 0o755)
    settings = {
        "filter.evil.smudge": program,
        "filter.evil.process": program,
        "core.fsmonitor": program,
        "core.sshCommand": program,
        "diff.evil.textconv": program,
        "credential.helper": f"!{program}",
        "core.hooksPath": program.parent,
    }
    for key, value in settings.items():
        subprocess.run(["git", "--git-dir", made.folder, "config", key, str(value)], check=True)
    assert made.fetch(NEVER).documents[0][1] == b"# $Id$ two\n"
    assert not proof.exists()


def test_the_users_own_settings_are_not_read(remote, source, tmp_path):
    remote.write("models.yaml")
    remote.commit()
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(f'[url "file:///nowhere/"]\n\tinsteadOf = {remote.url}\n')
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GIT_DIR": "/nowhere",
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_SSH_COMMAND": "false",
        "GIT_CONFIG_PARAMETERS": "'core.bare=false'",
    }
    assert source(environment=environment).fetch(NEVER).documents[0][1] == MANIFEST.encode()


def test_a_huge_manifest_is_refused_before_it_is_read(remote, source):
    remote.write("models.yaml", b"#" * 300_000)
    remote.commit()
    failure = failing(source(max_bytes=100_000).fetch, NEVER)
    assert (failure.kind, failure.reason) == (FailureKind.PERMANENT, "git_too_large")


@pytest.mark.slow
def test_a_repository_that_floods_the_disk_is_stopped(remote, source, tmp_path):
    remote.write("models.yaml")
    good = remote.commit()
    with git_server(remote.root) as server:
        made = source(server.url(), max_repository_bytes=4 << 20)
        assert made.fetch(NEVER).commit == good
        remote.write("model.bin", os.urandom(24 << 20))
        remote.commit()
        failure = failing(made.fetch, NEVER)
        assert (failure.kind, failure.reason) == (FailureKind.PERMANENT, "git_too_large")
        assert made.offline(NEVER).commit == good


def test_malformed_objects_are_refused(remote, source):
    remote.write("models.yaml")
    remote.commit()
    tree = remote.git("rev-parse", "HEAD^{tree}")
    text = f"tree {tree}\nauthor nobody\ncommitter nobody\n\nx\n"
    done = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--literally", "--stdin"],
        cwd=remote.bare,
        env=clean_environment(remote.root),
        input=text.encode(),
        capture_output=True,
        check=True,
    )
    (remote.bare / "refs" / "heads" / "bad").write_bytes(done.stdout)
    failure = failing(source(ref="bad").fetch, NEVER)
    assert (failure.kind, failure.reason) == (FailureKind.PERMANENT, "git_objects_refused")


def test_an_https_or_loopback_url_never_leads_to_another_transport(remote, source):
    remote.write("models.yaml")
    remote.commit()
    with git_server(remote.root) as server:
        server.answers["/"] = (302, {"Location": f"file://{remote.bare}/info/refs?service=git-upload-pack"})
        failing(source(server.url()).fetch, NEVER)


def test_http_never_leaves_this_machine_by_a_redirect(remote, source):
    remote.write("models.yaml")
    remote.commit()
    with git_server(remote.root) as server, git_server(remote.root) as other:
        server.answers["/"] = (302, {"Location": f"{other.url()}/info/refs?service=git-upload-pack"})
        assert failing(source(server.url()).fetch, NEVER).reason == "git_redirected"
        assert other.requests == []


@pytest.mark.slow
def test_a_small_pack_of_a_huge_file_takes_little_memory(remote, source, tmp_path):
    remote.write("models.yaml")
    remote.write("zeros.bin", bytes(100 << 20))
    remote.git("config", "core.compression", "1")
    commit = remote.commit()
    environment = git_after(tmp_path, "ulimit -v 100000")
    with git_server(remote.root) as server:
        assert source(server.url(), environment=environment).fetch(NEVER).commit == commit


def test_ssh_asks_nobody_and_gets_its_words_as_they_are(remote, source, tmp_path):
    remote.write("models.yaml")
    commit = remote.commit()
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "ssh").write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/asked\nfor last; do :; done\nexec sh -c "$last"\n'
    )
    (bin_ / "ssh").chmod(0o755)
    environment = {"PATH": f"{bin_}:{os.environ['PATH']}"}
    assert source(f"ssh://git@fleet.example{remote.bare}", environment=environment).fetch(NEVER).commit == commit
    asked = (tmp_path / "asked").read_text().splitlines()
    assert "-oBatchMode=yes" in asked
    assert "git@fleet.example" in asked
    assert not [word for word in asked if "Identit" in word]
    key, hosts = tmp_path / "a key's 100%", tmp_path / "known hosts"
    source(f"ssh://git@fleet.example{remote.bare}", environment=environment, ssh=(str(key), str(hosts))).fetch(NEVER)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert f'-oIdentityFile="{key}%"' in asked
    assert f'-oUserKnownHostsFile="{hosts}"' in asked
    assert {"-F/dev/null", "-oIdentitiesOnly=yes", "-oIdentityAgent=none", "-oStrictHostKeyChecking=yes"} <= {*asked}


# --- signatures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path):
    return signing_key(tmp_path, "allowed"), signing_key(tmp_path, "stranger")


def sign_with(remote, key):
    remote.git("config", "gpg.format", "ssh")
    remote.git("config", "user.signingkey", str(key))


def test_only_a_commit_of_an_allowed_signer_counts_and_the_last_good_one_stays(remote, source, keys, tmp_path):
    allowed, stranger = keys
    signers = allowed_signers(tmp_path / "signers", allowed)
    made = source(signers=str(signers))
    sign_with(remote, allowed)
    remote.write("models.yaml", "# signed\n")
    good = remote.commit("signed", "-S")
    assert made.fetch(NEVER).commit == good
    remote.write("models.yaml", "# unsigned\n")
    remote.commit()
    failure = failing(made.fetch, NEVER)
    assert (failure.kind, failure.reason) == (FailureKind.REFUSED, "git_unsigned")
    sign_with(remote, stranger)
    remote.write("models.yaml", "# by a stranger\n")
    remote.commit("stranger", "-S")
    failure = failing(made.fetch, NEVER)
    assert failure.reason == "git_unsigned"
    assert re.search("allowed signer: its key SHA256:[^ ]+ is not among them$", failure.message)
    assert made.offline(NEVER).commit == good
    signers.write_text('ada@example.com valid-before="20200101" ' + stranger.with_suffix(".pub").read_text())
    assert re.search("its key SHA256:[^ ]+ has expired$", failing(made.fetch, NEVER).message)
    allowed_signers(signers, allowed)
    sign_with(remote, allowed)
    again = remote.commit("signed again", "-S")
    assert made.fetch(NEVER).commit == again


def test_a_signature_over_other_content_is_refused(remote, source, keys, tmp_path):
    sign_with(remote, keys[0])
    remote.write("models.yaml")
    remote.commit("signed", "-S")
    body = remote.git("cat-file", "commit", "HEAD").replace("signed", "changed")
    done = subprocess.run(
        ["git", "hash-object", "-t", "commit", "-w", "--stdin"],
        cwd=remote.work, env=remote.environment, input=f"{body}\n".encode(), capture_output=True, check=True,
    )  # fmt: skip
    remote.git("push", "-q", "-f", "origin", f"{done.stdout.decode().strip()}:refs/heads/main")
    signers = allowed_signers(tmp_path / "signers", keys[0])
    failure = failing(source(signers=str(signers)).fetch, NEVER)
    assert failure.reason == "git_unsigned"
    assert failure.message.endswith("the signature belongs to other content")


def test_a_signed_tag_vouches_for_its_commit_under_its_own_name_only(remote, source, keys, tmp_path):
    signers = str(allowed_signers(tmp_path / "signers", keys[0]))
    sign_with(remote, keys[0])
    remote.write("models.yaml")
    commit = remote.commit()
    remote.git("tag", "-s", "-m", "one", "v1")
    remote.git("push", "-q", "origin", "v1")
    assert source(ref="v1", signers=signers).fetch(NEVER).commit == commit
    assert source(ref="v1", signers=signers).offline(NEVER).commit == commit
    remote.git("push", "-q", "origin", "refs/tags/v1:refs/tags/v2")
    assert failing(source(ref="v2", signers=signers).fetch, NEVER).reason == "git_unsigned"
    assert failing(source(ref="main", signers=signers).fetch, NEVER).reason == "git_unsigned"


def test_a_signer_who_is_no_longer_allowed_does_not_count_offline_either(remote, source, keys, tmp_path):
    signers = allowed_signers(tmp_path / "signers", keys[0])
    sign_with(remote, keys[0])
    remote.write("models.yaml")
    remote.commit("signed", "-S")
    made = source(signers=str(signers))
    made.fetch(NEVER)
    allowed_signers(signers, keys[1])
    assert failing(made.offline, NEVER).reason == "git_unsigned"
    signers.write_text("")
    assert failing(made.fetch, NEVER).reason == "git_signers_missing"


def test_the_repository_cannot_bring_its_own_signers(remote, source, keys, tmp_path):
    signers = allowed_signers(tmp_path / "signers", keys[0])
    sign_with(remote, keys[1])
    remote.write("models.yaml")
    remote.write("signers", keys[1].with_suffix(".pub").read_text())
    remote.commit("signed", "-S")
    assert failing(source(signers=str(signers)).fetch, NEVER).reason == "git_unsigned"


def test_a_gnupg_key_ring_vouches_too(remote, source, tmp_path):
    ring, own = tmp_path / "ring", tmp_path / "own"
    for folder in (ring, own):
        folder.mkdir(mode=0o700)

    def gpg(home, *arguments):
        command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--no-autostart" if home == ring else "--yes"]
        return subprocess.run([*command, *arguments], check=True, capture_output=True).stdout

    try:
        gpg(
            own,
            "--passphrase",
            "",
            "--pinentry-mode",
            "loopback",
            "--quick-gen-key",
            "ada@example.com",
            "ed25519",
            "sign",
        )
        (tmp_path / "ada.asc").write_bytes(gpg(own, "--export", "ada@example.com"))
        gpg(ring, "--import", str(tmp_path / "ada.asc"))
        remote.environment["GNUPGHOME"] = str(own)
        remote.git("config", "user.signingkey", "ada@example.com")
        remote.write("models.yaml")
        commit = remote.commit("signed", "-S")
        assert source(signers=str(ring)).fetch(NEVER).commit == commit
        remote.commit("unsigned")
        assert failing(source(signers=str(ring)).fetch, NEVER).reason == "git_unsigned"
        empty = tmp_path / "empty"
        empty.mkdir(mode=0o700)
        failure = failing(source(signers=str(empty), ref=commit).fetch, NEVER)
        assert failure.reason == "git_unsigned"
        assert re.search("its key [0-9A-F]+ is not in the key ring$", failure.message)
        (certificate,) = (own / "openpgp-revocs.d").iterdir()
        (tmp_path / "revoked.asc").write_text(certificate.read_text().replace("\n:---", "\n---"))
        gpg(ring, "--import", str(tmp_path / "revoked.asc"))
        assert re.search(
            "its key [0-9A-F]+ was revoked$", failing(source(signers=str(ring), ref=commit).fetch, NEVER).message
        )
    finally:
        for folder in (own, ring):
            subprocess.run(["gpgconf", "--homedir", str(folder), "--kill", "all"], check=False, capture_output=True)
