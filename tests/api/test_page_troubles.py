"""What the page says and does when something is the matter, with the service or with a file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from PIL import Image
from playwright.sync_api import expect

from service.http.openapi_examples import ANSWER
from tests.api.browsing import Visit
from tests.api.conftest import MAX_BYTES, Artifacts, Running, serving
from tests.factories import picture, view_bytes


def noisy(landmark: int, size: tuple[int, int]) -> Image.Image:
    """Draw a landmark with so much noise that its file is large."""
    image = Image.open(BytesIO(view_bytes(landmark, 50))).resize(size)
    return Image.blend(image, Image.effect_noise(size, 60).convert("RGB"), 0.3)


@pytest.fixture(scope="module")
def roomy(shown: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run a service with the limits that it has by default."""
    with serving(shown, tmp_path_factory.mktemp("roomy") / "log") as service:
        yield service


def test_a_full_service_is_waited_for(
    roomy: Running, visit: Callable[..., Visit], pictures: list[Path]
) -> None:
    """503: cards say when it is asked again, the announcement is made once; then it answers."""
    visited = visit(roomy, "503")
    with visited.full():
        visited.choose(*pictures)
        expect(visited.headline(0)).to_have_text("The service is busy; trying again in 1 s")
        visited.wait_for_news("The service is busy; your pictures wait for it.")
        expect(visited.again()).to_have_count(0)
    for number in range(3):
        expect(visited.headline(number)).to_have_text(f"Best guess: landmark-{number}")
    news = visited.wait_for_news("landmark-2")
    assert news.count("busy") == 1


def test_a_service_that_stays_full_is_given_up(
    roomy: Running, visit: Callable[..., Visit], pictures: list[Path]
) -> None:
    """After a few attempts a person decides."""
    visited = visit(roomy, "503")
    with visited.full():
        asked = []
        visited.page.on("request", lambda request: asked.append(request.method))
        visited.choose(pictures[0])
        expect(visited.headline()).to_have_text("The service is busy")
        assert asked.count("POST") == 5
    visited.again().click()
    expect(visited.headline()).to_have_text("Best guess: landmark-0")


def test_who_asks_too_much_waits(
    visit: Callable[..., Visit], shown: Artifacts, pictures: list[Path], tmp_path: Path
) -> None:
    """429: while somebody else's pictures wait too, one of the page's is put off, not lost."""
    buffer = BytesIO()
    picture(1).convert("L").resize((7000, 7000)).save(buffer, "PNG")  # slow to decode
    flags = ("--threads", "1", "--waiting-pictures", "2", "--deadline-seconds", "120")
    with serving(shown, tmp_path / "log", *flags) as service:
        visited = visit(service, "429")
        statuses = []
        visited.page.on("response", lambda answer: statuses.append(answer.status))
        with crowd(service, buffer.getvalue()):
            visited.choose(*(3 * pictures))
            visited.wait_for_news("The service is busy")
        expect(visited.page.locator(".answered")).to_have_count(9)
        assert 429 in statuses
        visited.close()


@contextmanager
def crowd(service: Running, data: bytes) -> Iterator[None]:
    """Ask without a pause, five at a time, from another address; begin when that is too much."""
    stop, full = threading.Event(), threading.Event()

    def ask() -> None:
        transport = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(base_url=service.url, transport=transport, timeout=120) as client:
            while not stop.is_set():
                if client.post("/predict", content=data).status_code != 200:
                    full.set()
                    stop.wait(0.05)

    with ThreadPoolExecutor(5) as pool:
        asking = [pool.submit(ask) for _ in range(5)]
        try:
            assert full.wait(60)
            yield
        finally:
            stop.set()
    for one in asking:
        one.result()


@pytest.mark.parametrize("turned", [False, True], ids=["upright", "turned"])
def test_a_picture_above_the_limit_is_made_smaller(
    visit: Callable[..., Visit], open_service: Running, tmp_path: Path, *, turned: bool
) -> None:
    """The browser draws it anew before it is sent, upright as its EXIF says; the card tells."""
    path = tmp_path / "large.jpg"
    image, exif = noisy(1, (1600, 1200)), Image.Exif()
    if turned:
        image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
    image.save(path, quality=95, exif=exif)
    assert path.stat().st_size > MAX_BYTES
    visited = visit(open_service)
    sent = []
    visited.page.on("request", lambda request: sent.append(request.method))
    visited.choose(path)
    expect(visited.headline()).to_have_text("Best guess: landmark-1")
    expect(visited.card()).to_contain_text("Made smaller, and sent as a JPEG of 800 × 600 pixels")
    assert sent.count("POST") == 1


