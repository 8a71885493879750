"""Who is trusted with TLS: SSL_CERT_FILE and SSL_CERT_DIR where set, else the system, else the bundled list.

Reading the authorities takes 20 ms, and plain HTTP never needs them: it is done at the first https connection, like
the import.
"""

import importlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.core.errors import permanent

if TYPE_CHECKING:
    import ssl


class Trust:
    """One context for all connections of an engine."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._lock = threading.Lock()
        self._made: ssl.SSLContext | None = None

    def context(self) -> "ssl.SSLContext":
        """The context.

        Raises:
            Failure: permanent; a named file or folder cannot be read.
        """
        with self._lock:
            if self._made is None:
                self._made = _make(self._environment)
            return self._made


def _make(environment: Mapping[str, str]) -> "ssl.SSLContext":
    import ssl  # noqa: PLC0415 -- see the module

    file, folder = environment.get("SSL_CERT_FILE") or None, environment.get("SSL_CERT_DIR") or None
    if file or folder:
        try:
            return _speaking(ssl.create_default_context(cafile=file, capath=folder))
        except OSError as error:
            place = file or folder
            raise permanent("tls_authorities", f"cannot read the authorities in {place}: {error.strerror}") from error
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not context.cert_store_stats()["x509_ca"] and not (paths.capath and any(Path(paths.capath).iterdir())):
        context.load_verify_locations(cafile=importlib.import_module("certifi").where())  # comes with httpx
    return _speaking(context)


def _speaking(context: "ssl.SSLContext") -> "ssl.SSLContext":
    context.set_alpn_protocols(["http/1.1"])
    return context
