"""Requests in every shape that clients send: each is answered as the plain one is."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.api.conftest import Artifacts, Running, serving
from tests.conftest import ROOT
from tests.factories import view_bytes

PICTURE = view_bytes(1, 0)
LENGTH = f"Content-Length: {len(PICTURE)}"
UPGRADE = (
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAAQBAAAAAAIAAAAA",
)
CASES = ROOT / ".." / "shared" / "cases" / "http"


def request(*lines: str, body: bytes = b"") -> bytes:
    """Word a request, head and body."""
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(data: bytes, size: int, *, extension: str = "", trailers: str = "") -> bytes:
    """Word a body in chunks."""
    parts = (data[start : start + size] for start in range(0, len(data), size))
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension.encode(), part) for part in parts)
    return chunks + f"0\r\n{trailers}\r\n".encode()


def form(disposition: str, boundary: str = "B") -> bytes:
    """Word a form of one part."""
    head = f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()
    return head + PICTURE + f"\r\n--{boundary}--\r\n".encode()


def posted(body: bytes, *headers: str, path: str = "/predict", version: str = "1.1") -> bytes:
    """Word a request that posts a body with its length."""
    first = (f"POST {path} HTTP/{version}", "Host: localhost", f"Content-Length: {len(body)}")
    return request(*first, *headers, body=body)


POST = "POST /predict HTTP/1.1"
HOST = "Host: localhost"
TEXT_FORM = "Content-Type: multipart/form-data; boundary=B"
SHAPES = {
    "plain": posted(PICTURE),
    "HTTP/1.0": posted(PICTURE, version="1.0"),
    "HTTP/1.0 without a host": request("POST /predict HTTP/1.0", LENGTH, body=PICTURE),
    "chunked": request(POST, HOST, "Transfer-Encoding: chunked", body=chunked(PICTURE, 1000)),
    "chunked with extensions and trailers": request(
        POST,
        HOST,
        "Transfer-Encoding: chunked",
        body=chunked(PICTURE, 999, extension=";a=b", trailers="Host: a.example\r\nX: y\r\n"),
    ),
    "small chunks": request(POST, HOST, "Transfer-Encoding: chunked", body=chunked(PICTURE, 7)),
    "upgrade to HTTP/2 as of Java 11": request(POST, *UPGRADE, HOST, LENGTH, body=PICTURE),
    "upgrade to HTTP/2, chunked": request(
        POST, HOST, *UPGRADE, "Transfer-Encoding: chunked", body=chunked(PICTURE, 1000)
    ),
    "upgrade to WebSocket": request(
        POST, HOST, "Connection: keep-alive, Upgrade", "Upgrade: websocket", LENGTH, body=PICTURE
    ),
    "a form": posted(form('name="file"; filename="a.jpg"'), TEXT_FORM),
    "a form with a name in UTF-8 only": posted(
        form("name=\"file\"; filename*=utf-8''%E6%9D%B1.jpg"), TEXT_FORM
    ),
    "a form with an empty name": posted(form('name="file"; filename=""'), TEXT_FORM),
    "a form in capitals": posted(
        form('NAME="file"; FileName="a.jpg"'), "Content-Type: Multipart/Form-Data; Boundary=B"
    ),
    "a quoted boundary": posted(
        form('name="file"; filename="a.jpg"', "a b"),
        'Content-Type: multipart/form-data; boundary="a b"',
    ),
    "a slash at the end": posted(PICTURE, path="/predict/"),
    "an absolute address": posted(PICTURE, path="http://localhost/predict"),
    "a content type of its own": posted(PICTURE, "Content-Type: application/x-www-form-urlencoded"),
}


def exchange(service: Running, *parts: bytes, pause: float = 0) -> bytes:
    """Send parts of a request, and read until the other side closes or has answered."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as link:
        for number, part in enumerate(parts):
            if number:
                time.sleep(pause)
            link.sendall(part)
        return read(link)


def read(link: socket.socket) -> bytes:
    """Read one answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += (more := link.recv(1 << 16))
        assert more, data
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += (more := link.recv(1 << 16))
        assert more, data
    return head + b"\r\n\r\n" + body


def landmark(answer: bytes) -> str:
    """Check that an answer is one, and return the landmark that it names."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), answer
    name: str = json.loads(body)["landmark_id"]
    return name


@pytest.mark.parametrize("shape", SHAPES)
def test_a_request_is_answered_whatever_its_shape(service: Running, shape: str) -> None:
    """In one piece, and byte by byte at its most delicate places."""
    data = SHAPES[shape]
    assert landmark(exchange(service, data)) == "landmark-1"
    middle = data.index(b"\r\n\r\n")
    parts = (data[: middle - 20], data[middle - 20 : middle + 2], data[middle + 2 : middle + 30])
    assert landmark(exchange(service, *parts, data[middle + 30 :], pause=0.02)) == "landmark-1"


