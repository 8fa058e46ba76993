"""API keys, of which the service has only the digests.

A key is 256 random bits, so a plain SHA-256 reveals nothing of it; there is no password to guess.
All digests are compared, each in constant time, even after one matched.
"""

import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)

OFF = "none"

_LOOK_SECONDS = 1.0

_ENTRY = re.compile(r"(?:(?P<name>[A-Za-z0-9._-]{1,64})=)?sha256:(?P<digest>[0-9a-f]{64})")


class Keys:
    """The keys of a setting. A file of keys is read again when it has changed.

    Args:
        text: As :func:`parse_keys` takes it.

    Raises:
        ValueError: As from there.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._file = Path(text[1:]) if text.startswith("@") else None
        self._seen = self._fingerprint()
        self._names = parse_keys(text)
        self._look_at = time.monotonic() + _LOOK_SECONDS

    def current(self) -> Mapping[str, str]:
        """Return the names by digest, no older than a second.

        While the file cannot be read, or is faulty, the keys of before are kept.
        """
        if self._file is not None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_SECONDS
            seen = self._fingerprint()
            if seen != self._seen:
                self._seen = seen
                self._read_again()
        return self._names

    def _read_again(self) -> None:
        try:
            self._names = parse_keys(self._text)
        except ValueError as error:
            log.warning("%s: %s; the keys of before are kept", self._file, error)
        else:
            log.info("%s has changed and was read again: %d keys", self._file, len(self._names))

    def _fingerprint(self) -> tuple[int, ...] | None:
        """Return what changes with the file; None where there is none."""
        try:
            found = self._file.stat() if self._file else None
        except OSError:
            return None
        return found and (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def parse_keys(text: str) -> Mapping[str, str]:
    """Parse a setting that lists keys.

    Args:
        text: Entries ``NAME=sha256:…`` or ``sha256:…``, separated by commas or line ends, with
            comments after ``#``; or ``@FILE`` for a file that holds them; or ``none``.

    Returns:
        Names by digest; a key without a name is called by the start of its digest.

    Raises:
        ValueError: An entry is no digest of a key, there is none, or the file cannot be read.
            The text does not repeat the entry, which may be a key itself.

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
            raise ValueError("the file of keys cannot be read") from error
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
    """Make a random key."""
    return secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """Return the digest of a key, as it is configured."""
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def name_of(key: str, keys: Mapping[str, str]) -> str | None:
    """Return the name of a key; None if it is not one of ``keys``."""
    presented = digest_of(key)
    found = None
    for digest, name in keys.items():
        if hmac.compare_digest(digest, presented):
            found = name
    return found
