"""How far an address reaches: the order that redirects must not walk down.

A source may name any address; a redirect may not lead to a narrower scope than the source's own (public → private →
this machine and its link). Addresses are judged after resolving, and the judged address is the one connected to.
Tunnelled forms (IPv4 in IPv6, 6to4, NAT64) are judged by what they carry.
"""

import re
import socket
import unicodedata
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "localhost6", "ip6-localhost", "ip6-loopback"})
_NUMERIC = re.compile(r"[0-9a-fx.]+", re.ASCII)
_NAT64 = ip_network("64:ff9b::/96")


class Scope(IntEnum):
    """From narrow to wide."""

    LOCAL = 0  # loopback, link-local, unspecified, multicast, reserved
    PRIVATE = 1  # RFC 1918, unique local, shared (carrier) space
    PUBLIC = 2


def scope_of_address(text: str) -> Scope:
    """The scope of a literal address; a zone index (``%eth0``) is ignored.

    Raises:
        ValueError: it is no address.
    """
    address = _carried(ip_address(text.partition("%")[0]))
    is_local = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    if is_local or (isinstance(address, IPv4Address) and address.is_reserved):
        return Scope.LOCAL
    return Scope.PUBLIC if address.is_global else Scope.PRIVATE


@lru_cache(maxsize=256)
def scope_of_host(host: str) -> Scope | None:
    """The scope a host name shows without asking anybody; None for a name that must be resolved.

    What a resolver takes for an address is one: ``127.1``, ``0x7f000001``, ``2130706433``, wide digits.
    """
    name = unicodedata.normalize("NFKC", host).replace("\u3002", ".").strip("[]").rstrip(".").lower()
    if name in _LOCAL_NAMES or name.endswith(".localhost"):
        return Scope.LOCAL
    try:
        return scope_of_address(socket.inet_ntoa(socket.inet_aton(name)) if _NUMERIC.fullmatch(name) else name)
    except (ValueError, OSError):
        return None


def _carried(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _NAT64:
        inner = IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address
