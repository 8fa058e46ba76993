"""Takes pictures out of a JSON body: ``{"picture": "<base64>"}`` or ``{"pictures": [...]}``.

Base64 may be wrapped in lines, or be a ``data:`` URL, as browsers and phones make it.
"""

import binascii
import json

from service.http.errors import FieldError, JsonError

_SCHEME = "data:"
_ENCODING = ";base64"
_SPACE = b" \t\r\n"
_STRUCTURE = b"[]{},:"  # none of them stands in base64
_SLICE = 1 << 20  # a multiple of 4; between slices other threads have a turn
_SIGNS_EACH = 6  # that a picture may need; a data: URL has some


def is_json(content_type: str) -> bool:
    """Tell whether a content type is that of JSON.

    >>> is_json("application/json; charset=utf-8"), is_json("text/plain")
    (True, False)
    """
    return content_type.partition(";")[0].strip().lower() == "application/json"


def decode_pictures(body: bytes, most: int) -> list[bytes]:
    """Return the 1 to ``most`` pictures of a JSON body.

    Raises:
        JsonError: It is not JSON, or a picture is not base64.
        FieldError: It does not hold the pictures in the expected fields, or another number.

    >>> decode_pictures(b'{"pictures": ["YWI=", "data:image/png;base64,YWI="]}', 2)
    [b'ab', b'ab']
    """
    if sum(map(body.count, _STRUCTURE)) > _SIGNS_EACH * (most + 1):
        raise JsonError("the JSON holds more than pictures")  # it may take many times its bytes
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise JsonError("the body is not JSON") from error
    texts = _texts(content)
    if not 1 <= len(texts) <= most or not all(isinstance(text, str) for text in texts):
        raise _field_error(most)
    return [_decode(text) for text in texts]


def _texts(content: object) -> list[str]:
    match content:
        case {"pictures": [*texts], **others} if not others:
            return texts
        case {"picture": text, **others} if not others:
            return [text]
    return []


def _field_error(most: int) -> FieldError:
    several = f', or {{"pictures": […]}} with one to {most}' if most > 1 else ""
    return FieldError(f'send {{"picture": "<base64 or data: URL>"}}{several}, and nothing else')


def _decode(text: str) -> bytes:
    """Decode one picture; ``JsonError`` where that is not possible."""
    if text[: len(_SCHEME)].lower() == _SCHEME:
        kind, _, text = text.partition(",")
        if not kind.lower().endswith(_ENCODING):
            raise JsonError("a data: URL of a picture must be in base64")
    try:
        data = text.encode().translate(None, _SPACE)
        if 0 <= data.find(b"=") < len(data) - 2:
            raise JsonError("a picture is not base64")
        slices = (data[start : start + _SLICE] for start in range(0, len(data), _SLICE))
        return b"".join(binascii.a2b_base64(part, strict_mode=True) for part in slices)
    except ValueError as error:
        raise JsonError("a picture is not base64") from error
