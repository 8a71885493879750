"""What kind of network the machine is on: the interface of the default route, by reading ``/proc`` and ``/sys``.

Nothing is sent and nobody is asked. Whether the network is metered only a desktop's network manager knows; without it
the answer is None, "unknown". ``RECONCILER_NETWORK`` overrides all of it, for containers (which see a virtual cable
whatever the host has) and for tests: a kind, and ``metered`` or ``unmetered``, such as ``wifi,metered``.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "RECONCILER_NETWORK"
KINDS = ("ethernet", "wifi", "other", "none", "unknown")

_UP = 0x1  # RTF_UP of route(7)
_REJECT = 0x200  # RTF_REJECT
_ETHERNET_TYPE = "1"  # ARPHRD_ETHER of linux/if_arp.h
_MOBILE_PREFIXES = ("wwan", "rmnet", "ppp", "usb")


def network_facts(environment: Mapping[str, str] | None = None, root: str = "/") -> tuple[str, bool | None]:
    """(kind, is metered): kind is one of ``KINDS``; metered is None where nobody tells.

    Args:
        environment: of the process.
        root: where ``proc`` and ``sys`` are looked for.
    """
    kind, is_metered = _parse((environment or {}).get(VARIABLE, ""))
    if kind:
        return kind, is_metered
    if root == "/" and not sys.platform.startswith("linux"):
        return "unknown", is_metered
    return _kind_of_default_route(Path(root)), is_metered


def _parse(text: str) -> tuple[str, bool | None]:
    words = [word.strip().lower() for word in text.split(",")]
    kind = next((word for word in words if word in KINDS), "")
    if "metered" in words:
        return kind, True
    return kind, False if "unmetered" in words else None


def _kind_of_default_route(root: Path) -> str:
    try:
        interface = default_interface(root)
    except OSError:
        return "unknown"
    return "none" if interface is None else _kind(root, interface)


def default_interface(root: Path) -> str | None:
    """The interface of the default route with the smallest metric; version 4 before 6; None where there is none."""
    routes: list[tuple[int, int, str]] = []
    for line in (root / "proc/net/route").read_text().splitlines()[1:]:
        name, destination, _, flags, _, _, metric, mask = line.split()[:8]
        if int(destination, 16) == 0 and int(mask, 16) == 0 and _is_usable(int(flags, 16)):
            routes.append((0, int(metric), name))
    six = root / "proc/net/ipv6_route"
    for line in six.read_text().splitlines() if six.exists() else ():
        destination, prefix, _, _, _, metric, _, _, flags, name = line.split()
        if int(destination, 16) == 0 and int(prefix, 16) == 0 and _is_usable(int(flags, 16)) and name != "lo":
            routes.append((1, int(metric, 16), name))
    return min(routes)[2] if routes else None


def _is_usable(flags: int) -> bool:
    return bool(flags & _UP) and not flags & _REJECT


def _kind(root: Path, interface: str) -> str:
    folder = root / "sys/class/net" / interface
    if (folder / "wireless").exists() or (folder / "phy80211").exists():
        return "wifi"
    if interface.startswith(_MOBILE_PREFIXES) or "DEVTYPE=wwan" in _text(folder / "uevent"):
        return "other"
    kind = _text(folder / "type").strip()
    if not kind:
        return "unknown"
    return "ethernet" if kind == _ETHERNET_TYPE else "other"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
