"""The manifest's credentials for one host: references become headers here, at the moment of use, and nowhere else.

A credential without a port stands for the scheme's own port. What it yields is bound to the origin of the URL it was
asked for; whoever follows a redirect drops it at another origin.
"""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from reconciler.core.errors import permanent
from reconciler.core.policies import Credential, SecretReference

Headers = tuple[tuple[str, str], ...]
_PORTS = {"http": 80, "https": 443}
MAX_SECRET_BYTES = 64 << 10


def headers_for(url: str, credentials: Sequence[Credential], environment: Mapping[str, str]) -> Headers:
    """The headers for this URL's host; empty where the manifest gives none.

    Raises:
        Failure: permanent ``secret_missing`` where a reference leads nowhere.
    """
    parts = urlsplit(url)
    own = _PORTS.get(parts.scheme)
    for credential in credentials:
        port = own if credential.port is None else credential.port
        if credential.host == (parts.hostname or "").lower() and port == (parts.port or own):
            return _headers(credential, environment)
    return ()


def _headers(credential: Credential, environment: Mapping[str, str]) -> Headers:
    if credential.bearer is not None:
        return (("Authorization", f"Bearer {read_secret(credential.bearer, environment)}"),)
    if credential.basic is not None:
        user, password = credential.basic
        name = user if isinstance(user, str) else read_secret(user, environment)
        pair = f"{name}:{read_secret(password, environment)}".encode()
        return (("Authorization", f"Basic {base64.b64encode(pair).decode()}"),)
    return tuple((name, read_secret(reference, environment)) for name, reference in credential.headers)


def read_secret(reference: SecretReference, environment: Mapping[str, str]) -> str:
    """The secret that a reference names, without the line end that a file has.

    Raises:
        Failure: permanent ``secret_missing``; the message names the reference, never the secret.
    """
    if reference.env is not None:
        value = environment.get(reference.env)
        if not value:
            raise permanent("secret_missing", f"the environment variable {reference.env} is not set", hint="set it")
        return _one_line(value, f"${reference.env}")
    path = Path(reference.file or "")
    try:
        with path.open("rb") as file:
            value = file.read(MAX_SECRET_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise permanent(
            "secret_missing", f"the secret file {path} cannot be read", hint="check its path and mode"
        ) from error
    if not value.strip():
        raise permanent("secret_missing", f"the secret file {path} is empty", hint="write the secret into it")
    return _one_line(value.strip("\r\n"), str(path))


def _one_line(value: str, where: str) -> str:
    """A secret goes into a header: a line break inside would smuggle another one in."""
    if any(character in value for character in "\r\n\0"):
        raise permanent("secret_malformed", f"the secret in {where} has a line break", hint="write it on one line")
    return value
