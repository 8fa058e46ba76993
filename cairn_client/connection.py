"""How a service is reached: its address, the key, and the proxy that the environment names.

httpx reads the proxies of the environment by itself, but fails on networks in ``NO_PROXY`` and
raises errors of many kinds. A client has one address, so its proxy is found once, here.
"""

import ipaddress
import re
from typing import TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx

_Transport = TypeVar("_Transport", httpx.HTTPTransport, httpx.AsyncHTTPTransport)


def address_of(url: str) -> httpx.URL:
    """Parse the address of a service; raise ``ValueError`` if it is none."""
    try:
        address = _parse(url)
    except ValueError as error:
        raise ValueError(f"{url!r} is no address: {error}") from error
    if address.scheme not in ("http", "https"):
        raise ValueError(f"{url!r} is no address of a service, like http://127.0.0.1:8000")
    return address


def headers_of(key: str | None) -> dict[str, str]:
    """Return the headers that carry a key; raise ``ValueError`` if it cannot be one."""
    if key is None:
        return {}
    if not key or not key.isascii() or not key.isprintable() or key != key.strip():
        # A wrong key is not repeated: it may be secret.
        raise ValueError("a key has printable ASCII characters only, and is not empty")
    return {"X-API-Key": key}


def open_transport(kind: type[_Transport], address: httpx.URL) -> _Transport:
    """Make httpx's transport to ``address``, through the proxy of the environment if it has one.

    Raises:
        ValueError: The proxy or the file of certificates of the environment cannot be used.
    """
    variable, proxy = _proxy_of(address)
    try:
        # Its words may hold parts of the proxy's password, and are not repeated.
        return kind(proxy=proxy and _parse(proxy))
    except ImportError:
        reason = "a SOCKS proxy, which needs the package socksio: pip install 'httpx[socks]'"
    except ValueError:
        reason = "no address of a proxy, like http://host:3128 or socks5://host:1080"
    except OSError as error:
        raise ValueError(f"the certificates of SSL_CERT_FILE cannot be read: {error}") from error
    raise ValueError(f"{variable} in the environment is {reason}")


def _parse(url: str) -> httpx.URL:
    """Parse an address; raise ``ValueError`` if nothing can be connected to it."""
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from error
    address.host.encode("idna")
    if not address.host or not 0 <= (address.port or 0) < 1 << 16:
        raise ValueError("it has no host, or no port below 65536")
    return address


def _proxy_of(address: httpx.URL) -> tuple[str, str | None]:
    """Return the environment's variable for an address, and the proxy that it names, if any."""
    proxies = {name: value.strip() for name, value in getproxies().items()}
    scheme = next((name for name in (address.scheme, "all") if proxies.get(name)), None)
    where = address.netloc.decode()
    if scheme is None or proxy_bypass(where) or _is_listed(address.host, proxies.get("no", "")):
        return "", None
    proxy = proxies[scheme]
    return f"{scheme.upper()}_PROXY", proxy if "://" in proxy else f"http://{proxy}"


def _is_listed(host: str, no_proxy: str) -> bool:
    """Tell whether ``NO_PROXY`` names an IP address, or a network that it is in, or everything.

    >>> _is_listed("fd07:b51a:cc66:f0::7", "localhost,fd07:b51a:cc66:f0::/64")
    True
    >>> _is_listed("10.0.0.7", "10.0.0.0/99, [::1], example.com")
    False
    """
    entries = re.split(r"[\s,]+", no_proxy)
    if "*" in entries:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in map(_network, entries) if network)


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        return None
