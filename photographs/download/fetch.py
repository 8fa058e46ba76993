"""Bring one file over HTTP, however often the connection is cut; the one door to httpx.

What has arrived of ``NAME`` lies in ``NAME.part``, and ``NAME.part.json`` says of which version
of the file it is (its ETag, or the time of its last change). A later attempt, of this process or
another, asks for the rest by ``Range`` and ``If-Range``: a server that does not know ranges, or
has another version by now, sends the whole file, and it begins anew.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

import httpx

from embedder.artifacts.files import write_atomic
from embedder.errors import DownloadError

_PLAIN = {"Accept-Encoding": "identity"}  # bytes as they lie there: ranges count in them
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server that does not answer, or cuts off, is asked again.

    Attributes:
        attempts: In a row that bring nothing new, before a file is given up.
        first_wait_seconds: Before the second attempt; doubled before each further one.
        longest_wait_seconds: Where the doubling ends.
        silence_seconds: Without a byte, after which a connection counts as cut.
    """

    attempts: int = 6
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 60.0
    silence_seconds: float = 60.0


class StoppedError(Exception):
    """The transfers were stopped, by whoever uses them, before this one was done."""


class _PassingError(Exception):
    """An attempt failed for a reason that may pass."""

    def __init__(self, reason: str, *, wait_seconds: float = 0.0) -> None:
        self.wait_seconds = wait_seconds
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class _Version:
    """Which version of a file a part is of.

    Attributes:
        validator: Its strong ETag, or else the time of its last change; empty if it has neither.
        total: Its bytes; ``None`` where the server did not say.
    """

    validator: str
    total: int | None


class Line:
    """Connections to one server, shared by threads.

    Args:
        source: Address that the files' addresses are relative to.
        connections: At most so many at a time.
        patience: With the server.
        note: Told how many bytes have arrived; negative when some were thrown away.
    """

    def __init__(
        self, source: str, connections: int, patience: Patience, note: Callable[[int], None]
    ) -> None:
        self._source = source.rstrip("/")
        self._patience = patience
        self._note = note
        self._stop = threading.Event()
        self._client = httpx.Client(
            headers=_PLAIN,
            follow_redirects=True,
            limits=httpx.Limits(max_connections=connections),
            timeout=httpx.Timeout(patience.silence_seconds, pool=None),
        )

    def stop(self) -> None:
        """Let every transfer end with an error as soon as it notices."""
        self._stop.set()

    def demand_going(self) -> None:
        """Raise an error if the transfers were stopped.

        Raises:
            StoppedError: They were.
        """
        if self._stop.is_set():
            raise StoppedError("it was stopped")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask_bytes(self, address: str) -> int:
        """Ask for the size of a file.

        Raises:
            DownloadError: There is no such file, or no answer, or none that tells the size.
        """

        def ask() -> int:
            with _translated():
                response = self._client.head(self._url(address))
            _check_status(response)
            return int(response.headers["Content-Length"])

        try:
            return self._insist(ask)
        except (KeyError, ValueError) as error:
            raise DownloadError("the server does not tell its size") from error

    def read_text(self, address: str) -> str:
        """Read a small file.

        Raises:
            DownloadError: There is no such file, or no answer.
        """

        def read() -> str:
            with _translated():
                response = self._client.get(self._url(address))
            _check_status(response)
            return response.text

        return self._insist(read)

    def fetch(self, address: str, target: Path) -> bool:
        """Bring a file into the part of ``target``, going on with what is there.

        Args:
            address: Relative to the source.
            target: Where the file shall lie once it is found right: see :func:`place`.

        Returns:
            Whether the part is of one piece; else it was put together of several transfers.

        Raises:
            DownloadError: There is no such file, or the server was given up.
            StoppedError: The transfers were stopped.
            OSError: The part cannot be written.
        """
        part = part_of(target)
        first = _size(part) if _read_version(part) else 0
        furthest, attempts = first, 0

        def attempt() -> None:
            nonlocal attempts
            attempts += 1
            self._transfer(address, part)

        def gained() -> bool:
            nonlocal furthest
            before, furthest = furthest, max(furthest, _size(part))
            return furthest > before

        self._insist(attempt, gained)
        return attempts == 1 and not first

    def _transfer(self, address: str, part: Path) -> None:
        """Bring the rest of a file, or all of it, by one request."""
        version = _read_version(part)
        start = _size(part) if version and version.validator else 0
        if version and version.total == start > 0:
            return
        ranges = {"Range": f"bytes={start}-", "If-Range": version.validator} if version else {}
        with (
            _translated(),
            self._client.stream(
                "GET", self._url(address), headers=ranges if start else {}
            ) as response,
        ):
            if not (start and version and self._goes_on(response, version, part)):
                version = self._begin(response, part)
            self._append(response, part)
        if version.total is not None and _size(part) != version.total:
            raise _PassingError(f"it ended after {_size(part)} of {version.total} bytes")

    def _goes_on(self, response: httpx.Response, version: _Version, part: Path) -> bool:
        """Tell whether the answer is the rest of the part; if it is the whole file, no.

        Raises:
            _PassingError: It is neither. The part is emptied, so the next attempt begins anew.
        """
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            start, total = _range_of(response)
            same = _validator(response) in ("", version.validator)
            if same and start == _size(part) and version.total in (None, total):
                return True
        elif response.status_code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return False
        self._empty(part)
        raise _PassingError("the server sent another part than was asked for")

    def _begin(self, response: httpx.Response, part: Path) -> _Version:
        """Empty the part for the whole file that is coming.

        The part is empty before its version is written down: a part never holds bytes of another
        version than the one beside it, wherever the process is killed.
        """
        _check_status(response)
        self._empty(part)
        length = response.headers.get("Content-Length")
        if length is None and response.headers.get("Transfer-Encoding") != "chunked":
            raise DownloadError("the server does not tell where it ends")
        version = _Version(_validator(response), None if length is None else int(length))
        fields = {"validator": version.validator, "total": version.total}
        write_atomic(_note_of(part), json.dumps(fields).encode())
        return version

    def _empty(self, part: Path) -> None:
        self._note(-_size(part))
        part.write_bytes(b"")

    def _append(self, response: httpx.Response, part: Path) -> None:
        with part.open("ab") as file:
            for chunk in response.iter_raw():  # of a given size they would be held back
                self.demand_going()
                file.write(chunk)
                file.flush()
                self._note(len(chunk))

    def _insist(self, act: Callable[[], _T], gained: Callable[[], bool] = lambda: False) -> _T:
        """Try until it is done, or too often in a row without any gain."""
        fruitless, wait = 0, self._patience.first_wait_seconds
        while True:
            self.demand_going()
            try:
                return act()
            except _PassingError as error:
                fruitless += 1
                if gained():
                    fruitless, wait = 0, self._patience.first_wait_seconds
                if fruitless >= self._patience.attempts:
                    raise DownloadError(f"{error} (attempt {fruitless} in a row)") from error
                longest = self._patience.longest_wait_seconds
                self._stop.wait(min(max(wait, error.wait_seconds), longest))
                wait *= 2

    def _url(self, address: str) -> str:
        return f"{self._source}/{address}"


