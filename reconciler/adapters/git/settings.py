"""How git is started: with nothing of the user's or the system's configuration, and with every door but one shut.

Settings go in as ``GIT_CONFIG_COUNT`` variables: they win over the repository's own file and, unlike arguments, cannot
be read by other users of the machine, so the credential travels there too. Of the environment only what the network and
an ssh agent need is passed on: proxies, certificates, ``PATH``.
"""

import base64
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from reconciler.adapters.git.address import Address
from reconciler.core.errors import permanent
from reconciler.core.policies import Credential, SecretReference

MAX_SECRET_BYTES = 64 << 10
STALL_BYTES_PER_S = 1000  # less than this …
STALL_SECONDS = 30  # … over so long is a dead line
_PASSED = (
    *("PATH", "LANG", "TMPDIR", "USER", "LOGNAME", "SSH_AUTH_SOCK", "SSH_AGENT_PID"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE"),
)
_FIXED = {
    "LC_ALL": "C",  # messages are sorted by their words
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "false",
    "SSH_ASKPASS": "false",
    "SSH_ASKPASS_REQUIRE": "never",
    "GCM_INTERACTIVE": "never",
    "GIT_PROTOCOL_FROM_USER": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_SSH_VARIANT": "ssh",
}
# Without a named key the user's own ssh configuration decides about keys and hosts; nobody is there to be asked.
_SSH = (
    "ssh -oBatchMode=yes -oConnectTimeout=20 -oServerAliveInterval=10 -oServerAliveCountMax=3 "
    "-oForwardAgent=no -oForwardX11=no -oClearAllForwardings=yes -oPermitLocalCommand=no"
)
_CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsync": "all",
    "core.askPass": "",
    "core.attributesFile": "/dev/null",
    "core.fsmonitor": "false",
    "core.bigFileThreshold": "1m",  # larger files stream: a few kilobytes of pack may be a file of any size
    "credential.helper": "",
    "credential.interactive": "false",
    "protocol.allow": "never",
    "transfer.fsckObjects": "true",
    "transfer.bundleURI": "false",
    "fetch.fsckObjects": "true",
    "fetch.recurseSubmodules": "false",
    "fetch.unpackLimit": "1",  # always a pack: it is synced as a whole
    "fetch.writeCommitGraph": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "http.lowSpeedLimit": str(STALL_BYTES_PER_S),
    "http.lowSpeedTime": str(STALL_SECONDS),
    "gpg.x509.program": "false",
}


def git_environment(
    address: Address,
    folder: str,
    environment: Mapping[str, str],
    headers: Sequence[str] = (),
    signers: str | None = None,
    ssh: tuple[str | None, str | None] = (None, None),
) -> dict[str, str]:
    """The whole environment for git.

    Args:
        address: whose scheme is the one transport that is allowed.
        folder: of the bare repository; stands for the home folder, so that ``.netrc`` and the like are not read.
        environment: of the process.
        headers: headers with a secret, for this address only; redirects are then not followed, nor those of http.
        signers: an allowed-signers file (ssh), or the folder of a GnuPG key ring.
        ssh: (private key file, known-hosts file), each None for the user's own.
    """
    found = {name: environment[name] for name in _PASSED if environment.get(name)} | _FIXED
    found["GIT_SSH_COMMAND"] = _ssh_command(*ssh)
    found |= {"HOME": folder, "GIT_ALLOW_PROTOCOL": address.scheme, "GIT_CEILING_DIRECTORIES": folder}
    if environment.get("SSL_CERT_FILE"):
        found["GIT_SSL_CAINFO"] = environment["SSL_CERT_FILE"]
    if environment.get("SSL_CERT_DIR"):
        found["GIT_SSL_CAPATH"] = environment["SSL_CERT_DIR"]
    config = [*_CONFIG.items(), (f"protocol.{address.scheme}.allow", "always"), *_signer_config(signers)]
    # A header of git's follows a redirect to any host, so there is either a secret or a redirect; and http is for
    # this machine only, which a redirect would leave.
    config.append(("http.followRedirects", "false" if headers or address.scheme == "http" else "initial"))
    config += [("http.extraHeader", header) for header in headers]
    found["GNUPGHOME"] = signers if signers and Path(signers).is_dir() else folder
    found["GIT_CONFIG_COUNT"] = str(len(config))
    for number, (key, value) in enumerate(config):
        found[f"GIT_CONFIG_KEY_{number}"], found[f"GIT_CONFIG_VALUE_{number}"] = key, value
    return found


