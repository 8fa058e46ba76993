"""Requests that are wrong as HTTP: too large, wrongly formed, wrongly addressed, cut off."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from service.http.unread_body import DISCARD_SECONDS
from tests.api.conftest import MAX_BYTES, Running
from tests.factories import view_bytes

BOUNDARY = "frontier"


def form(data: bytes, *, field: str = "file", filename: str | None = "a.jpg") -> bytes:
    """Word a multipart body with one part, boundary and all."""
    name = f'; filename="{filename}"' if filename else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"{name}\r\n\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def problem(answer: httpx.Response, status: int, code: str) -> str:
    """Check that an answer is the problem expected, and return its words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["title"]
    assert body["request_id"] == answer.headers["x-request-id"]
    detail: str = body["detail"]
    return detail


def connect(service: Running) -> socket.socket:
    """Open a socket to the service, for what a polite client would never send."""
    address = urlsplit(service.url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def receive(link: socket.socket) -> bytes:
    """Read until the other side closes."""
    parts = []
    while part := link.recv(65536):
        parts.append(part)
    return b"".join(parts)


def pieces(total: int) -> Iterator[bytes]:
    """Send ``total`` bytes with no length declared."""
    for _ in range(total // 10_000):
        yield bytes(10_000)


@pytest.mark.parametrize("headers", [{}, FORM], ids=["raw", "multipart"])
@pytest.mark.parametrize("size", [MAX_BYTES + 100_000, 8 << 20])
def test_a_body_too_large_is_refused_by_its_length(
    client: httpx.Client, headers: dict[str, str], size: int
) -> None:
    """The client learns the limit, however much it was about to send."""
    body = form(bytes(size)) if headers else bytes(size)
    detail = problem(client.post("/predict", content=body, headers=headers), 413, "body-too-large")
    assert str(MAX_BYTES) in detail


@pytest.mark.parametrize("size", [MAX_BYTES + 100_000, 8 << 20])
def test_a_body_of_no_stated_length_is_refused_once_it_is_too_large(
    client: httpx.Client, size: int
) -> None:
    """Chunked transfer does not get around the limit."""
    problem(client.post("/predict", content=pieces(size)), 413, "body-too-large")


def test_a_chunked_form_is_refused_once_it_is_too_large(client: httpx.Client) -> None:
    """Nor does a chunked form."""
    body = form(bytes(8 << 20))
    chunks = (body[start : start + 50_000] for start in range(0, len(body), 50_000))
    problem(client.post("/predict", content=chunks, headers=FORM), 413, "body-too-large")


def test_the_limit_is_for_the_picture_not_for_the_form_around_it(client: httpx.Client) -> None:
    """One byte over the limit in a form is refused, the limit itself is not."""
    picture = view_bytes(1, 0)
    fits = picture + bytes(MAX_BYTES - len(picture))
    for wrap, headers in ((bytes, {}), (form, FORM)):
        assert client.post("/predict", content=wrap(fits), headers=headers).status_code == 200
        answer = client.post("/predict", content=wrap(fits + b"\0"), headers=headers)
        problem(answer, 413, "body-too-large")


def test_a_declared_length_is_refused_before_a_byte_is_read(service: Running) -> None:
    """The answer comes although nothing of the promised 10 GB was sent."""
    with connect(service) as link:
        link.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000000\r\n\r\n")
        started = time.monotonic()
        answer = link.recv(65536)
        assert time.monotonic() - started < DISCARD_SECONDS / 2
        answer += receive(link)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"body-too-large" in answer


def test_an_endless_body_is_answered_and_cut_off(service: Running) -> None:
    """A client that never stops sending, and never listens, is not read for ever."""
    chunk = b"1000\r\n" + bytes(0x1000) + b"\r\n"
    started = time.monotonic()
    with connect(service) as link:
        link.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            while time.monotonic() - started < 5 * DISCARD_SECONDS:
                link.sendall(chunk)
                time.sleep(0.002)
        assert link.recv(65536).startswith(b"HTTP/1.1 413 ")
    assert time.monotonic() - started < 3 * DISCARD_SECONDS


def test_a_client_that_sends_before_it_listens_still_gets_the_answer(service: Running) -> None:
    """Its connection is not broken under it while it sends a little more than it may."""
    size = 3 * MAX_BYTES
    with connect(service) as link:
        link.sendall(
            f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()
        )
        for _ in range(20):
            link.sendall(bytes(size // 20))
            time.sleep(0.02)
        assert receive(link).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_leaves_while_sending_does_no_harm(
    client: httpx.Client, service: Running
) -> None:
    """Half a picture, then silence: nothing is logged as a failure of the service."""
    before = len(service.log.read_text())
    for _ in range(5):
        with connect(service) as link:
            link.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\nhalf")
    deadline = time.monotonic() + 10
    while service.log.read_text()[before:].count('"path": "/predict"') < 5:
        assert time.monotonic() < deadline, service.log.read_text()[before:]
        time.sleep(0.05)
    assert "Traceback" not in service.log.read_text()[before:]
    assert client.get("/healthz").status_code == 200


FORMS = {
    "another field name": form(view_bytes(1, 0), field="upload"),
    "text instead of a file": form(b"a.jpg", filename=None),
    "two pictures": form(view_bytes(1, 0))[: -len(f"--{BOUNDARY}--\r\n")] + form(view_bytes(1, 0)),
    "no part at all": f"--{BOUNDARY}--\r\n".encode(),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_without_exactly_one_picture_is_refused(client: httpx.Client, name: str) -> None:
    """The words say which field holds the picture."""
    answer = client.post("/predict", content=FORMS[name], headers=FORM)
    assert '"file"' in problem(answer, 422, "bad-form")


BROKEN = {
    "cut off": (form(view_bytes(1, 0))[:-30], FORM),
    "empty": (b"", FORM),
    "no boundary at all": (b"junk", FORM),
    "no boundary named": (form(view_bytes(1, 0)), {"content-type": "multipart/form-data"}),
    "a part without a name": (b"--frontier\r\n\r\n\r\nx\r\n--frontier--\r\n", FORM),
    "far too many fields": (
        b"".join(form(b"x", field=str(n), filename=None)[:-14] for n in range(50)) + form(b""),
        FORM,
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_form_is_refused(client: httpx.Client, name: str) -> None:
    """As broken, not as a missing field."""
    body, headers = BROKEN[name]
    answer = client.post("/predict", content=body, headers=headers)
    problem(answer, 400, "multipart-malformed")


@pytest.mark.parametrize("k", ["-1", "101", "many", "1.5", ""])
def test_a_bad_number_of_neighbors_is_refused(client: httpx.Client, k: str) -> None:
    """The parameter is named."""
    answer = client.post("/predict", params={"k": k}, content=view_bytes(1, 0))
    problem(answer, 422, "bad-parameters")
    assert [fault["where"] for fault in answer.json()["faults"]] == ["query.k"]


def test_an_unknown_address_is_a_problem_document(client: httpx.Client) -> None:
    """404 looks like every other failure."""
    problem(client.get("/no/such/page"), 404, "not-found")


def test_a_wrong_method_is_a_problem_document(client: httpx.Client) -> None:
    """405 too, and it names the right method."""
    answer = client.get("/predict")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/predict", "/landmarks", "/no/such/page"])
def test_a_request_id_comes_back(client: httpx.Client, service: Running, path: str) -> None:
    """The client's own id is used, returned and logged."""
    identity = f"test:{path.count('/')}.{path[1:4]}"
    answer = client.get(path, headers={"x-request-id": identity})
    assert answer.headers["x-request-id"] == identity
    deadline = time.monotonic() + 10
    while not any(
        line.get("request_id") == identity and line["message"].startswith(f"GET {path} ")
        for line in map(json.loads, service.log.read_text().rpartition("\n")[0].splitlines())
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("identity", ["", "two words", "x" * 129, "a;b", '{"a":1}'])
def test_an_id_unfit_for_a_log_is_replaced(client: httpx.Client, identity: str) -> None:
    """Nobody writes into our log what they like."""
    given = client.get("/healthz", headers={"x-request-id": identity}).headers["x-request-id"]
    other = client.get("/healthz").headers["x-request-id"]
    assert len(given) == len(other) == 32
    assert given not in {identity, other}
