"""What a caller meets in place of an answer.

::

    ServiceError                  exit code 10  a service gave its client no answer
    ├── ServiceRefusedError       10  what was asked, or the key, is wrong
    ├── ServiceBusyError          11  it is full or not ready; it may answer later
    ├── ServiceFailedError        12  it failed, or is no service of this program
    └── ServiceUnreachableError   13  nothing came back, or not in time

The exit codes are those of ``cairn-serve predict``.
"""

import math


class ServiceError(Exception):
    """A service gave its client no answer.

    Attributes:
        reason: What is wrong, for people; the service's own words where it sent any.
        status: The HTTP status; ``None`` without a response.
        code: Stable name of the problem, for programs; empty where the service sent none.
        request_id: The id of the request in the service's log.
    """

    exit_code = 10

    def __init__(
        self, reason: str, *, request_id: str, status: int | None = None, code: str = ""
    ) -> None:
        self.reason = reason
        self.status = status
        self.code = code
        self.request_id = request_id
        super().__init__(reason)

    def __str__(self) -> str:
        """Return the reason with its facts."""
        return f"{self.reason} ({', '.join(fact for fact in self._facts() if fact)})"

    def _facts(self) -> tuple[str, ...]:
        return (
            f"HTTP {self.status}" if self.status else "",
            self.code,
            f"request {self.request_id}",
        )


class ServiceRefusedError(ServiceError):
    """The service refuses the request, the picture or the key; a retry is of no use."""


class ServiceBusyError(ServiceError):
    """The service is full or not ready; retry after ``retry_after_seconds``, 0 if unknown."""

    exit_code = 11
    retry_after_seconds = 0.0

    def _facts(self) -> tuple[str, ...]:
        wait = math.ceil(self.retry_after_seconds)
        return (*super()._facts(), f"come again in {wait} s" if wait else "")


class ServiceFailedError(ServiceError):
    """The service failed, or what answered is another program."""

    exit_code = 12


class ServiceUnreachableError(ServiceError):
    """No response: the connection failed, broke or timed out."""

    exit_code = 13
