"""Which proxy a URL goes through: the usual environment variables, read the way curl reads them."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit


def proxy_for(scheme: str, host: str, port: int, environment: Mapping[str, str]) -> str | None:
    """The proxy's URL, or None for a direct connection.

    HTTP_PROXY is ignored where REQUEST_METHOD is set: a CGI server would let a ``Proxy:`` header choose it.
    """
    names = [f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"]
    if scheme == "http" and "REQUEST_METHOD" in environment:
        names.remove("HTTP_PROXY")
    proxy = next((environment[name] for name in names if environment.get(name)), None)
    exceptions = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if proxy is None or _is_excepted(host.strip("[]").lower(), port, exceptions):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_excepted(host: str, port: int, exceptions: str) -> bool:
    return any(_fits(host, port, entry.strip().lower()) for entry in exceptions.split(",") if entry.strip())


def _fits(host: str, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return _is_within(host, entry)
    parts = urlsplit(f"//{entry}") if entry.count(":") <= 1 or entry.startswith("[") else None
    name, wanted = (parts.hostname or "", _port(entry)) if parts else (entry, None)
    name = name.lstrip(".").removeprefix("*.")
    return wanted in {None, port} and (host == name or host.endswith(f".{name}"))


def _port(entry: str) -> int | None:
    tail = entry.rpartition(":")[2]
    return int(tail) if ":" in entry and tail.isdigit() else None


def _is_within(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False
