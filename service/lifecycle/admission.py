"""Decides which connections may stay. Knows neither HTTP nor sockets.

Each client may have some, and all clients together may have some more. Where all are taken, a
connection on which nothing is asked gives way to a new one: of the client that has most, the one
that has been idle for longest. So a client that holds as many as it can keeps nobody out.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


class Connection(Protocol):
    """What is looked at in a connection."""

    @property
    def owner(self) -> str:
        """Whose it is."""

    @property
    def idle_since(self) -> float | None:
        """Since when nothing has been asked on it; None while something is."""

    def drop(self) -> None:
        """Close it."""


class Refusal(Enum):
    """Why a connection may not stay."""

    CLIENT = "client"
    ALL = "all"


@dataclass(eq=False, slots=True)
class Admission:
    """The connections that are open.

    Attributes:
        most: Most connections of all clients together.
        most_each: Most connections of one client.
    """

    most: int
    most_each: int
    _open: dict[str, set[Connection]] = field(default_factory=dict)  # none is empty

    def admit(self, connection: Connection, *, is_proxy: bool = False) -> Refusal | None:
        """Take a connection in, unless there is no room for it.

        Args:
            connection: A new one.
            is_proxy: Whether many clients share it, so that the limit of one does not apply.
        """
        own = len(self._open.get(connection.owner, ()))
        if own >= self.most_each and not is_proxy:
            return Refusal.CLIENT
        if sum(map(len, self._open.values())) >= self.most:
            idle = self._longest_idle(at_least=own)
            if idle is None:
                return Refusal.ALL
            self.remove(idle)
            idle.drop()
        self._open.setdefault(connection.owner, set()).add(connection)
        return None

    def remove(self, connection: Connection) -> None:
        """Forget a connection that was closed, whether it was taken in or not."""
        others = self._open.get(connection.owner, set())
        others.discard(connection)
        if not others:
            self._open.pop(connection.owner, None)

    def _longest_idle(self, *, at_least: int) -> Connection | None:
        """Return what gives way: an idle connection of the client that has most of them.

        Args:
            at_least: A client that has fewer need not give way.
        """
        for connections in sorted(self._open.values(), key=len, reverse=True):
            idle = [one for one in connections if one.idle_since is not None]
            if idle and len(connections) >= at_least:
                return min(idle, key=lambda one: one.idle_since or 0.0)
        return None
