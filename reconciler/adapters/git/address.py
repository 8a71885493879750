"""Where a manifest lies in Git: URL, ref and path, checked by their words alone before git sees any of them.

Only ``https``, ``ssh`` (also written ``user@host:path``), ``file`` and, for loopback, ``http``. Git knows transports
that run commands (``ext::``) or prove nothing (``git://``), and reads a word that starts with ``-`` as an option: what
is not plainly one of the four is refused here, and git is told the one scheme it may speak as well.
"""

import posixpath
import re
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

from reconciler.core.errors import Failure, permanent
from reconciler.core.records import dataclass

MAX_URL_CHARACTERS = 4096
_PORTS = {"https": 443, "http": 80, "ssh": 22}
# Surrogates stand for bytes that are no UTF-8: they cannot be printed, hashed or sent.
_BAD_IN_URL = re.compile(r"[\ud800-\udfff\x00-\x20\x7f-\x9f\u2028\u2029<>\"\\^`{|}]")
_BAD_IN_PATH = re.compile(r"[\ud800-\udfff\x00-\x1f\x7f-\x9f\u2028\u2029\\]")
_SCP = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)@([A-Za-z0-9][A-Za-z0-9.-]*):(?![/:-]{2}|-)(.+)")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
# What `git check-ref-format` refuses, and every glob: `ls-remote` takes patterns.
_BAD_IN_REF = re.compile(r"[\ud800-\udfff\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|(?:^|/)\.|\.lock(?:/|$)|[./]$|^[-/]|^@$")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_FORMS = "name an https://, ssh:// or file:/// URL (http:// only on this machine)"


@dataclass(frozen=True, slots=True)
class Address:
    """A URL that git may be given. ``label`` is what people see: no query, no user.

    ``host`` is lower case, empty for ``file``; ``port`` is the scheme's own where none is written, 0 for ``file``.
    """

    url: str
    scheme: str
    label: str
    host: str = ""
    port: int = 0


def split_ref(text: str) -> tuple[str, str | None]:
    """``URL[#REF]`` as (URL, REF); REF is None where there is none."""
    url, sign, ref = text.partition("#")
    return url, ref if sign and ref else None


def parse_address(url: str) -> Address:
    """Check ``url``.

    Raises:
        Failure: permanent ``git_url_refused``; the message never holds more of the URL than is safe to show.
    """
    if not url or len(url) > MAX_URL_CHARACTERS or _BAD_IN_URL.search(url):
        raise _refused("the Git URL is empty, too long or has characters that no URL has")
    if url.startswith("-"):
        raise _refused("a Git URL that starts with '-' would be an option")
    scp = _SCP.fullmatch(url)
    if scp and "::" not in url:
        return Address(url, "ssh", f"{scp[2].lower()}:{scp[3]}", scp[2].lower(), _PORTS["ssh"])
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused("the Git URL does not read well: its host or port is wrong") from error
    check = {"https": _web, "http": _web, "ssh": _ssh, "file": _file}.get(parts.scheme)
    if check is None or not url.lower().startswith(f"{parts.scheme}://"):
        raise _refused(f"{_scheme(url)} is no way to a Git repository that is allowed here")
    if parts.fragment or url.endswith("#"):
        raise _refused("the Git URL has a second '#'")
    check(parts.scheme, parts.username, parts.password, (parts.hostname or "").lower(), parts.path)
    host = (parts.hostname or "").lower()
    shown = f"[{host}]" if ":" in host else host
    label = f"{parts.scheme}://{shown}{f':{port}' if port else ''}{parts.path}"
    return Address(url, parts.scheme, label, host, port or _PORTS.get(parts.scheme, 0))


def _scheme(url: str) -> str:
    scheme = re.match(r"[A-Za-z0-9+.-]{1,20}:{1,2}", url)
    return scheme[0] if scheme else "a path"


def _web(scheme: str, user: str | None, password: str | None, host: str, path: str) -> None:
    if user is not None or password is not None:
        hint = "give the token by reference, from a variable or a file"
        raise permanent("git_url_refused", "user information does not belong in a Git URL", hint=hint)
    if not _HOST.fullmatch(host) or path in {"", "/"}:
        raise _refused(f"the {scheme} URL names no repository")
    if scheme == "http" and not _is_loopback(host):
        raise _refused(f"http:// to {host} proves nothing; only loopback may be asked so")


def _ssh(_scheme: str, user: str | None, password: str | None, host: str, path: str) -> None:
    if password is not None:
        raise permanent("git_url_refused", "a password does not belong in a Git URL", hint="use a key or an ssh agent")
    if not _HOST.fullmatch(host) or (user is not None and not _USER.fullmatch(unquote(user))):
        raise _refused("the ssh URL has no plain user and host")
    if path in {"", "/"} or unquote(path).startswith("/-"):
        raise _refused("the ssh URL names no repository")


def _file(_scheme: str, user: str | None, _password: str | None, host: str, path: str) -> None:
    if user is not None or host or not path.startswith("/") or path == "/":
        raise _refused("a file URL is file:///ABSOLUTE/PATH")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _refused(message: str) -> Failure:
    return permanent("git_url_refused", message, hint=_FORMS)


def is_commit(ref: str) -> bool:
    """Whether ``ref`` is a whole commit id."""
    return _COMMIT.fullmatch(ref) is not None


def check_ref(ref: str | None) -> str | None:
    """A branch, a tag, a full ``refs/…`` name or a commit id; None for the branch that the repository names itself.

    Raises:
        Failure: permanent ``git_ref_refused``.
    """
    if ref is None or ref == "HEAD":
        return None
    if not ref or _BAD_IN_REF.search(ref) or len(ref.encode()) > 1024:
        hint = "name a branch, a tag or a commit"
        raise permanent("git_ref_refused", "the Git ref is no name that git allows", hint=hint)
    return ref


def check_path(path: str) -> str:
    """A file or folder below the repository's root; ``.`` is the root.

    Raises:
        Failure: permanent ``git_path_refused`` where it is absolute, leads out, or has control characters.
    """
    parts = path.split("/")
    if not path or path.startswith("/") or ".." in parts or _BAD_IN_PATH.search(path) or len(path.encode()) > 4096:
        hint = "name a file or folder below the repository's root, such as models.yaml"
        raise permanent("git_path_refused", "the path in the Git repository is absolute or leads out of it", hint=hint)
    return posixpath.normpath(path)
