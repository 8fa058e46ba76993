"""The clients against a server that answers as a script says: every way in which asking fails."""

from __future__ import annotations

import contextlib
import inspect
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from cairn_client import (
    AsyncClient,
    Client,
    ServiceBusyError,
    ServiceError,
    ServiceFailedError,
    ServiceRefusedError,
    ServiceUnreachableError,
)
from service.http import openapi_examples as examples
from tests.clients import KINDS, ask, holds
from tests.scripted_server import drips, hangs_up, keeps_silent, playing, refuses, says

ANSWERS = says(200, examples.ANSWER.model_dump_json().encode())
JPEG = says(200, b"a jpeg", "image/jpeg")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give each kind of client in turn; no proxy of this machine stands between."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    chosen: str = request.param
    return chosen


def predict(client: Any) -> Any:
    """Ask about something."""
    return client.predict(b"a picture")


def picture(client: Any) -> Any:
    """Ask for something that is not JSON."""
    return client.picture("an id")


def test_both_clients_ask_the_same() -> None:
    """Every question of one is one of the other, with the same arguments and answers."""

    def questions(client: type) -> dict[str, inspect.Signature]:
        return {
            name: inspect.signature(method)
            for name, method in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_") and not name.endswith("close")
        }

    assert len(questions(Client)) > 5
    assert questions(Client) == questions(AsyncClient)


def test_a_busy_service_is_asked_until_it_answers(kind: str) -> None:
    """The same each time, under the same id, and the answer is what it says at last."""
    with playing(refuses(503), refuses(429, retry_after="0"), ANSWERS) as script:
        assert holds(ask(kind, script.url, predict), examples.ANSWER)
    assert len(script.asked) == 3
    assert {request.body for request in script.asked} == {b"a picture"}
    assert len({request.headers["x-request-id"] for request in script.asked}) == 1


def test_a_form_is_sent_again_as_well(kind: str) -> None:
    """Of several pictures, with their names."""
    outcomes = says(200, examples.OUTCOMES.model_dump_json().encode())
    with playing(refuses(503), outcomes) as script:
        pictures = [b"first", b"second"]
        found = ask(kind, script.url, lambda client: client.predict_batch(pictures, k=3))
    assert holds(found, examples.OUTCOMES)
    assert [request.path for request in script.asked] == ["/v1/predict/batch?k=3"] * 2
    for request in script.asked:
        assert request.body.count(b'name="file"; filename="') == 2
        assert request.body.index(b"first") < request.body.index(b"second")


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_service_is_left_alone_as_long_as_it_asks(kind: str, form: str) -> None:
    """In whichever form it says so."""
    date = datetime.now(UTC) + timedelta(seconds=3)
    told = {"seconds": "1", "date": format_datetime(date, usegmt=True)}
    with playing(refuses(503, retry_after=told[form]), ANSWERS) as script:
        ask(kind, script.url, predict)
    first, second = script.asked
    if form == "seconds":
        assert second.at - first.at >= 1
    else:
        assert datetime.now(UTC) >= date.replace(microsecond=0)


def test_a_service_that_stays_busy_is_given_up(kind: str) -> None:
    """With all that it said, after as many attempts as were allowed."""
    with playing(refuses(503, "overloaded", retry_after="0"), refuses(429, "full")) as script:
        with pytest.raises(ServiceBusyError) as caught:
            ask(kind, script.url, predict, retries=2)
        assert len(script.asked) == 3
    assert caught.value.exit_code == 11
    assert (caught.value.status, caught.value.code) == (429, "full")


def test_a_wait_longer_than_the_timeout_is_not_begun(kind: str) -> None:
    """The caller learns at once that it is too long, and how long it is."""
    started = time.monotonic()
    with playing(refuses(503, retry_after="300")) as script:
        with pytest.raises(ServiceBusyError) as caught:
            ask(kind, script.url, predict, timeout_seconds=30)
        assert len(script.asked) == 1
    assert time.monotonic() - started < 25
    assert caught.value.retry_after_seconds == 300


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"retry_after": "120"}, ", come again in 120 s)"),
        ({"retry_after": "0"}, "request its-id)"),
        ({}, "request its-id)"),
    ],
)
def test_the_error_of_a_busy_service_says_when_to_come_again(
    kind: str, told: dict[str, str], words: str
) -> None:
    """Where the service does, also for somebody who only reads the words."""
    with playing(refuses(429, **told)) as script, pytest.raises(ServiceBusyError) as caught:
        ask(kind, script.url, predict, retries=int("120" in told.values()))
    assert len(script.asked) == 1
    assert str(caught.value).endswith(words)


