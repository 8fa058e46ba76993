"""Why a picture is not answered. Knows no HTTP: ``service.http.problems`` maps these to statuses.

::

    RequestRefusedError               a request that this service does not answer
    ├── BusyError                     not now; ``wait_seconds`` estimates when to ask again
    │   ├── OverloadedError           the queues are full
    │   ├── TooManyPicturesError      the queues are full, most of all this client's
    │   ├── OutOfMemoryError          the picture does not fit in the memory that is free
    │   └── StoppingError             the service is shutting down
    ├── DeadlineError                 the picture was not answered in time
    ├── AbandonedError                nobody waits for the answer any more
    ├── WorkerDiedError               the process that worked on the picture has ended
    ├── ForkServerDiedError           the process that holds the gallery has ended
    ├── PictureUnknownError           the gallery has no such picture to show
    ├── IdUnknownError                the request names a landmark or picture that is not there
    └── NothingToSearchError          the request leaves no picture of the gallery to compare with
"""

from embedder.errors import CairnError


class RequestRefusedError(CairnError):
    """A request that this service does not answer.

    Attributes:
        reason: A sentence of our own, safe to send to the client.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class BusyError(RequestRefusedError):
    """There is more work than capacity; ``wait_seconds`` estimates when to ask again."""

    def __init__(self, reason: str, wait_seconds: float = 0) -> None:
        self.wait_seconds = wait_seconds
        super().__init__(reason)


class OverloadedError(BusyError):
    """The queues are full."""


class TooManyPicturesError(BusyError):
    """The queues are full, and this client has more pictures in them than others."""


class OutOfMemoryError(BusyError):
    """The picture does not fit in the memory that is free now; later it may."""


class StoppingError(BusyError):
    """The service is shutting down."""


class DeadlineError(RequestRefusedError):
    """The picture was not answered in time."""


class PictureUnknownError(RequestRefusedError):
    """The gallery that serves has no picture of this id to show."""


class IdUnknownError(RequestRefusedError):
    """The gallery has no landmark or picture of an id that the request names."""


class NothingToSearchError(RequestRefusedError):
    """What the request allows leaves no picture of the gallery to compare with."""


class AbandonedError(RequestRefusedError):
    """Nobody waits for the answer any more."""

    def __init__(self) -> None:
        super().__init__("nobody waits for the answer any more")


class WorkerDiedError(RequestRefusedError):
    """The process that worked on the picture has ended, more than once."""


class ForkServerDiedError(RequestRefusedError):
    """The process that holds the gallery has ended; until it is opened again, nothing is shown."""