def test_a_picture_with_too_many_pixels_is_made_smaller(
    visit: Callable[..., Visit], shown: Artifacts, tmp_path: Path
) -> None:
    """Only the service knows that limit: it refuses the picture first."""
    path = tmp_path / "wide.jpg"
    Image.open(BytesIO(view_bytes(2, 50))).resize((2000, 1500)).save(path)
    with serving(shown, tmp_path / "log", "--max-pixels", "2000000") as service:
        visited = visit(service, "413")
        visited.choose(path)
        expect(visited.headline()).to_have_text("Best guess: landmark-2")
        expect(visited.card()).to_contain_text("sent as a JPEG of 1600 × 1200 pixels")
        visited.close()


def test_a_format_that_only_the_browser_reads_is_drawn_anew(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """A BMP is refused by the service and sent again as a JPEG."""
    path = pictures[1].with_suffix(".bmp")
    Image.open(pictures[1]).save(path)
    visited = visit(open_service, "415")
    visited.choose(path)
    expect(visited.headline()).to_have_text("Best guess: landmark-1")
    expect(visited.card()).to_contain_text("sent as a JPEG of 64 × 64 pixels")


def test_what_nobody_can_make_smaller_is_refused_in_words(
    visit: Callable[..., Visit], open_service: Running, tmp_path: Path
) -> None:
    """Without sending it."""
    path = tmp_path / "large.jpg"
    path.write_bytes(bytes(MAX_BYTES + 1))
    visited = visit(open_service)
    visited.choose(path)
    expect(visited.headline()).to_have_text("This picture is too large")
    expect(visited.card()).to_contain_text("At most 0.3 MB are taken")
    expect(visited.card().get_by_role("img")).to_have_count(0)
    expect(visited.again()).to_have_count(0)


def test_a_format_that_nobody_reads_is_refused_in_words(
    visit: Callable[..., Visit], open_service: Running, tmp_path: Path
) -> None:
    """TIFF: no preview, nor the sign of a broken picture; the words are the page's own."""
    path = tmp_path / "scan.tif"
    Image.new("RGB", (64, 64)).save(path)
    visited = visit(open_service, "415")
    visited.choose(path)
    expect(visited.headline()).to_have_text("This is not a picture that can be read here")
    expect(visited.card()).to_contain_text("A photograph saved as JPEG or PNG can be read.")
    told = httpx.post(f"{open_service.url}/predict", content=path.read_bytes(), trust_env=False)
    assert told.json()["detail"] not in visited.card().inner_text()
    expect(visited.card().get_by_role("img")).to_have_count(0)
    expect(visited.again()).to_have_count(0)


def test_what_the_browser_cannot_read_is_sent_as_it_is(
    visit: Callable[..., Visit], roomy: Running, tmp_path: Path
) -> None:
    """HEIC in most browsers, also if it is large enough to be made smaller."""
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(600_000))
    visited = visit(roomy)
    sent = visited.pretend(ANSWER, view_bytes(0, 0))
    visited.choose(path)
    expect(visited.headline()).to_have_text("Hawa Mahal")
    assert sent == [path.read_bytes()]


@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "changed"])
def test_a_file_that_is_not_what_was_chosen_is_told_of(
    roomy: Running, visit: Callable[..., Visit], pictures: list[Path], *, deleted: bool
) -> None:
    """It is not the service that is the matter, and asking again is of no use."""
    visited = visit(roomy, "503", "ERR_FILE_NOT_FOUND" if deleted else "ERR_UPLOAD_FILE_CHANGED")
    with visited.full():
        visited.choose(pictures[0])
        expect(visited.headline()).to_contain_text("trying again")
        if deleted:
            pictures[0].unlink()
        else:
            pictures[0].write_bytes(view_bytes(3, 3))
            os.utime(pictures[0], (1, 1))
    expect(visited.headline()).to_have_text("This file cannot be read any more")
    expect(visited.card()).to_contain_text("Choose it once more")
    expect(visited.again()).to_have_count(0)


def test_a_folder_is_called_one(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path], tmp_path: Path
) -> None:
    """What was dropped with it is answered."""
    folder = tmp_path / "Rome 2019"
    folder.mkdir()
    visited = visit(open_service)
    visited.drag_from_disk(folder, pictures[0])
    expect(visited.page.locator(".answered h2")).to_have_text("Best guess: landmark-0")
    trouble = visited.page.locator(".trouble")
    expect(trouble).to_have_count(1)
    expect(trouble).to_contain_text("This is a folder")
    expect(trouble).to_contain_text("Rome 2019")
    assert "Rome 2019: This is a folder." in visited.wait_for_news("Rome 2019")
