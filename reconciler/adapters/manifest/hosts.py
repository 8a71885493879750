"""Which hosts a source is read from, as a manifest may call them: also where the URL does not say, but the environment.

``hf``, ``s3``, ``gs``, ``az`` and ``ollama`` have a host of their own and variables that name another one. A rule for
either of them holds: one that is passed over would be a rule that fails open.
"""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}
# scheme: the variables that name another endpoint, the first that is set counts; and the endpoints without one
_ENDPOINTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "hf": (("HF_ENDPOINT",), ("huggingface.co",)),
    "s3": (("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"), ("s3.{region}.amazonaws.com",)),
    "gs": (("STORAGE_EMULATOR_HOST",), ("storage.googleapis.com",)),
    "az": (("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"), ("{account}.blob.core.windows.net",)),
    "ollama": (("RECONCILER_OLLAMA_REGISTRY",), ("registry.ollama.ai",)),
}
_SETTING = r"(?:^|;)\s*{}=([^;]+)"


def hosts_of(url: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """``host:port`` and, where the port is the scheme's own, ``host`` of every place that a source may be read from."""
    scheme, _, rest = url.partition("://")
    if scheme not in _ENDPOINTS:
        return _names(url)
    bucket = rest.partition("/")[0] if scheme in ("s3", "gs", "az") else ""
    names = [*_names(url)] if scheme != "hf" else []  # a bucket, or a registry that the reference names
    for endpoint in _endpoints(scheme, environ):
        found = _names(endpoint if "://" in endpoint else f"https://{endpoint}")
        names += [*found, *(f"{bucket}.{name}".lower() for name in found if bucket)]
    return tuple(names)


def _endpoints(scheme: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    variables, own = _ENDPOINTS[scheme]
    named = [environ[name] for name in variables if environ.get(name)]
    words = {"region": environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1", "account": ""}
    if scheme == "az":
        said = environ.get("AZURE_STORAGE_CONNECTION_STRING", "")
        accounts = [environ.get(name, "") for name in ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")]
        words["account"] = next((name for name in (*accounts, _said(said, "AccountName")) if name), "")
        named += [_said(said, "BlobEndpoint")] if _said(said, "BlobEndpoint") else []
    return (*named[:1], *(text.format_map(words) for text in own))


def _said(connection: str, key: str) -> str:
    match = re.search(_SETTING.format(key), connection, re.IGNORECASE)
    return match[1].strip() if match else ""


def _names(url: str) -> tuple[str, ...]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ()
    shown = f"[{host}]" if ":" in host else host
    own = port or _PORTS.get(parts.scheme)
    return (f"{shown}:{own}", shown) if port is None or port == _PORTS.get(parts.scheme) else (f"{shown}:{port}",)