def _ssh_command(key: str | None, known_hosts: str | None) -> str:
    """Git gives it to a shell; ssh expands ``%`` and reads a list of words: each path is quoted for both."""
    words = []
    if key is not None:
        words += ["-F/dev/null", "-oIdentitiesOnly=yes", "-oIdentityAgent=none", _option("IdentityFile", key)]
    if known_hosts is not None:
        words += ["-oStrictHostKeyChecking=yes", _option("UserKnownHostsFile", known_hosts)]
    return " ".join([_SSH, *map(shlex.quote, words)])


def _option(name: str, path: str) -> str:
    if '"' in path or "\n" in path:
        raise permanent("secret_malformed", f"the path for {name} has a quote or a line break", hint="name another one")
    quoted = path.replace("%", "%%")
    return f'-o{name}="{quoted}"'


def _signer_config(signers: str | None) -> tuple[tuple[str, str], ...]:
    """An ssh signature must come from a key of the file; a GnuPG one from any key of a ring made for this."""
    if signers is None or Path(signers).is_dir():
        return ("gpg.minTrustLevel", "undefined"), ("gpg.ssh.program", "false")
    return ("gpg.minTrustLevel", "fully"), ("gpg.ssh.allowedSignersFile", signers), ("gpg.openpgp.program", "false")


def secret_headers(
    address: Address, credential: Credential | None, environment: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(``Name: value`` of each header, the secrets in them) for this address; empty where the credential is another's.

    Raises:
        Failure: permanent ``secret_missing`` where a reference leads nowhere.
    """
    if credential is None or address.scheme not in {"https", "http"}:
        return (), ()
    own = 443 if address.scheme == "https" else 80
    if (credential.host, credential.port or own) != (address.host, address.port):
        return (), ()
    if credential.bearer is not None:
        token = read_secret(credential.bearer, environment)
        return (f"Authorization: Bearer {token}",), (token,)
    if credential.basic is not None:
        user, password = credential.basic
        name = user if isinstance(user, str) else read_secret(user, environment)
        secret = read_secret(password, environment)
        coded = base64.b64encode(f"{name}:{secret}".encode()).decode()
        return (f"Authorization: Basic {coded}",), (secret, coded)
    pairs = [(name, read_secret(reference, environment)) for name, reference in credential.headers]
    return tuple(f"{name}: {value}" for name, value in pairs), tuple(value for _, value in pairs)


def token_credential(address: Address, token: SecretReference, user: str = "x-access-token") -> Credential:
    """A token as the forges take it over HTTPS: as the password of any user (GitHub, GitLab, Gitea, Bitbucket)."""
    return Credential(host=address.host, port=address.port, basic=(user, token))


def read_secret(reference: SecretReference, environment: Mapping[str, str]) -> str:
    """The secret that a reference names, read now, so that a rotated one counts at once.

    Raises:
        Failure: permanent ``secret_missing`` or ``secret_malformed``; messages name the reference, never the secret.
    """
    if reference.env is not None:
        where, value = f"the environment variable {reference.env}", environment.get(reference.env, "")
    else:
        where = f"the secret file {reference.file}"
        try:
            with Path(reference.file or "").open("rb") as file:
                value = file.read(MAX_SECRET_BYTES).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise permanent("secret_missing", f"{where} cannot be read", hint="check its path and mode") from error
    value = value.strip("\r\n")
    if not value.strip():
        raise permanent("secret_missing", f"{where} is empty or not there", hint="put the token into it")
    if any(character in value for character in "\r\n\0"):
        raise permanent("secret_malformed", f"{where} has a line break in the middle", hint="write it on one line")
    return value