@contextlib.contextmanager
def opening_late(seconds: float) -> Iterator[str]:
    """Give an address at which nothing listens at first, and a service later."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    done = threading.Event()

    def serve() -> None:
        time.sleep(seconds)
        with playing(ANSWERS, port=port):
            done.wait(60)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        done.set()
        thread.join()


def test_a_service_that_is_just_starting_is_waited_for(kind: str) -> None:
    """A connection that is refused carries nothing, so it is tried again."""
    with opening_late(0.4) as url:
        assert holds(ask(kind, url, predict, retries=8), examples.ANSWER)


def test_where_nothing_listens_there_is_no_answer(kind: str) -> None:
    """The words name the place, not the password that its address holds."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
        with pytest.raises(ServiceUnreachableError, match=f"127.0.0.1:{port}") as caught:
            ask(kind, f"http://me:secret@127.0.0.1:{port}", predict, retries=1)
    assert caught.value.exit_code == 13
    assert caught.value.status is None
    assert "secret" not in str(caught.value)


def test_a_connection_that_breaks_after_the_question_is_not_repeated(kind: str) -> None:
    """Nobody knows what became of it."""
    with playing(hangs_up, ANSWERS) as script:
        with pytest.raises(ServiceUnreachableError) as caught:
            ask(kind, script.url, predict)
        assert len(script.asked) == 1
    assert caught.value.request_id == script.asked[0].headers["x-request-id"]


@pytest.mark.parametrize("slow", [keeps_silent, drips])
def test_the_timeout_is_kept(kind: str, slow: Any) -> None:
    """By a server that says nothing, and by one that says a little all the time."""
    started = time.monotonic()
    with (
        playing(slow) as script,
        pytest.raises(ServiceUnreachableError, match="no answer from"),
    ):
        ask(kind, script.url, picture, timeout_seconds=1)
    assert time.monotonic() - started < 20


def test_the_timeout_is_for_all_attempts_together(kind: str) -> None:
    """What the first one took is not there for the second."""

    def busy_after_a_while(handler: Any) -> None:
        time.sleep(3)
        refuses(503, retry_after="0")(handler)

    with (
        playing(busy_after_a_while, keeps_silent) as script,
        pytest.raises(ServiceUnreachableError),
    ):
        ask(kind, script.url, predict, timeout_seconds=5)
    ended = time.monotonic()
    assert len(script.asked) == 2
    assert ended - script.asked[1].at < 4


KINDS_OF_ERROR = [
    (400, ServiceRefusedError, 10),
    (401, ServiceRefusedError, 10),
    (403, ServiceRefusedError, 10),
    (404, ServiceRefusedError, 10),
    (408, ServiceRefusedError, 10),
    (409, ServiceRefusedError, 10),
    (413, ServiceRefusedError, 10),
    (415, ServiceRefusedError, 10),
    (421, ServiceRefusedError, 10),
    (422, ServiceRefusedError, 10),
    (431, ServiceRefusedError, 10),
    (429, ServiceBusyError, 11),
    (503, ServiceBusyError, 11),
    (500, ServiceFailedError, 12),
    (504, ServiceFailedError, 12),
]


@pytest.mark.parametrize(("status", "error", "exit_code"), KINDS_OF_ERROR)
def test_a_problem_becomes_an_error(
    kind: str, status: int, error: type[ServiceError], exit_code: int
) -> None:
    """With the facts of the document, and its words."""
    with playing(refuses(status)) as script, pytest.raises(error) as caught:
        ask(kind, script.url, predict, retries=0)
    found = caught.value
    assert (found.status, found.code, found.request_id) == (status, "a-code", "its-id")
    assert found.exit_code == exit_code
    assert str(found) == f"words of the service (HTTP {status}, a-code, request its-id)"


def test_every_status_of_the_document_becomes_some_error() -> None:
    """The table above knows each that the service describes."""
    assert {status for status, _, _ in KINDS_OF_ERROR} == set(examples.PROBLEMS)


