"""Text in one form, for all packages. Light: the front process of the service imports it."""

import unicodedata
from collections.abc import Sequence

SOME = 5
"""So many names stand in a message; the others are counted."""


def normal_form(text: str) -> str:
    r"""Bring an id or a name to Unicode's composed form (NFC).

    File systems and editors write accented letters in two ways that look alike; without this,
    a folder copied from a Mac would show other landmarks than the list that names them.

    >>> normal_form("Se\u0301 do Porto") == "S\u00e9 do Porto"
    True
    """
    return unicodedata.normalize("NFC", text)


def name_some(names: Sequence[str], total: int | None = None) -> str:
    """Join the first :data:`SOME` names for a message; an ellipsis stands for the others.

    Args:
        names: All of them, or at least the first ones.
        total: How many there are, where not all are given.

    >>> name_some(["a", "b"]), name_some(["a", "b"], 7)
    ('a, b', 'a, b, …')
    """
    shown = names[:SOME]
    more = (len(names) if total is None else total) > len(shown)
    return ", ".join(shown) + (", …" if more else "")
