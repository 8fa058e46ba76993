"""Addresses: which are one client, which are our own proxies, by which names we may be asked."""

import ipaddress
import re
from collections.abc import Sequence

NONE, ANY, AUTO = "none", "any", "auto"

_NAME = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse a setting that lists addresses and networks, separated by commas; ``none`` is none.

    Raises:
        ValueError: An entry is neither.

    >>> parse_networks("10.0.0.0/8, ::1")
    (IPv4Network('10.0.0.0/8'), IPv6Network('::1/128'))
    """
    if text == NONE:
        return ()
    try:
        return tuple(ipaddress.ip_network(entry.strip()) for entry in text.split(","))
    except ValueError:
        raise ValueError(f"must be addresses or networks such as 10.0.0.0/8, or {NONE}") from None


def is_in(address: str, networks: Sequence[Network]) -> bool:
    """Tell whether an address lies in one of ``networks``.

    >>> is_in("::ffff:10.1.2.3", parse_networks("10.0.0.0/8")), is_in("", parse_networks("::1"))
    (True, False)
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    unmapped = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(unmapped in network for network in networks)


def client_of(address: str) -> str:
    """Return what addresses of one client have in common: of IPv6 the first 64 bits, else all.

    Whoever has one IPv6 address has all 2^64 of its network.

    >>> client_of("192.0.2.7"), client_of("2001:db8::1:2:3:4"), client_of("::ffff:192.0.2.7")
    ('192.0.2.7', '2001:db8::/64', '192.0.2.7')
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def parse_hosts(text: str) -> frozenset[str]:
    """Parse a setting that lists host names, separated by commas; ``*.`` before one is all below.

    Raises:
        ValueError: An entry is no name.

    >>> sorted(parse_hosts("Cairn.example, *.cairn.example"))
    ['*.cairn.example', 'cairn.example']
    """
    names = frozenset(name.strip().lower() for name in text.split(","))
    if not all(_NAME.fullmatch(name) for name in names):
        raise ValueError("must be names such as cairn.example or *.cairn.example, without a port")
    return names


def is_local(address: str) -> bool:
    """Tell whether only this machine can reach what listens on ``address``.

    >>> is_local("localhost"), is_local("127.0.0.2"), is_local("::"), is_local("0.0.0.0")
    (True, True, False, False)
    """
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def may_be_asked_as(host: str, names: frozenset[str], *, local: bool) -> bool:
    """Tell whether a request may name its host like this.

    A web page can let a name of its own point to an address of ours, and then read our answers as
    those of its own host. It needs a name with a dot for that, which is none of ours.

    Args:
        host: The header ``Host``; empty where there is none.
        names: As :func:`parse_hosts` gives them; ``any`` and ``auto`` have their meaning.
        local: Whether ``auto`` means local names only.

    >>> names = parse_hosts("*.cairn.example")
    >>> [may_be_asked_as(host, names, local=True)
    ...  for host in ("a.cairn.example:80", "elsewhere.example", "[::1]:8000", "192.0.2.7")]
    [True, False, True, True]
    >>> auto = parse_hosts("auto")
    >>> [may_be_asked_as(host, auto, local=True) for host in ("localhost:80", "evil.example")]
    [True, False]
    """
    if ANY in names or (AUTO in names and not local):
        return True
    name = host[: host.rindex("]") + 1] if "]" in host else host.partition(":")[0]
    name = name.lower().rstrip(".")
    below = {f"*{name[place:]}" for place, letter in enumerate(name) if letter == "."}
    is_dotless = AUTO in names and "." not in name.removesuffix(".localhost")
    return is_dotless or name in names or not below.isdisjoint(names) or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return not name
    return True
