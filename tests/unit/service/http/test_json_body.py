"""Pictures in JSON are taken out while it arrives, wherever it is cut."""

import base64
import json
from collections.abc import Callable

import numpy as np
import pytest

from service.http.errors import BodyTooLargeError, FieldError, JsonError
from service.http.json_body import JsonBody

MAX_BYTES = 20_000


def pictures_of(body: bytes, cuts: Callable[[], int], most: int = 3) -> list[bytes]:
    """Feed a body in pieces."""
    taken, start = JsonBody(most, MAX_BYTES), 0
    while start < len(body):
        end = start + cuts()
        taken.feed(body[start:end])
        start = end
    return taken.pictures()


@pytest.mark.parametrize("seed", range(40))
def test_what_arrives_in_pieces_is_what_was_sent(seed: int) -> None:
    """Also with escapes, line breaks and data: URLs, each of which may be cut."""
    rng = np.random.default_rng(seed)
    sent = [rng.bytes(int(rng.choice([1, 2, 3, 9000, 16_384]))) for _ in range(3)]
    texts = [base64.b64encode(data).decode() for data in sent]
    texts[0] = "data:image/jpeg;base64," + texts[0]
    texts[1] = "\n".join(texts[1][i : i + 76] for i in range(0, len(texts[1]), 76))
    body = json.dumps({"pictures": texts}, indent=seed % 3 or None).encode()
    body = body.replace(b"/", rb"\/") if seed % 2 else body.replace(b"+", rb"\u002B")
    longest = int(rng.choice([1, 7, 5000]))
    assert pictures_of(body, lambda: int(rng.integers(1, longest + 1))) == sent


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"picture": "YWI="', JsonError),
        (b'{"picture": "YWI=', JsonError),
        (b'{"picture": "YWI="}}', JsonError),
        (b'{"picture": "Y"}', JsonError),
        (b'{"picture": "YWI=YWI="}', JsonError),
        (b'{"picture": "' + b"YWI=" * 4000 + b'"}', JsonError),
        (b'{"picture": "' + b"AAAA" * 4000 + b'=AAA"}', JsonError),
        (b'{"picture": "' + b"AAAA" * 4000 + b'!"}', JsonError),
        (rb'{"picture": "\x41AAA"}', JsonError),
        (rb'{"picture": "AAAA\"AAAA"}', JsonError),
        (b'{"picture": "data:image/png,AAAA"}', JsonError),
        (b"{}," * 100, JsonError),
        (b"", JsonError),
        (b"\xff", JsonError),
        (b"{}", FieldError),
        (b"[]", FieldError),
        (b'"picture"', FieldError),
        (b'{"picture": 3}', FieldError),
        (b'{"picture": null}', FieldError),
        (b'{"photo": "YWI="}', FieldError),
        (b'{"picture": ["YWI="]}', FieldError),
        (b'{"pictures": "YWI="}', FieldError),
        (b'{"pictures": []}', FieldError),
        (b'{"pictures": ["YQ==", "YQ==", "YQ==", "YQ=="]}', FieldError),
        (b'{"picture": "YWI=", "k": 1}', FieldError),
        (b'{"picture": "' + b"AAAA" * MAX_BYTES + b'"}', BodyTooLargeError),
    ],
)
def test_what_holds_no_pictures_is_refused(body: bytes, error: type[Exception]) -> None:
    """However it is cut, and in words for each kind of fault."""
    for size in (1, 5, 1 << 20):
        with pytest.raises(error):
            pictures_of(body, lambda size=size: size)  # type: ignore[misc] # the size of this turn


def test_much_beside_strings_is_refused_at_once() -> None:
    """Whatever is still to come."""
    body = JsonBody(1, MAX_BYTES)
    with pytest.raises(JsonError, match="more than pictures"):
        body.feed(b"{}," * 1000)
