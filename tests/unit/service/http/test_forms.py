"""Multipart forms: taken apart in whatever pieces they arrive, and refused in words."""

from __future__ import annotations

import pytest

from service.http.errors import BodyTooLargeError, MultipartError
from service.http.forms import Form

CONTENT_TYPE = "multipart/form-data; boundary=B"


def part(disposition: str, data: bytes, *headers: str) -> bytes:
    """Word a part, its boundary before it."""
    lines = [f"--B\r\nContent-Disposition: form-data; {disposition}", *headers, "", ""]
    return "\r\n".join(lines).encode() + data + b"\r\n"


def taken(*parts: bytes, step: int = 0, most: int = 2, max_bytes: int = 1000) -> Form:
    """Feed a form of these parts, in pieces of ``step`` bytes or whole."""
    form, body = Form(CONTENT_TYPE, most, max_bytes), b"".join(parts) + b"--B--\r\n"
    for start in range(0, len(body), step or len(body)):
        form.feed(body[start : start + (step or len(body))])
    return form


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7, 50])
def test_parts_are_told_apart_whatever_the_pieces(step: int) -> None:
    """Bytes that look like a boundary belong to the file."""
    data = b"\r\n--\r\n--BX\r\n-\r\n--B-\r\n\r\n--b"
    form = taken(
        part('name="note"', b"text"),
        part('name="file"; filename="a.jpg"', data, "Content-Type: image/jpeg"),
        part('name="file"; filename=""', b""),
        step=step,
    )
    found = [(one.name, one.filename, bytes(one.data)) for one in form.parts]
    assert found == [("note", None, b"text"), ("file", "a.jpg", data), ("file", "", b"")]
    assert [one.filename for one in form.files()] == ["a.jpg", ""]
    assert form.is_complete


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ("filename=a.jpg", "a.jpg"),
        ('FILENAME="a.jpg"', "a.jpg"),
        ('filename="東.jpg"', "東.jpg"),
        ("filename*=utf-8''%E6%9D%B1.jpg", "東.jpg"),
        ("filename*=UTF-8'en'%e6%9d%b1.jpg", "東.jpg"),
        ("FileName*=utf-8''a%20b.jpg", "a b.jpg"),
        ("filename*=iso-8859-1''%e9.jpg", "é.jpg"),
        ("filename=\"plain.jpg\"; filename*=utf-8''%E6%9D%B1.jpg", "plain.jpg"),
        ('filename="a;b filename*=c.jpg"', "a;b filename*=c.jpg"),
    ],
)
def test_a_file_is_known_by_whatever_names_it(disposition: str, name: str) -> None:
    """RFC 7578 forbids the extended form, and clients send it all the same."""
    [file] = taken(part(f"name=file; {disposition}", b"x")).files()
    assert (file.name, file.filename) == ("file", name)


def test_a_form_without_a_boundary_says_so() -> None:
    """Rather than that it cannot be read."""
    with pytest.raises(MultipartError, match="names no boundary"):
        Form("multipart/form-data", 1, 10)


REFUSED = {
    "too many parts": (part('name="a"', b"") * 11, "too many parts"),
    "a part without a name": (part("filename=a", b""), "has no name"),
    "too much text": (part('name="a"', bytes(70_000)), "too much beside"),
    "too many headers": (part('name="a"', b"", *["X: y"] * 20), "cannot be read"),
    "too long a header": (part('name="a"', b"", "X: " + "y" * 5000), "cannot be read"),
    "many boundaries that are none": (
        part('name="file"; filename="a"', b"\r\n--BX" * 100),
        "stands in its files",
    ),
    "no boundary": (b"junk", "cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_proper_form_is_refused(name: str) -> None:
    """In a sentence."""
    body, words = REFUSED[name]
    with pytest.raises(MultipartError, match=words):
        taken(body, max_bytes=1 << 20)


def test_a_file_is_refused_as_soon_as_it_is_too_large() -> None:
    """Before the rest of it has come."""
    form = Form(CONTENT_TYPE, 1, 10)
    form.feed(part('name="file"; filename="a"', bytes(10))[:-2])
    with pytest.raises(BodyTooLargeError, match="10 bytes"):
        form.feed(b"12345678")
