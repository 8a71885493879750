"""What git says when it fails, sorted by what happens next. One table; the first row whose words are found counts.

Git has no codes for this, only English sentences (``LC_ALL=C`` keeps them so) and the HTTP status in them. What no row
knows is the network: it is tried again.
"""

import re
from collections.abc import Sequence

from reconciler.core.errors import Failure, FailureKind

DAMAGED = "git_damaged"  # the bare repository here, not the one that is fetched from
_TOKEN_HINT = "give a credential for this host, by reference"  # noqa: S105 -- a hint, no secret

_TABLE: tuple[tuple[str, FailureKind, str, str], ...] = (
    (r"transport '.*' not allowed", FailureKind.PERMANENT, "git_url_refused", "use https, ssh or file"),
    (
        (
            r"Authentication failed|could not read (?:Username|Password)|terminal prompts disabled"
            r"|returned error: 40[137]|Permission denied \(|Too many authentication failures"
        ),
        FailureKind.PERMANENT,
        "git_unauthorized",
        _TOKEN_HINT,
    ),
    (
        r"Host key verification failed|REMOTE HOST IDENTIFICATION HAS CHANGED",
        FailureKind.PERMANENT,
        "git_host_key",
        "add the server's key to known_hosts after checking it",
    ),
    (
        r"couldn't find remote ref|remote ref does not exist|not our ref|unadvertised object|no such ref was fetched",
        FailureKind.PERMANENT,
        "git_ref_missing",
        "name a branch, tag or commit that is there",
    ),
    (
        r"unable to update url base from redirection|returned error: 30\d",
        FailureKind.PERMANENT,
        "git_redirected",
        "name the URL that the server redirects to",
    ),
    (
        (
            r"repository '.*' not found|returned error: 4(?:00|04|10)\b|does not appear to be a git repository"
            r"|Repository not found|The project you were looking for could not be found|repository '.*' does not exist"
        ),
        FailureKind.PERMANENT,
        "git_repository_missing",
        "check the URL; a private repository needs a credential",
    ),
    (r"dubious ownership", FailureKind.PERMANENT, "git_owner", "the repository's folder belongs to another user"),
    (
        r"fsck error|error in (?:tree|commit|tag|blob|packed object)|inflate returned|pack signature mismatch",
        FailureKind.PERMANENT,
        "git_objects_refused",
        "the repository holds objects that git itself calls malformed: git fsck names them",
    ),
    (
        r"SSL certificate|certificate verif|server certificate|SSL: |gnutls_handshake|TLS connection",
        FailureKind.TRANSIENT,
        "git_certificate",
        "check the clock, the proxy and SSL_CERT_FILE",
    ),
    (r"No space left on device|Disk quota exceeded", FailureKind.TRANSIENT, "no_space", "free some room"),
    (r"Read-only file system", FailureKind.TRANSIENT, "read_only", "mount the file system read-write"),
    (
        (
            r"not a git repository|File exists|loose object .* is corrupt|bad object|missing (?:blob|tree|commit)"
            r"|packfile .* (?:is|cannot be|does not)|index file .* is|object file .* is empty|unable to read tree"
            r"|bad config|fatal: shallow file|mismatched algorithms"
        ),
        FailureKind.TRANSIENT,
        DAMAGED,
        "it is made anew",
    ),
)
_ROWS = tuple((re.compile(words, re.IGNORECASE), kind, reason, hint) for words, kind, reason, hint in _TABLE)
_URL_TAIL = re.compile(
    r"([a-z][a-z0-9+.-]*://)(?:[^\s/@']*@)?([^\s?#']*)[?#][^\s']*|([a-z]+://)[^\s/@']*@", re.IGNORECASE
)
_TOOK = re.compile(r" after \d+ (?:ms|milliseconds)\b")  # of curl; without it an outage reads the same each time
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]+")
_MAX_QUOTED = 300


def sort_failure(errors: str, what: str, secrets: Sequence[str] = ()) -> Failure:
    """The failure behind git's standard error.

    Args:
        errors: what git wrote.
        what: what could not be done, naming thing and place: ``cannot fetch https://…``.
        secrets: taken out of what is quoted.
    """
    for pattern, kind, reason, hint in _ROWS:
        if pattern.search(errors):
            return Failure(kind, reason, f"{what}: {quote(errors, secrets)}", hint=hint)
    hint = "what was fetched last stays in force; the next try comes by itself"
    return Failure(FailureKind.TRANSIENT, "git_unreachable", f"{what}: {quote(errors, secrets)}", hint=hint)


def quote(errors: str, secrets: Sequence[str] = ()) -> str:
    """The line that tells most: a ``fatal:`` or ``error:``; without secrets, queries, times and control characters."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:", "ERROR:"))] or lines
    text = telling[0] if telling else "git gave no reason"
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _URL_TAIL.sub(lambda found: f"{found[1] or found[3]}{found[2] or ''}", text)
    return _CONTROL.sub(" ", _TOOK.sub("", text))[:_MAX_QUOTED].removeprefix("fatal: ").removeprefix("error: ")
