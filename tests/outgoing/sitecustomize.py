"""Records and refuses each attempt to reach another machine.

Libraries swallow the error of a connection that fails, and try it in processes of their own, so
what counts is a line in a file. Connections that no Python code opens are not seen. The folder is
on PYTHONPATH, so that every Python program that a test starts loads this module by its name.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path

RECORD = "OUTGOING_CONNECTIONS"
"""Environment variable that names the file; without it nothing is watched."""

_ADDRESS_OF = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
    "socket.getnameinfo": 0,
}
"""Which argument of each audit event is an address or the name of a host."""


def record_connections() -> None:
    """Watch this process and those that it forks; there is no way to stop it."""

    def look(
        event: str, arguments: tuple[object, ...], places: Mapping[str, int] = _ADDRESS_OF
    ) -> None:
        if event in places and not _is_local(arguments[places[event]]):
            _refuse(event, arguments[places[event]])

    sys.addaudithook(look)


def _refuse(event: str, address: object) -> None:
    if record := os.environ.get(RECORD):
        with Path(record).open("a", encoding="utf-8") as file:
            file.write(f"{event} {address!r} by {sys.argv}\n")
        raise OSError(errno.ENETUNREACH, "outgoing connections are refused in tests")


def _is_local(address: object) -> bool:
    """Tell whether an address is of this machine: loopback, a wildcard, or a path."""
    from ipaddress import ip_address

    if isinstance(address, tuple):
        address = address[0]
    elif not isinstance(address, str | None):
        return True  # of another family, such as bytes for an abstract Unix socket
    if not address or address == "localhost" or address.startswith("/"):
        return True
    try:
        number = ip_address(address)
    except ValueError:
        return False
    return number.is_loopback or number.is_unspecified


if __name__ == "sitecustomize":
    record_connections()