def part_of(target: Path) -> Path:
    """Give the path at which a file lies while it arrives."""
    return target.with_name(f"{target.name}.part")


def place(target: Path) -> None:
    """Put a file that has arrived where it belongs."""
    part = part_of(target)
    part.replace(target)
    _note_of(part).unlink(missing_ok=True)


def discard(target: Path) -> None:
    """Throw away what has arrived of a file."""
    part = part_of(target)
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _check_status(response: httpx.Response) -> None:
    """Refuse whatever is not the whole file.

    Raises:
        _PassingError: It may be otherwise later.
        DownloadError: It will not.
    """
    status = response.status_code
    if status == HTTPStatus.OK:
        return
    reason = f"the server answers {status} {response.reason_phrase}".rstrip()
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        seconds = response.headers.get("Retry-After", "")
        raise _PassingError(reason, wait_seconds=float(seconds) if seconds.isdecimal() else 0.0)
    raise DownloadError(reason)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what httpx raises into errors of ours."""
    try:
        yield
    except httpx.TransportError as error:
        raise _PassingError(str(error) or type(error).__name__) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DownloadError(str(error)) from error


def _range_of(response: httpx.Response) -> tuple[int, int]:
    """Give where a partial answer begins and how long the whole file is; -1 if it does not say."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return (int(found[1]), int(found[2])) if found else (-1, -1)


def _validator(response: httpx.Response) -> str:
    """Give what tells a version from others to the byte; a weak ETag does not."""
    tag: str = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return str(response.headers.get("Last-Modified", ""))


def _read_version(part: Path) -> _Version | None:
    try:
        fields = json.loads(_note_of(part).read_bytes())
        return _Version(str(fields["validator"]), fields["total"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
