"""Takes pictures out of a JSON body: ``{"picture": "<base64>"}`` or ``{"pictures": [...]}``.

Base64 may be wrapped in lines, or be a ``data:`` URL, as browsers and phones make it. It is decoded
as it arrives: no step holds up other requests, and the text of a picture is never there as a whole.
"""

import binascii
import json
import re
from dataclasses import dataclass, field

from service.http.errors import BodyTooLargeError, FieldError, JsonError

_SCHEME = b"data:"
_ENCODING = b";base64"
_SPACE = b" \t\r\n"
_CUT_ESCAPE = re.compile(rb"\\(?:u.{0,3})?\Z", re.DOTALL)
_SLICE = 1 << 12  # bytes of a string that are decoded together, longer than the name of a field
_SIGNS_EACH = 16  # bytes beside strings that a picture may need
_ONE = b'{"":""}'
_SEVERAL = re.compile(rb'\{"":\[""(?:,"")*\]\}')


def is_json(content_type: str) -> bool:
    """Tell whether a content type is that of JSON.

    >>> is_json("application/json; charset=utf-8"), is_json("text/plain")
    (True, False)
    """
    return content_type.partition(";")[0].strip().lower() == "application/json"


class JsonBody:
    """The strings of a JSON body while it arrives.

    Args:
        most: Pictures that are accepted.
        max_bytes: Of each picture.
    """

    def __init__(self, most: int, max_bytes: int) -> None:
        self._most = most
        self._max_bytes = max_bytes
        self._strings: list[_String] = []
        self._frame = bytearray()  # what is between the strings, each of which is ""
        self._in_string = False

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            JsonError: It is not JSON, holds too much beside strings, or one that is not base64.
            BodyTooLargeError: A picture is too large.
        """
        start = 0
        while start < len(chunk):
            quote = chunk.find(b'"', start)
            end = len(chunk) if quote < 0 else quote
            if self._in_string:
                self._strings[-1].feed(chunk[start:end])
                if len(self._strings[-1].data) > self._max_bytes:
                    raise BodyTooLargeError(self._max_bytes)
            else:
                self._frame += chunk[start:end].translate(None, _SPACE)
            if quote >= 0:
                self._toggle_string()
            if len(self._frame) > _SIGNS_EACH * (self._most + 1):
                raise JsonError("the JSON holds more than pictures")
            start = end + 1

    def _toggle_string(self) -> None:
        self._in_string = not self._in_string
        if self._in_string:
            self._strings.append(_String())
            self._frame += b'""'

    def pictures(self) -> list[bytes]:
        """Return the pictures of the body, all of which has been fed.

        Raises:
            JsonError: It is not JSON, or a picture is not base64.
            FieldError: It does not hold the pictures in the expected fields, or another number.
        """
        names = {_ONE: b"picture"}
        if _SEVERAL.fullmatch(self._frame):
            names[bytes(self._frame)] = b"pictures"
        name, found = names.get(bytes(self._frame)), self._strings[1:]
        if name is None or self._strings[0].text != name or len(found) > self._most:
            self._refuse()
        return [string.finish() for string in found]

    def _refuse(self) -> None:
        try:
            json.loads(self._frame)
        except (ValueError, RecursionError) as error:
            raise JsonError("the body is not JSON") from error
        many = f', or {{"pictures": […]}} with one to {self._most}' if self._most > 1 else ""
        raise FieldError(f'send {{"picture": "<base64 or data: URL>"}}{many}, and nothing else')

    def clear(self) -> None:
        """Let go of what is held."""
        self._strings.clear()


@dataclass(slots=True)
class _String:
    """A string, most of which is decoded already.

    Attributes:
        text: What is not: as it stands in the body.
        data: What was in base64.
    """

    text: bytearray = field(default_factory=bytearray)
    data: bytearray = field(default_factory=bytearray)
    _begun: bool = False
    _ended: bool = False

    def feed(self, text: bytes) -> None:
        self.text += text
        if len(self.text) > _SLICE:
            self._decode()

    def finish(self) -> bytes:
        self._decode(last=True)
        data = bytes(self.data)
        self.data.clear()
        return data

    def _decode(self, *, last: bool = False) -> None:
        """Decode the text, but for a few characters that may belong to the next ones."""
        cut = None if last else _CUT_ESCAPE.search(self.text)
        rest = cut.group() if cut else b""
        text = _unescape(bytes(self.text[: len(self.text) - len(rest)]))
        if not self._begun:
            self._begun, text = True, _without_scheme(text)
        text = text.translate(None, _SPACE)
        whole = len(text) if last else len(text) // 4 * 4
        if self._ended and text:
            raise JsonError("a picture is not base64")
        try:
            self.data += binascii.a2b_base64(text[:whole], strict_mode=True)
        except ValueError as error:
            raise JsonError("a picture is not base64") from error
        self._ended = self._ended or text[:whole].endswith(b"=")
        self.text = bytearray(text[whole:] + rest)


def _unescape(text: bytes) -> bytes:
    r"""Replace the escapes of JSON, which some write for ``/`` and ``+``.

    >>> _unescape(rb"a\/b\u002B")
    b'a/b+'
    """
    if b"\\" not in text:
        return text
    try:
        unescaped: str = json.loads(b'"%b"' % text, strict=False)
        return unescaped.encode()
    except ValueError as error:
        raise JsonError("the body is not JSON") from error


def _without_scheme(text: bytes) -> bytes:
    if text[: len(_SCHEME)].lower() != _SCHEME:
        return text
    kind, _, text = text.partition(b",")
    if not kind.lower().endswith(_ENCODING):
        raise JsonError("a data: URL of a picture must be in base64")
    return text