@pytest.mark.parametrize("status", [404, 502, 503, 599])
def test_a_failure_of_something_in_between_is_an_error_too(kind: str, status: int) -> None:
    """A proxy words no problem document; the id is then the one that was sent."""
    with playing(says(status, b"<h1>Oh no</h1>", "text/html")) as script:
        with pytest.raises(ServiceError) as caught:
            ask(kind, script.url, predict, retries=0)
        assert (caught.value.status, caught.value.code) == (status, "")
        assert caught.value.request_id
        assert caught.value.request_id == script.asked[0].headers["x-request-id"]


@pytest.mark.parametrize("body", [b"", b"<h1>Hello</h1>", b"{}", b'{"status": "ready"}', b"\xff"])
@pytest.mark.parametrize("question", [predict, picture])
def test_what_is_no_service_of_ours_is_told_so(kind: str, body: bytes, question: Any) -> None:
    """It answers 200, but not to what was asked."""
    with (
        playing(says(200, body)) as script,
        pytest.raises(ServiceFailedError, match="no Cairn service"),
    ):
        ask(kind, script.url, question)


def test_a_field_of_a_newer_service_is_passed_over(kind: str) -> None:
    """On every level."""
    text = examples.ANSWER.model_dump_json().replace('{"landmark_id"', '{"new":1,"landmark_id"')
    assert text.count('"new"') == 2 + len(examples.ANSWER.landmarks or ())
    with playing(says(200, text.encode())) as script:
        assert holds(ask(kind, script.url, predict), examples.ANSWER)


def test_a_key_is_not_carried_elsewhere(kind: str) -> None:
    """A redirection is no answer."""
    with playing(ANSWERS) as elsewhere, playing(says(307, location=elsewhere.url)) as script:
        with pytest.raises(ServiceFailedError) as caught:
            ask(kind, script.url, predict, "a key")
        assert caught.value.status == 307
        assert [request.headers["x-api-key"] for request in script.asked] == ["a key"]
        assert elsewhere.asked == []


def test_without_a_key_none_is_sent(kind: str) -> None:
    """Not an empty one either."""
    with playing(ANSWERS) as script:
        ask(kind, script.url, predict)
        assert "x-api-key" not in script.asked[0].headers


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize("key", ["", " secret", "secret\n", "a\r\nsecret: b", "sécret"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_repeated(client: Any, key: str) -> None:
    """The words may land in a log."""
    with pytest.raises(ValueError, match="ASCII") as caught:
        client("http://127.0.0.1", key)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8000", "ftp://a", "http://", "/predict", "http://:x"]
)
def test_what_is_no_address_is_refused(client: Any, url: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ValueError, match="no address"):
        client(url)


@pytest.mark.parametrize("end", ["", "/"])
def test_a_service_may_be_behind_a_path(kind: str, end: str) -> None:
    """Of a proxy that serves others, too."""
    with playing(ANSWERS) as script:
        ask(kind, f"{script.url}/cairn{end}", predict)
        assert [request.path for request in script.asked] == ["/cairn/v1/predict?k=1"]


@pytest.mark.parametrize(
    ("identity", "path"),
    [
        ("17660ef415d37059", "17660ef415d37059"),
        ("landmark-0/picture-0-0", "landmark-0%2Fpicture-0-0"),
        ("a/../../b?c=d#e f", "a%2F..%2F..%2Fb%3Fc%3Dd%23e%20f"),
        ("é%2F", "%C3%A9%252F"),
    ],
)
def test_an_id_stays_below_its_address(kind: str, identity: str, path: str) -> None:
    """Whatever characters it has."""
    with playing(JPEG) as script:
        assert ask(kind, script.url, lambda client: client.picture(identity)) == b"a jpeg"
        assert [request.path for request in script.asked] == [f"/v1/pictures/{path}"]


def test_a_name_that_is_no_text_does_no_harm(kind: str, tmp_path: Path) -> None:
    """File systems allow any bytes in a name."""
    file = tmp_path / "\udcff.jpg"
    try:
        file.write_bytes(b"a picture")
    except OSError:
        pytest.skip("this file system takes text only")
    with playing(says(200, examples.OUTCOMES.model_dump_json().encode())) as script:
        ask(kind, script.url, lambda client: client.predict_batch([file, b""]))
        assert b'filename="?.jpg"' in script.asked[0].body


def test_a_file_that_is_not_there_is_the_caller_s_error(kind: str, tmp_path: Path) -> None:
    """Nothing is asked."""
    with playing(ANSWERS) as script:
        with pytest.raises(FileNotFoundError):
            ask(kind, script.url, lambda client: client.predict(tmp_path / "absent.jpg"))
        assert script.asked == []