def test_a_client_that_asks_before_it_sends_is_told_to_go_on(service: Running) -> None:
    """By 100, and only by that, before the body is there."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as link:
        link.sendall(request(POST, HOST, LENGTH, "Expect: 100-continue"))
        assert link.recv(1 << 16) == b"HTTP/1.1 100 Continue\r\n\r\n"
        link.sendall(PICTURE)
        assert landmark(read(link)) == "landmark-1"


def test_a_client_that_asks_before_it_sends_too_much_is_told_not_to(service: Running) -> None:
    """By the answer itself."""
    head = request(POST, HOST, "Content-Length: 99999999", "Expect: 100-continue")
    assert exchange(service, head).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("between", ["", "Connection: close"], ids=["kept", "closed"])
def test_a_connection_is_kept_after_an_ignored_upgrade(service: Running, between: str) -> None:
    """For the next request, unless the client wants it closed."""
    address = urlsplit(service.url)
    lines = [POST, HOST, *UPGRADE, LENGTH, *([between] if between else [])]
    with socket.create_connection((address.hostname, address.port), timeout=20) as link:
        link.sendall(request(*lines, body=PICTURE))
        assert landmark(read(link)) == "landmark-1"
        if between:
            assert link.recv(1) == b""
        else:
            link.sendall(SHAPES["plain"])
            assert landmark(read(link)) == "landmark-1"


def test_requests_in_a_row_are_answered_in_their_order(service: Running) -> None:
    """Some of them with an upgrade; they are sent before the first answer."""
    address = urlsplit(service.url)
    sent = [SHAPES["plain"], request("GET /healthz HTTP/1.1", HOST, *UPGRADE), SHAPES["chunked"]]
    with socket.create_connection((address.hostname, address.port), timeout=20) as link:
        link.sendall(b"".join(sent))
        link.settimeout(10)
        data = b""
        while data.count(b"HTTP/1.1 200 ") < 3 or not data.endswith(b"}"):
            data += link.recv(1 << 16)
    assert data.index(b"landmark-1") < data.index(b'"alive"') < data.rindex(b"landmark-1")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/", "/openapi.json"])
def test_the_head_of_an_answer_can_be_asked_for(service: Running, method: str, path: str) -> None:
    """As ``curl -I`` does; the body is left out."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as link:
        link.sendall(request(f"{method} {path} HTTP/1.1", HOST, "Connection: close"))
        answer = b"".join(iter(lambda: link.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert bool(body) is (method == "GET")
    assert b"\r\ncontent-length: 0" not in head.lower()


def test_a_head_is_counted_as_such(service: Running) -> None:
    """Under the address that was asked."""
    subprocess.run(
        ["curl", "--head", "--silent", "--fail", "--noproxy", "*", f"{service.url}/healthz"],
        check=True,
        capture_output=True,
    )
    metrics = exchange(service, request("GET /metrics HTTP/1.1", HOST))
    assert b'cairn_requests_total{address="/healthz",method="HEAD",status="200"}' in metrics


@pytest.mark.skipif(not CASES.is_dir(), reason="no public cases here")
def test_a_public_case_of_a_form_is_answered(service: Running) -> None:
    """A file that has its name in UTF-8 only."""
    body = (CASES / "filename_star.multipart").read_bytes()
    head, _, answer = exchange(service, posted(body, TEXT_FORM)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), answer


@dataclass(frozen=True, slots=True)
class Program:
    """A client of its own: what it needs, and the words that it is called with."""

    needs: str
    words: Callable[[str, Path], list[str]]


JAVA = """
import java.net.URI;
import java.net.http.*;
import java.nio.file.Path;
public class Ask {
  public static void main(String[] words) throws Exception {
    var body = HttpRequest.BodyPublishers.ofFile(Path.of(words[1]));
    var request = HttpRequest.newBuilder(URI.create(words[0])).POST(body).build();
    System.out.println(HttpClient.newHttpClient().send(
        request, HttpResponse.BodyHandlers.ofString()).body());
  }
}
"""


def java(url: str, file: Path) -> list[str]:
    """Word a call of Java's own client."""
    source = file.with_name("Ask.java")
    source.write_text(JAVA)
    return ["java", str(source), f"{url}/predict", str(file)]


def curl(*flags: str) -> Callable[[str, Path], list[str]]:
    """Word calls of curl."""

    def words(url: str, file: Path) -> list[str]:
        sent = [flag.replace("PICTURE", str(file)) for flag in flags]
        return ["curl", "--silent", "--noproxy", "*", *sent, f"{url}/predict"]

    return words


PROGRAMS = {
    "curl": Program("curl", curl("--data-binary", "@PICTURE")),
    "curl --http2": Program("curl", curl("--http2", "--data-binary", "@PICTURE")),
    "curl --http1.0": Program("curl", curl("--http1.0", "--data-binary", "@PICTURE")),
    "curl chunked": Program(
        "curl", curl("-X", "POST", "-T", "PICTURE", "-H", "Transfer-Encoding: chunked")
    ),
    "curl with a form": Program("curl", curl("--http2", "--form", "file=@PICTURE")),
    "curl that waits": Program(
        "curl", curl("--data-binary", "@PICTURE", "--header", "Expect: 100-continue")
    ),
    "Java": Program("java", java),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_client_as_people_have_it_is_answered(
    service: Running, tmp_path: Path, name: str
) -> None:
    """The real program, where it is installed."""
    program = PROGRAMS[name]
    if shutil.which(program.needs) is None:
        pytest.skip(f"there is no {program.needs}")
    file = tmp_path / "picture.jpg"
    file.write_bytes(PICTURE)
    ended = subprocess.run(
        program.words(service.url, file), check=True, capture_output=True, text=True, timeout=60
    )
    assert json.loads(ended.stdout)["landmark_id"] == "landmark-1"


@pytest.mark.parametrize(("host", "asked"), [("::1", "::1"), ("::", "127.0.0.1"), ("::", "::1")])
def test_it_is_served_over_ipv6(
    artifacts: Artifacts, tmp_path: Path, host: str, asked: str
) -> None:
    """Alone, or with IPv4 beside it."""
    if not socket.has_ipv6:
        pytest.skip("there is no IPv6")
    with serving(artifacts, tmp_path / "log", "--host", host) as running:
        port = urlsplit(running.url).port
        with socket.create_connection((asked, port), timeout=20) as link:
            link.sendall(posted(PICTURE))
            assert landmark(read(link)) == "landmark-1"
