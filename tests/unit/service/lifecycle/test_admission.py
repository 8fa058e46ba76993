"""Which connections may stay, and which give way."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from service.lifecycle.admission import Admission, Refusal


@dataclass(eq=False)
class Link:
    """A connection of a client: busy, or idle since some time."""

    owner: str
    idle_since: float | None = None
    dropped: bool = False

    def drop(self) -> None:
        """Note that it was closed."""
        self.dropped = True


def admitted(admission: Admission, *links: Link) -> list[Link]:
    """Take all of them in."""
    for link in links:
        assert admission.admit(link) is None
    return list(links)


def test_a_client_has_its_limit_and_others_have_theirs() -> None:
    """Whoever is over it is refused, until one of its connections is closed."""
    admission = Admission(most=10, most_each=2)
    first, _ = admitted(admission, Link("a", 1.0), Link("a"))
    late = Link("a")
    assert admission.admit(late) is Refusal.CLIENT
    admission.remove(late)  # as every connection is that ends
    admitted(admission, Link("b"))
    assert not first.dropped
    admission.remove(first)
    admitted(admission, late)
    assert admission.admit(Link("a")) is Refusal.CLIENT


def test_a_proxy_has_no_limit_of_its_own() -> None:
    """It stands for many clients; the limit of all together is its, too."""
    admission = Admission(most=5, most_each=2)
    for _ in range(5):
        assert admission.admit(Link("proxy"), is_proxy=True) is None
    assert admission.admit(Link("proxy"), is_proxy=True) is Refusal.ALL


def test_the_longest_idle_of_the_heaviest_gives_way() -> None:
    """Not that of a client that has fewer, though it has been idle for longer."""
    admission = Admission(most=5, most_each=5)
    light, busy, old, young, _ = admitted(
        admission, Link("b", 1.0), Link("a"), Link("a", 2.0), Link("a", 3.0), Link("a")
    )
    admitted(admission, Link("c"))
    assert old.dropped
    assert not any(link.dropped for link in (light, busy, young))
    admitted(admission, Link("d"))
    assert young.dropped


def test_where_nothing_is_idle_nobody_gives_way() -> None:
    """A request that is being answered is not broken off."""
    admission = Admission(most=2, most_each=2)
    links = admitted(admission, Link("a"), Link("a"))
    assert admission.admit(Link("b")) is Refusal.ALL
    assert not any(link.dropped for link in links)


def test_whoever_has_many_takes_none_from_those_who_have_few() -> None:
    """A client that opens one connection after the other replaces its own."""
    admission = Admission(most=4, most_each=4)
    few, *own = admitted(admission, Link("b", 1.0), Link("a", 2.0), Link("a", 3.0), Link("a", 4.0))
    for _ in range(6):
        newest = Link("a", 9.0)
        admitted(admission, newest)
        own.append(newest)
    assert not few.dropped
    assert sum(link.dropped for link in own) == 6


@pytest.mark.parametrize("count", [1, 3])
def test_a_connection_that_was_not_taken_in_can_be_forgotten(count: int) -> None:
    """And one that was, more than once."""
    admission = Admission(most=1, most_each=1)
    [link] = admitted(admission, Link("a"))
    for _ in range(count):
        admission.remove(Link("a"))
        admission.remove(link)
    admitted(admission, Link("b"))
