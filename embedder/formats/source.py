"""The file from which a decoder reads; between two reads, decoding can be ended."""

import io
from bisect import bisect_right
from collections.abc import Callable, Sequence

Check = Callable[[], None]
"""Called again and again while a picture is decoded; what it raises ends the decoding."""


class Interrupted(BaseException):
    """Carries what a check raised past the decoders, which would take some of it for their own."""

    def __init__(self, reason: BaseException) -> None:
        self.reason = reason
        super().__init__()


def run(check: Check | None) -> None:
    """Call ``check``.

    Raises:
        Interrupted: It raised.
    """
    if check is None:
        return
    try:
        check()
    except BaseException as error:
        raise Interrupted(error) from None


class Source(io.BytesIO):
    """The bytes of a picture, checked at every read."""

    def __init__(self, data: bytes, check: Check | None, stops: Sequence[int] = ()) -> None:
        """Read from ``data``.

        Args:
            data: The file.
            check: Called before every read.
            stops: Ascending positions; no read goes past the next one, so that a decoder which
                works long on a few bytes is interrupted there.
        """
        super().__init__(data)
        self._check = check
        self._stops = stops

    def read(self, size: int | None = -1, /) -> bytes:
        """Read ``size`` bytes, fewer where a stop is nearer."""
        run(self._check)
        at = self.tell()
        following = bisect_right(self._stops, at)
        if following < len(self._stops):
            left = self._stops[following] - at
            size = left if size is None or size < 0 else min(size, left)
        return super().read(size)
