"""Who may ask: keys, of which only digests are kept.

A key is 256 random bits, so that its plain SHA-256 tells nothing of it; there is no password to
guess. All digests are compared, each in constant time, whichever of them fits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

OFF = "none"

_ENTRY = re.compile(r"(?:(?P<name>[A-Za-z0-9._-]{1,64})=)?sha256:(?P<digest>[0-9a-f]{64})")


def parse_keys(text: str) -> Mapping[str, str]:
    """Read the keys of a setting.

    Args:
        text: Entries ``NAME=sha256:…`` or ``sha256:…``, between commas or on lines of their own,
            ``#`` beginning a comment; or ``@FILE`` for a file that holds them; or ``none``.

    Returns:
        Names by digest; a key without a name is called by the head of its digest.

    Raises:
        ValueError: An entry is no digest of a key, there is none, or the file cannot be read.
            The words do not repeat the entry, which may be a key itself.

    >>> digest = digest_of("a key")
    >>> parse_keys(f"phone={digest}") == {digest: "phone"}
    True
    """
    if text == OFF:
        return {}
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError("the file of the keys cannot be read") from error
    lines = [line.partition("#")[0] for line in text.splitlines()]
    entries = [entry.strip() for line in lines for entry in line.split(",") if entry.strip()]
    keys = {}
    for number, entry in enumerate(entries, start=1):
        found = _ENTRY.fullmatch(entry)
        if found is None:
            raise ValueError(
                f"entry {number} is not NAME=sha256:…; `cairn-serve key` makes a key and its entry"
            )
        keys[f"sha256:{found['digest']}"] = found["name"] or found["digest"][:8]
    if not keys:
        raise ValueError(f"there is no key; say {OFF} if none is needed")
    return keys


def new_key() -> str:
    """Make a key."""
    return secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """Return the digest under which a key is kept."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def name_of(key: str, keys: Mapping[str, str]) -> str | None:
    """Return the name of a key, or ``None`` where it is not one of ``keys``."""
    presented = digest_of(key)
    found = None
    for digest, name in keys.items():
        if hmac.compare_digest(digest, presented):
            found = name
    return found
