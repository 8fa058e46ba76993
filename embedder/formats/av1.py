"""The size that an AV1 stream itself states, which its container may hide (AV1, section 5.5)."""

from collections.abc import Callable, Generator

_SEQUENCE_HEADER = 1


def stated_pixels(stream: bytes, step: Callable[[], None]) -> int:
    """Return the pixels of the largest frame that a stream states; 0 if it states none.

    Args:
        stream: The stream.
        step: Called for each of its units; what it raises comes through.
    """
    return max((_read_size(header) for header in _sequence_headers(stream, step)), default=0)


def _sequence_headers(stream: bytes, step: Callable[[], None]) -> Generator[bytes]:
    at = 0
    while at < len(stream):
        step()
        first = stream[at]
        at += 2 if first & 4 else 1
        size, shift = len(stream) - at, 0
        if first & 2:
            size = 0
            while at < len(stream) and shift < 56:
                size |= (stream[at] & 0x7F) << shift
                shift += 7
                at += 1
                if not stream[at - 1] & 0x80:
                    break
        if first >> 3 & 15 == _SEQUENCE_HEADER:
            yield stream[at : at + min(size, 512)]
        at += size


class _Bits:
    """Reads numbers of some bits."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def __call__(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise EOFError
        return self._value >> self._left & (1 << count) - 1


def _read_size(header: bytes) -> int:
    bits = _Bits(header)
    bits(4)  # profile, still picture
    if bits(1):
        bits(5)  # level
    else:
        _skip_operating_points(bits)
    across, down = bits(4) + 1, bits(4) + 1
    return (bits(across) + 1) * (bits(down) + 1)


def _skip_operating_points(bits: _Bits) -> None:
    delay_bits = _skip_timing(bits) if bits(1) else 0
    has_display_delay = bits(1)
    for _ in range(bits(5) + 1):
        bits(12)
        if bits(5) > 7:
            bits(1)
        if delay_bits and bits(1):
            bits(2 * delay_bits + 1)
        if has_display_delay and bits(1):
            bits(4)


def _skip_timing(bits: _Bits) -> int:
    """Skip the timing; return the length of delays, 0 without a model of the decoder."""
    bits(64)
    if bits(1):  # equal intervals: a number of as many bits as zeros precede its first one
        zeros = 0
        while not bits(1):
            zeros += 1
        bits(zeros)
    if not bits(1):
        return 0
    length = bits(5) + 1
    bits(42)
    return length
