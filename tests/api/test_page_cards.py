"""What a person does with the cards: read, compare, remove, look at earlier ones."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Route, expect

from service.contract.schemas import Answer, Neighbor
from service.http.openapi_examples import ANSWER
from tests.api.browsing import Visit
from tests.api.conftest import Running
from tests.api.test_page_troubles import noisy, roomy
from tests.factories import view_bytes

__all__ = ["roomy"]

PHONE = {"width": 320, "height": 640}
WIKIMEDIA = "https://commons.wikimedia.org/wiki/Category:Hawa_Mahal"
THUMBNAIL = view_bytes(1, 0)


def answer(**changes: Any) -> Answer:
    """Give an answer with other possibilities than the first."""
    names = {"138982": "Hawa Mahal", "7": "City Palace", "8": "Amber Fort"}
    landmarks = tuple(
        Neighbor(
            landmark_id=number,
            name=name,
            url=WIKIMEDIA if number == "7" else None,
            picture=f"{number}.jpg",
            similarity=0.8,
            credit=None,
        )
        for number, name in names.items()
    )
    return ANSWER.model_copy(update={"url": WIKIMEDIA, "landmarks": landmarks, **changes})


@pytest.mark.parametrize(
    ("changes", "headline", "words"),
    [
        pytest.param({}, "Hawa Mahal", "Very sure: right with a probability of 97 %", id="known"),
        pytest.param(
            {"known": False, "probability": 0.2},
            "Probably not a landmark I know",
            "Nearest guess: Hawa Mahal.",
            id="unknown",
        ),
        pytest.param(
            {"known": False, "probability": 0.8},
            "I am not sure that I know this",
            "Not sure enough: right with a probability of 80 %",
            id="unsure",
        ),
        pytest.param(
            {"known": None, "probability": None},
            "Best guess: Hawa Mahal",
            "It may be no landmark at all",
            id="uncalibrated",
        ),
        pytest.param(
            {"known": None, "probability": None, "confidence": 0.3},
            "Perhaps no landmark I know",
            "Hardly similar to its pictures. Confidence 0.30",
            id="a-cat",
        ),
    ],
)
def test_the_headline_claims_no_more_than_is_known(
    visit: Callable[..., Visit],
    open_service: Running,
    pictures: list[Path],
    changes: dict[str, Any],
    headline: str,
    words: str,
) -> None:
    """Only a landmark above the threshold is named without reserve; the bar is as long as sure."""
    told = answer(**changes)
    visited = visit(open_service)
    visited.pretend(told, THUMBNAIL)
    visited.choose(pictures[0])
    expect(visited.headline()).to_have_text(headline)
    expect(visited.card()).to_contain_text(words)
    length = visited.card().locator("meter").evaluate("bar => bar.value")
    assert length == pytest.approx(told.probability or told.confidence)


def test_there_is_more_to_read_beside_the_answer(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """Links of landmarks open in a tab of their own; other possibilities are one press away."""
    visited = visit(open_service)
    visited.pretend(answer(), THUMBNAIL)
    visited.choose(pictures[0])
    link = visited.card().get_by_role("link", name="Read about Hawa Mahal")
    expect(link).to_have_attribute("href", WIKIMEDIA)
    others = visited.card().locator(".others")
    expect(others.locator("li:visible")).to_have_count(0)
    others.get_by_text("Other possibilities").click()
    expect(others.locator(".name")).to_have_text(["City Palace", "Amber Fort"])
    expect(others.locator(".compare:visible")).to_have_count(2)
    visited.demand_accessible()
    for one in visited.page.locator("main a").all():
        assert one.get_attribute("target") == "_blank"
        assert one.get_attribute("rel") == "noopener noreferrer"


def test_a_service_without_links_and_possibilities_is_shown_without_them(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """Nothing stands where they would."""
    visited = visit(open_service)
    visited.pretend(answer(url=None, landmarks=None), THUMBNAIL)
    visited.choose(pictures[0])
    expect(visited.headline()).to_have_text("Hawa Mahal")
    expect(visited.card().locator(".others, .about")).to_have_count(2)
    expect(visited.card().locator(".others:visible, .about:visible")).to_have_count(0)


@pytest.mark.parametrize("viewport", [{"width": 1280, "height": 800}, PHONE])
def test_pictures_are_compared_side_by_side(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path], viewport: Any
) -> None:
    """Both are seen whole, then as large as one likes; focus returns to where it was."""
    visited = visit(open_service, viewport=viewport)
    visited.choose(pictures[1])
    expect(visited.card().locator(".compare:visible")).to_have_count(5)
    opener = visited.card().locator(".compare").first
    opener.press("Enter")
    dialog = visited.page.get_by_role("dialog")
    images = dialog.get_by_role("img")
    expect(images).to_have_count(2)
    expect(images.first).to_have_attribute("alt", "Your picture holiday 1.jpg")
    expect(images.last).to_have_attribute("alt", "A picture of landmark-1")
    boxes = [image.bounding_box() or {} for image in images.all()]
    apart = "y" if viewport is PHONE else "x"
    assert boxes[1][apart] >= boxes[0][apart] + boxes[0]["height" if viewport is PHONE else "width"]
    visited.demand_accessible()
    dialog.get_by_role("slider", name="Zoom").fill("3")
    for image, box in zip(images.all(), boxes, strict=True):
        assert (image.bounding_box() or {})["width"] == pytest.approx(3 * box["width"], rel=0.1)
    middle = "frame => [frame.scrollLeft + frame.clientWidth / 2, frame.scrollWidth / 2]"
    for frame in dialog.locator(".frame").all():
        place, center = frame.evaluate(middle)
        assert place == pytest.approx(center, abs=2)
    dialog.get_by_role("button", name="Next").click()
    expect(dialog).to_contain_text("(2 of 5)")
    dialog.get_by_role("button", name="Previous").click()
    dialog.get_by_role("button", name="Previous").click()
    expect(dialog).to_contain_text("(5 of 5)")
    assert visited.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    visited.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()


def test_each_picture_can_be_removed(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """The others keep their order; focus goes to the next, at last to where one begins."""
    visited = visit(open_service)
    visited.choose(*pictures)
    expect(visited.page.locator(".answered")).to_have_count(3)
    visited.page.get_by_role("button", name="Remove holiday 1.jpg").press("Enter")
    expect(visited.page.locator(".file")).to_have_text(["holiday 0.jpg", "holiday 2.jpg"])
    expect(visited.headline(1)).to_be_focused()
    visited.wait_for_news("holiday 1.jpg was removed.")
    for _ in range(2):
        visited.page.get_by_role("button", name="Remove").first.press("Enter")
    expect(visited.page.locator(".card")).to_have_count(0)
    expect(visited.page.locator("#pick")).to_be_focused()


def test_what_is_removed_is_not_asked_about(
    roomy: Running, visit: Callable[..., Visit], pictures: list[Path]
) -> None:
    """Neither what waits in the page nor what waits for a busy service; the rest is answered."""
    visited = visit(roomy, "503")
    with visited.full():
        visited.choose(*pictures, pictures[0])
        expect(visited.headline(0)).to_contain_text("trying again")
        expect(visited.headline(1)).to_contain_text("trying again")
        visited.page.get_by_role("button", name="Remove holiday 0.jpg").first.click()
        visited.page.get_by_role("button", name="Remove holiday 2.jpg").click()
    asked = []
    visited.page.on("request", lambda request: asked.append(request.method))
    expect(visited.page.locator(".answered")).to_have_count(2)
    expect(visited.headline(0)).to_have_text("Best guess: landmark-1")
    expect(visited.headline(1)).to_have_text("Best guess: landmark-0")
    assert asked.count("POST") == 2


@pytest.mark.parametrize("turned", [False, True], ids=["upright", "turned"])
def test_a_large_picture_is_made_smaller_before_it_is_sent(
    visit: Callable[..., Visit], roomy: Running, tmp_path: Path, *, turned: bool
) -> None:
    """Upright as its EXIF says, also where the service would take it as it is; the card tells."""
    path = tmp_path / "large.jpg"
    image, exif = noisy(1, (2400, 1800)), Image.Exif()
    if turned:
        image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
    image.save(path, quality=95, exif=exif)
    visited = visit(roomy)
    sent = visited.pretend(ANSWER, THUMBNAIL)
    visited.choose(path)
    expect(visited.card()).to_contain_text("Made smaller, and sent as a JPEG of 1600 × 1200 pixels")
    [data] = sent
    assert len(data) < path.stat().st_size / 2
    assert Image.open(BytesIO(data)).size == (1600, 1200)


def test_a_small_picture_is_sent_as_it_is(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """Byte for byte."""
    visited = visit(open_service)
    sent = visited.pretend(ANSWER, THUMBNAIL)
    visited.choose(pictures[0])
    expect(visited.headline()).to_have_text("Hawa Mahal")
    assert sent == [pictures[0].read_bytes()]


def test_nothing_is_waited_for_without_a_limit(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """Neither an answer nor a thumbnail that never comes."""
    visited = visit(open_service)
    visited.page.evaluate(
        """() => {
          const timeout = AbortSignal.timeout.bind(AbortSignal);
          AbortSignal.timeout = (milliseconds) => timeout(milliseconds / 100);
        }"""
    )
    unanswered: list[Route] = []

    def keep(route: Route) -> None:
        unanswered.append(route)

    visited.page.route("**/predict?*", keep)
    visited.choose(pictures[0])
    expect(visited.headline()).to_have_text("The answer took too long")
    visited.page.unroute_all()
    visited.page.route("**/pictures/*", keep)
    visited.again().click()
    expect(visited.headline()).to_have_text("Best guess: landmark-0")
    expect(visited.page.locator(".neighbors .name").last).to_have_text(r"landmark-0")
    assert len(unanswered) > 1


@pytest.mark.parametrize("has_camera", [False, True])
def test_a_photograph_is_offered_where_there_is_a_camera(
    visit: Callable[..., Visit], open_service: Running, *, has_camera: bool
) -> None:
    """Which a browser tells by knowing the attribute that opens it."""
    visited = visit(open_service)
    if has_camera:
        knows = "Object.defineProperty(HTMLInputElement.prototype, 'capture', { value: '' })"
        visited.page.add_init_script(knows)
        visited.page.reload()
    expect(visited.page.get_by_text("Take a photograph")).to_be_visible(visible=has_camera)
    reached = []
    for _ in range(2):
        visited.page.keyboard.press("Tab")
        reached.append(visited.page.evaluate("document.activeElement.id"))
    assert reached == ["pick", "photograph" if has_camera else ""]


def test_earlier_pictures_stay_in_this_browser_until_they_are_cleared(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """With a small copy and the answer, also after a reload; names are text."""
    named = pictures[0].rename(pictures[0].with_name("<b>a.jpg"))
    visited = visit(open_service)
    visited.choose(named, pictures[1])
    history = visited.page.locator("#history")
    expect(history.locator("summary")).to_have_text("Earlier pictures (2)")
    visited.page.reload()
    history.locator("summary").click()
    expect(history).to_contain_text("kept in this browser only")
    expect(history.locator("li")).to_have_count(2)
    expect(history.get_by_role("list")).to_contain_text("<b>a.jpg")
    expect(history.get_by_role("list")).to_contain_text("Best guess: landmark-0")
    expect(history.locator("img:visible")).to_have_count(2)
    shown = "img => img.decode().then(() => img.naturalWidth)"
    assert history.locator("img").first.evaluate(shown) == 64
    visited.demand_accessible()
    history.get_by_role("button", name="Clear the history").click()
    expect(history).to_be_hidden()
    assert visited.page.evaluate("localStorage.length") == 0


def test_what_is_removed_is_not_remembered(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """Nor is anything kept of it."""
    visited = visit(open_service)
    visited.choose(*pictures)
    history = visited.page.locator("#history")
    expect(history.locator("summary")).to_have_text("Earlier pictures (3)")
    visited.page.get_by_role("button", name="Remove holiday 1.jpg").click()
    expect(history.locator("summary")).to_have_text("Earlier pictures (2)")
    assert "holiday 1" not in visited.page.evaluate("JSON.stringify(localStorage)")


@pytest.mark.parametrize("kept", ["nonsense", "{}", "null"])
def test_a_history_that_cannot_be_read_is_none(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path], kept: str
) -> None:
    """The page works on, and begins a new one."""
    visited = visit(open_service)
    visited.page.evaluate("kept => localStorage.setItem('history', kept)", kept)
    visited.page.reload()
    expect(visited.page.locator("#history")).to_be_hidden()
    visited.choose(pictures[0])
    expect(visited.page.locator("#history summary")).to_have_text("Earlier pictures (1)")


def test_the_page_works_behind_a_stripped_prefix(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """Every address is relative, as a proxy that removes a part of it needs."""
    visited = visit(open_service)
    visited.page = visited.page.context.new_page()  # the first may still ask for its icon
    prefix = f"{open_service.url}/deep/prefix"

    def strip(route: Route) -> None:
        address = route.request.url.replace(prefix, open_service.url)
        route.fulfill(response=route.fetch(url=address))

    visited.page.route(f"{prefix}/**", strip)
    asked: list[str] = []
    visited.page.on("request", lambda request: asked.append(request.url))
    visited.page.goto(f"{prefix}/")
    visited.choose(pictures[1])
    expect(visited.page.locator(".neighbors img:visible")).to_have_count(5)
    visited.page.get_by_role("link", name="the HTTP interface").click()
    expect(visited.page.get_by_role("heading", level=1)).to_have_text("Cairn")
    assert len(asked) > 10
    assert [url for url in asked if not url.removeprefix("blob:").startswith(prefix)] == [
        url for url in asked if url.startswith("blob:")
    ]
