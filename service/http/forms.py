"""Takes a multipart form apart while it arrives. Files are held once, in memory.

Starlette's own parser keeps a file twice while it is read, and does not know a file whose name is
given as ``filename*`` only.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.http.errors import BodyTooLargeError, MultipartError

_MOST_PARTS = 8  # beside the files that are wanted
_MOST_HEADERS, _HEADER_BYTES = 16, 4096
_TEXT_BYTES = 64 << 10  # of all parts that are no files
_LOOKALIKES = 64  # lines in files that begin like a boundary; each takes the parser long
_EXTENDED = re.compile(r"(;\s*)filename\*(?==)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Upload:
    """One file of a form: the name that its sender gave it, and its bytes."""

    name: str
    data: bytes


@dataclass(slots=True)
class Part:
    """One part of a form.

    Attributes:
        name: Of the form's field.
        filename: Name of the file; None where the part is no file.
        data: What has arrived of it.
    """

    name: str
    filename: str | None
    data: bytearray = field(default_factory=bytearray)


class Form:
    """The parts of one multipart body.

    Args:
        content_type: The header of the request.
        most_files: Files that are wanted; a few more are taken, to be told from a broken form.
        max_bytes: Largest file.

    Raises:
        MultipartError: The header names no boundary.

    Attributes:
        parts: What has arrived so far.
        is_complete: Whether the last boundary has arrived.
    """

    def __init__(self, content_type: str, most_files: int, max_bytes: int) -> None:
        self.parts: list[Part] = []
        self.is_complete = False
        self._most_parts = most_files + _MOST_PARTS
        self._max_bytes = max_bytes
        self._text_bytes = 0
        self._header, self._value, self._disposition = bytearray(), bytearray(), b""
        boundary = _parameters(content_type).get("boundary")
        if not boundary:
            raise MultipartError("the header Content-Type names no boundary of the form")
        self._delimiter, self._delimiters = b"\r\n--" + boundary, 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_to_header,
                "on_header_value": self._add_to_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_end": self._end,
            },
            max_header_count=_MOST_HEADERS,
            max_header_size=_HEADER_BYTES,
        )

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            MultipartError: They do not follow the boundary, or are too many parts or texts.
            BodyTooLargeError: A file is too large.
        """
        self._delimiters += data.count(self._delimiter)
        if self._delimiters > self._most_parts + _LOOKALIKES:
            raise MultipartError("the boundary of the multipart form stands in its files")
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise MultipartError("the multipart form cannot be read") from error

    def files(self) -> list[Part]:
        """Return the parts that are files."""
        return [part for part in self.parts if part.filename is not None]

    def clear(self) -> None:
        """Let go of what is held."""
        for part in self.parts:
            part.data.clear()

    # What the parser calls.

    def _begin_part(self) -> None:
        if len(self.parts) == self._most_parts:
            raise MultipartError("the multipart form has too many parts")
        self._disposition = b""

    def _add_to_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        parameters = _parameters(self._disposition.decode("latin-1"))
        if "name" not in parameters:
            raise MultipartError("a part of the multipart form has no name")
        filename = parameters.get("filename")
        if filename is None and "filename*" in parameters:
            filename = _percent_decoded(parameters["filename*"])
        name = None if filename is None else _text(filename)
        self.parts.append(Part(_text(parameters["name"]), name))

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        part = self.parts[-1]
        part.data += memoryview(data)[start:end]
        if part.filename is None:
            self._text_bytes += end - start
            if self._text_bytes > _TEXT_BYTES:
                raise MultipartError("the multipart form holds too much beside files")
        elif len(part.data) > self._max_bytes:
            raise BodyTooLargeError(self._max_bytes)

    def _end(self) -> None:
        self.is_complete = True


def _parameters(header: str) -> dict[str, bytes]:
    """Return the parameters of a header, by their names in small letters.

    The library drops those with an asterisk, which a form may not have, but some clients send.

    >>> _parameters("form-data; Name=file; filename*=utf-8''a.jpg")
    {'name': b'file', 'filename*': b"utf-8''a.jpg"}
    """
    _, parameters = parse_options_header(_EXTENDED.sub(r"\1filename-extended", header))
    names = {name.decode("latin-1").lower(): value for name, value in parameters.items()}
    if "filename-extended" in names:
        names["filename*"] = names.pop("filename-extended")
    return names


def _percent_decoded(value: bytes) -> bytes:
    """Decode a name as RFC 5987 writes it: charset, language, and the percent-encoded text."""
    charset, _, rest = value.partition(b"'")
    decoded = unquote_to_bytes(rest.partition(b"'")[2])
    if charset.lower() == b"iso-8859-1":
        return decoded.decode("latin-1").encode()
    return decoded


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
