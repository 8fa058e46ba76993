"""The clients, and ``cairn-serve predict``, against the real service."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

import cairn_client
from cairn_client import GalleryPicture, ServiceRefusedError
from embedder.command_line import UNREAD
from embedder.embedder import Embedder
from index.building.build import build
from index.building.recipe import BuildRecipe
from index.gallery.store import Store
from photographs import open_data
from service.contract.api_keys import digest_of, new_key
from service.contract.schemas import Answer
from service.http import openapi_examples as examples
from tests.api.conftest import Artifacts, Running, environment, serving
from tests.clients import KINDS, ask, holds
from tests.conftest import ROOT
from tests.factories import view_bytes
from tests.scripted_server import keeps_silent, playing, says

ANSWERS = says(200, examples.ANSWER.model_dump_json().encode())
KEY, ADMIN = new_key(), new_key()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no proxy of this machine stand between."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Give each kind of client in turn."""
    chosen: str = request.param
    return chosen


@pytest.fixture(scope="module")
def guarded(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run a service that asks for keys and has thumbnails."""
    directory = tmp_path_factory.mktemp("guarded")
    embedder = Embedder.load(artifacts.embedder)
    pictures = open_data(artifacts.photographs)
    build(Store(directory / "store"), embedder, pictures, BuildRecipe(thumbnail_side=24))
    embedder.close()
    own = replace(artifacts, store=directory / "store")
    flags = ("--api-keys", digest_of(KEY), "--admin-keys", digest_of(ADMIN))
    with serving(own, directory / "log", *flags) as running:
        yield running


@pytest.fixture
def photograph(artifacts: Artifacts) -> Path:
    """Give a picture of the gallery, as a file."""
    return artifacts.photographs / "landmark-2" / "picture-2-0.jpg"


def test_a_picture_is_answered_as_by_http(
    kind: str, service: Running, client: httpx.Client, photograph: Path
) -> None:
    """From bytes and from a file, no digit being lost."""
    plain = client.post("/predict", params={"k": 3}, content=photograph.read_bytes())
    for picture in (photograph, photograph.read_bytes()):
        answer = ask(kind, service.url, lambda client, it=picture: client.predict(it, k=3))
        assert isinstance(answer, cairn_client.Answer)
        assert holds(answer, Answer.model_validate_json(plain.content))
    assert answer.landmark_id == "landmark-2"


def test_one_neighbor_comes_unless_more_are_asked_for(
    kind: str, service: Running, photograph: Path
) -> None:
    """It tells which picture the answer is from."""
    answer = ask(kind, service.url, lambda client: client.predict(photograph))
    [neighbor] = answer.neighbors
    assert neighbor.picture == "landmark-2/picture-2-0"


def test_several_pictures_are_answered_in_order(
    kind: str, service: Running, photograph: Path
) -> None:
    """Each by itself, so that one that is damaged leaves the others be."""
    pictures = [view_bytes(4, 0), b"no picture", photograph]
    found = ask(kind, service.url, lambda client: client.predict_batch(pictures, k=0)).outcomes
    assert [outcome.name for outcome in found] == ["0", "1", photograph.name]
    assert [outcome.answer and outcome.answer.landmark_id for outcome in found] == [
        "landmark-4",
        None,
        "landmark-2",
    ]
    assert found[1].problem.code == "not-a-picture"


def test_landmarks_come_by_pages(kind: str, service: Running) -> None:
    """As many as are asked for, after those that are passed over."""
    page = ask(kind, service.url, lambda client: client.landmarks(offset=1, limit=2))
    assert (page.total, page.offset) == (5, 1)
    assert [landmark.landmark_id for landmark in page.landmarks] == ["landmark-1", "landmark-2"]


def test_the_service_says_what_answers(kind: str, service: Running) -> None:
    """Rows, and the gallery."""
    ready = ask(kind, service.url, lambda client: client.ready())
    assert (ready.status, ready.rows) == ("ready", 30)


def test_a_picture_of_the_gallery_can_be_the_query(kind: str, service: Running) -> None:
    """It finds others, and is verified and embedded like one that is sent."""
    query = GalleryPicture("landmark-2/picture-2-0")
    answer = ask(kind, service.url, lambda client: client.predict(query, 2))
    assert answer.landmark_id == "landmark-2"
    assert query.id not in [neighbor.picture for neighbor in answer.neighbors]
    found = ask(kind, service.url, lambda client: client.verify(query, "landmark-2"))
    assert (found.landmark_id, found.same, found.threshold) == ("landmark-2", None, None)


def test_answers_are_narrowed_and_widened(kind: str, service: Running, photograph: Path) -> None:
    """To the landmarks that may answer, and to as many different ones as asked for."""
    allowed = ["landmark-1", "landmark-4"]

    def narrow(client: Any) -> Any:
        return client.predict(photograph, landmarks=5, only=allowed)

    answer = ask(kind, service.url, narrow)
    assert {landmark.landmark_id for landmark in answer.landmarks} == set(allowed)
    assert answer.landmark_id == answer.landmarks[0].landmark_id


@pytest.mark.parametrize("by", ["mean", "max"])
def test_several_pictures_are_one_query(
    kind: str, service: Running, photograph: Path, by: str
) -> None:
    """With one answer."""
    pictures = [photograph, view_bytes(2, 3)]
    answer = ask(kind, service.url, lambda client: client.predict_together(pictures, by=by))
    assert answer.landmark_id == "landmark-2"
    found = ask(
        kind, service.url, lambda client: client.verify_together(pictures, "landmark-2", by=by)
    )
    assert found.landmark_id == "landmark-2"
    assert found.similarity == pytest.approx(answer.neighbors[0].similarity, abs=1e-6)


def test_a_vector_has_length_one(kind: str, service: Running, photograph: Path) -> None:
    """And as many numbers as are told."""
    found = ask(kind, service.url, lambda client: client.embed(photograph))
    assert len(found.vector) == found.dimension
    assert math.hypot(*found.vector) == pytest.approx(1, abs=1e-5)


def test_landmarks_are_found_by_name(kind: str, service: Running) -> None:
    """Whatever its case."""
    page = ask(kind, service.url, lambda client: client.landmarks(name="LANDMARK-3"))
    assert [landmark.landmark_id for landmark in page.landmarks] == ["landmark-3"]


def test_the_process_and_its_metrics_can_be_asked_for(kind: str, service: Running) -> None:
    """As monitoring does."""
    assert ask(kind, service.url, lambda client: client.alive()).status == "alive"
    assert "cairn_gallery_rows" in ask(kind, service.url, lambda client: client.metrics())


REFUSED = [
    (lambda client: client.predict(b""), 400, "picture-undecodable"),
    (lambda client: client.predict(b"no picture"), 415, "not-a-picture"),
    (lambda client: client.predict(bytes(8 << 20)), 413, "body-too-large"),
    (lambda client: client.predict(view_bytes(1, 0), k=101), 422, "bad-parameters"),
    (lambda client: client.predict_batch([]), 400, "multipart-malformed"),
    (lambda client: client.picture("absent"), 404, "picture-unknown"),
    (lambda client: client.picture("../healthz"), 404, "picture-unknown"),
    (lambda client: client.landmarks(limit=0), 422, "bad-parameters"),
    (lambda client: client.predict(GalleryPicture("absent")), 422, "id-unknown"),
    (lambda client: client.predict_together([]), 400, "picture-undecodable"),
    (lambda client: client.predict(b"", landmarks=101), 422, "bad-parameters"),
    (lambda client: client.reload(), 403, "admin-off"),
]


@pytest.mark.parametrize(("question", "status", "code"), REFUSED)
def test_a_refusal_is_an_error_with_its_facts(
    kind: str, service: Running, question: Any, status: int, code: str
) -> None:
    """Also where the service stops reading before all is sent; its log has the same id."""
    with pytest.raises(ServiceRefusedError) as caught:
        ask(kind, service.url, question)
    assert (caught.value.status, caught.value.code) == (status, code)
    deadline = time.monotonic() + 10
    while caught.value.request_id not in service.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_picture_of_the_gallery_is_shown(kind: str, guarded: Running) -> None:
    """By the id that a neighbor has."""

    def shown(client: Any) -> Any:
        return client.picture("landmark-0/picture-0-0")

    assert ask(kind, guarded.url, shown, KEY).startswith(b"\xff\xd8")


def test_keys_open_what_they_are_for(kind: str, guarded: Running) -> None:
    """One to ask, one to give orders; without, nothing."""
    for key in (None, ADMIN):
        with pytest.raises(ServiceRefusedError) as caught:
            ask(kind, guarded.url, lambda client: client.landmarks(), key)
        assert (caught.value.status, caught.value.code) == (401, "key-refused")
    assert ask(kind, guarded.url, lambda client: client.landmarks(), KEY).total == 5
    assert ask(kind, guarded.url, lambda client: client.reload(), ADMIN).rows == 30


def run(*words: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``cairn-serve predict``."""
    return subprocess.run(
        [sys.executable, "-m", "service", "predict", *words],
        cwd=ROOT,
        env=environment() | ({} if key is None else {"CAIRN_KEY": key}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_prints_a_line_for_each_picture(service: Running, artifacts: Artifacts) -> None:
    """In the order in which they were named, each with the file that it is about."""
    files = [str(artifacts.photographs / f"landmark-{n}" / f"picture-{n}-0.jpg") for n in (3, 0, 4)]
    ended = run(*files, "--url", service.url, "-k", "2")
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line["picture"] for line in lines] == files
    assert [line["landmark_id"] for line in lines] == ["landmark-3", "landmark-0", "landmark-4"]
    assert [len(line["neighbors"]) for line in lines] == [2, 2, 2]


def test_several_pictures_are_asked_about_at_once(photograph: Path) -> None:
    """Four, unless another number is given; the service answers none before it has four."""
    together = threading.Barrier(4)

    def answers_with_the_others(handler: Any) -> None:
        together.wait(30)
        ANSWERS(handler)

    with playing(answers_with_the_others) as script:
        ended = run(*[str(photograph)] * 8, "--url", script.url)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(ended.stdout.splitlines()) == 8


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_more_are_asked_about_at_once_than_is_said(photograph: Path, at_once: int) -> None:
    """A picture is asked about when another is answered."""
    asking, most = 0, 0
    counting = threading.Lock()

    def counts(handler: Any) -> None:
        nonlocal asking, most
        with counting:
            asking += 1
            most = max(most, asking)
        time.sleep(0.1)
        with counting:
            asking -= 1
        ANSWERS(handler)

    with playing(counts) as script:
        pictures = [str(photograph)] * 7
        ended = run(*pictures, "--url", script.url, "--at-once", str(at_once))
    assert ended.returncode == 0
    assert most == at_once


def test_a_slow_answer_keeps_its_place(photograph: Path, tmp_path: Path) -> None:
    """Lines come in the order of the pictures, whichever is answered first."""
    files = [shutil.copy(photograph, tmp_path / f"{number}.jpg") for number in range(4)]

    def is_slow(handler: Any) -> None:
        time.sleep(1)
        ANSWERS(handler)

    with playing(is_slow, ANSWERS) as script:
        ended = run(*map(str, files), "--url", script.url)
    assert [json.loads(line)["picture"] for line in ended.stdout.splitlines()] == [*map(str, files)]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_the_command_ends_in_silence_where_nobody_reads(
    photograph: Path, tmp_path: Path, stream: str
) -> None:
    """As other tools do behind ``| head -1``; the pictures that are left are not asked about."""
    picture = photograph if stream == "stdout" else tmp_path / "absent.jpg"
    pictures = [str(picture)] * 30
    reader, writer = os.pipe()
    os.close(reader)
    with playing(ANSWERS) as script:
        asked = ("predict", "--at-once", "1", "--url", script.url)
        ended = subprocess.run(
            [sys.executable, "-m", "service", *asked, *pictures],
            cwd=ROOT,
            env=environment(),
            timeout=120,
            check=False,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer},
        )
        assert len(script.asked) < 10
    os.close(writer)
    assert ended.returncode == UNREAD
    assert not ended.stdout
    assert not ended.stderr


def test_the_command_goes_on_after_a_picture_that_fails(
    service: Running, photograph: Path, tmp_path: Path
) -> None:
    """It says on stderr which, and ends with the code of the worst."""
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(photograph.read_bytes()[:100])
    absent = tmp_path / "absent.jpg"
    ended = run(str(damaged), str(absent), str(photograph), "--url", service.url)
    assert ended.returncode == ServiceRefusedError.exit_code
    [line] = ended.stdout.splitlines()
    assert json.loads(line)["landmark_id"] == "landmark-2"
    first, second = ended.stderr.splitlines()
    assert str(damaged) in first
    assert "picture-undecodable" in first
    assert str(absent) in second


def test_a_picture_that_is_not_there_is_told_by_the_exit_code(
    service: Running, tmp_path: Path
) -> None:
    """And in words."""
    ended = run(str(tmp_path / "absent.jpg"), "--url", service.url)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "No such file" in ended.stderr


def test_the_command_takes_the_key_from_a_file_or_the_environment(
    guarded: Running, photograph: Path, tmp_path: Path
) -> None:
    """The file wins; the key is never shown."""
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    asked = (str(photograph), "--url", guarded.url)
    assert run(*asked).returncode == ServiceRefusedError.exit_code
    assert run(*asked, key=KEY).returncode == 0
    assert run(*asked, "--key-file", str(file), key="another").returncode == 0
    file.write_bytes(b"two\nlines of secret")
    ended = run(*asked, "--key-file", str(file))
    assert ended.returncode == 2
    assert "secret" not in ended.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--url", "nowhere"),
        ("--key-file", "absent"),
        (),
        ("a.jpg", "-k", "many"),
        ("--at-once", "0"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(words: tuple[str, ...]) -> None:
    """With exit code 2 and in words."""
    ended = run(*(words and ("a.jpg", *words)))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "cairn-serve predict:" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_where_no_service_is_the_command_says_so(photograph: Path) -> None:
    """Port 1 is nobody's."""
    ended = run(str(photograph), "--url", "http://127.0.0.1:1")
    assert (ended.returncode, ended.stdout) == (13, "")
    assert "no answer from 127.0.0.1:1" in ended.stderr


def test_an_interrupt_ends_the_command(photograph: Path) -> None:
    """With the code of interrupted commands, and no traceback."""
    with playing(keeps_silent) as script:
        asked = [sys.executable, "-m", "service", "predict", str(photograph), "--url", script.url]
        with subprocess.Popen(
            asked, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True
        ) as process:
            deadline = time.monotonic() + 60
            while not script.asked:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")


def test_without_its_word_first_the_command_serves(artifacts: Artifacts) -> None:
    """As ever, also where the word comes later."""
    flags = ["--store", "predict", "--embedder", "absent", "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "service", *flags],
        cwd=artifacts.store,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert any("predict holds no published gallery" in line for line in process.stderr)
        process.terminate()
        assert process.wait(30) == 0
