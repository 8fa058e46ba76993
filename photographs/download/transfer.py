"""Download one file over HTTP, however often the connection is cut; the one door to httpx.

What has arrived of ``NAME`` lies in ``NAME.part``. The next attempt asks for the rest by
``Range``; a server that knows no ranges sends the whole file, and it begins anew. The published
md5 proves the result: where it is wrong, nothing of the file is kept.

The retries are our own: a library's count attempts, while here every attempt that brings new
bytes starts the count again, and a stop ends the wait of every thread.
"""

import hashlib
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

import httpx

from embedder.errors import DownloadError

_HEADERS = {"Accept-Encoding": "identity"}  # ranges count the bytes of the file, not of a gzip
_TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/\d+")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a server that does not answer, or cuts the connection, is asked again.

    Attributes:
        attempts: In a row that bring nothing new, before a file is given up.
        first_wait_seconds: Before the second attempt; doubled before each further one.
        longest_wait_seconds: Where the doubling ends.
        timeout_seconds: Without a byte, after which a connection counts as cut.
    """

    attempts: int = 6
    first_wait_seconds: float = 1.0
    longest_wait_seconds: float = 60.0
    timeout_seconds: float = 60.0


class StoppedError(Exception):
    """The downloads were stopped before this one was done."""


class _TransientError(Exception):
    """An attempt failed for a reason that may pass."""

    def __init__(self, reason: str, *, wait_seconds: float = 0.0) -> None:
        self.wait_seconds = wait_seconds
        super().__init__(reason)


class Server:
    """Connections to one server. Thread-safe.

    Args:
        source: Base address of the files.
        connections: At most so many at a time.
        retry: When to give up.
        on_bytes: Called by several threads with the number of bytes that have arrived; negative
            when some were thrown away.
    """

    def __init__(
        self, source: str, connections: int, retry: RetryPolicy, on_bytes: Callable[[int], object]
    ) -> None:
        self._source = source.rstrip("/")
        self._retry = retry
        self._on_bytes = on_bytes
        self._stopped = threading.Event()
        try:
            self._client = httpx.Client(
                headers=_HEADERS,
                follow_redirects=True,
                limits=httpx.Limits(max_connections=connections),
                timeout=httpx.Timeout(retry.timeout_seconds, pool=None),
            )
        except (httpx.InvalidURL, ImportError, ValueError) as error:
            # Not its words, which may hold parts of a password.
            raise DownloadError(
                "the proxies of the environment (HTTPS_PROXY, ALL_PROXY, NO_PROXY) cannot be used: "
                "NO_PROXY takes no networks of IPv6, and a SOCKS proxy needs httpx[socks]"
            ) from error

    def stop(self) -> None:
        """End every download with :class:`StoppedError`, at its next byte."""
        self._stopped.set()

    def check_stopped(self) -> None:
        """Raise :class:`StoppedError` after :meth:`stop`."""
        if self._stopped.is_set():
            raise StoppedError("it was stopped")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def size(self, address: str) -> int:
        """Return the size of a file in bytes.

        Raises:
            DownloadError: There is no such file, no answer, or none that tells the size.
        """
        try:
            return int(self._request("HEAD", address).headers["Content-Length"])
        except (KeyError, ValueError) as error:
            raise DownloadError("the server does not tell its size") from error

    def read_text(self, address: str) -> str:
        """Read a small file.

        Raises:
            DownloadError: There is no such file, or no answer.
        """
        return self._request("GET", address).text

    def fetch(self, address: str, target: Path, *, md5: str | None = None) -> None:
        """Download a file, going on with the part that an earlier process left.

        One that was put together of several transfers and has a wrong md5 is downloaded once more.

        Args:
            address: Relative to the source.
            target: Where the file is put once it is complete.
            md5: What it must be. Without one a part that was left is not trusted: the file
                begins anew.

        Raises:
            DownloadError: There is no such file, its md5 is wrong, or the server was given up.
            StoppedError: See :meth:`stop`.
            OSError: The part cannot be written.
        """
        part = part_of(target)
        if md5 is None:
            self._discard(part)
        while True:
            is_one_transfer = self._persist(lambda: self._transfer(address, part), part)
            found = md5 and md5_of(part)
            if found == md5:
                part.replace(target)
                return
            self._discard(part)
            if is_one_transfer:
                raise DownloadError(f"its md5 is {found} and should be {md5}")

    def _transfer(self, address: str, part: Path) -> bool:
        """Bring the rest of a file, or all of it, by one request; tell whether it was all."""
        start = size_of(part)
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._client.stream("GET", self._url(address), headers=headers) as response:
            if start and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return False  # nothing is left to send; the md5 tells whether that is right
            if start and response.status_code == HTTPStatus.PARTIAL_CONTENT:
                self._check_range(response, part)
            else:
                _check_status(response)
                if not {"content-length", "transfer-encoding"} & set(response.headers):
                    raise DownloadError("the server does not tell where it ends")
                self._discard(part)
                start = 0
            with part.open("ab") as file:
                for chunk in response.iter_raw():  # of a given size they would be held back
                    self.check_stopped()
                    file.write(chunk)
                    file.flush()
                    self._on_bytes(len(chunk))
        return not start

    def _check_range(self, response: httpx.Response, part: Path) -> None:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if not found or int(found[1]) != size_of(part):
            self._discard(part)
            raise _TransientError("the server sent another part than was asked for")

    def _discard(self, part: Path) -> None:
        """Empty a part."""
        if size := size_of(part):
            self._on_bytes(-size)
            part.unlink()

    def _request(self, method: str, address: str) -> httpx.Response:
        def attempt() -> httpx.Response:
            response = self._client.request(method, self._url(address))
            _check_status(response)
            return response

        return self._persist(attempt)

    def _persist(self, attempt: Callable[[], _T], part: Path | None = None) -> _T:
        """Try until it is done, or fails too often in a row without ``part`` growing."""
        furthest, failures = size_of(part), 0
        while True:
            self.check_stopped()
            try:
                return attempt()
            except (_TransientError, httpx.TransportError) as error:
                reason = str(error) or type(error).__name__
                asked = getattr(error, "wait_seconds", 0.0)
                failures += 1
                if size_of(part) > furthest:
                    furthest, failures = size_of(part), 0
                if failures >= self._retry.attempts:
                    raise DownloadError(f"{reason} (attempt {failures} in a row)") from error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise DownloadError(str(error)) from error
            wait = self._retry.first_wait_seconds * 2 ** max(0, failures - 1)
            self._stopped.wait(min(max(wait, asked), self._retry.longest_wait_seconds))

    def _url(self, address: str) -> str:
        return f"{self._source}/{address}"


def part_of(target: Path) -> Path:
    """Return where a file lies while it arrives."""
    return target.with_name(f"{target.name}.part")


def size_of(path: Path | None) -> int:
    """Return the size of a file in bytes, 0 where there is none."""
    return path.stat().st_size if path and path.exists() else 0


def md5_of(path: Path) -> str:
    """Return the md5 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _check_status(response: httpx.Response) -> None:
    """Refuse whatever is not the whole file.

    Raises:
        _TransientError: It may succeed later.
        DownloadError: It will not.
    """
    status = response.status_code
    if status == HTTPStatus.OK:
        return
    reason = f"the server answers {status} {response.reason_phrase}".rstrip()
    if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        seconds = response.headers.get("Retry-After", "")
        raise _TransientError(reason, wait_seconds=float(seconds) if seconds.isdecimal() else 0.0)
    raise DownloadError(reason)
