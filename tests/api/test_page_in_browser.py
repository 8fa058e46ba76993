"""What a person does with the page, in a real browser, with the real service."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from service.contract.api_keys import digest_of, new_key
from tests.api.browsing import Visit
from tests.api.conftest import MAX_BYTES, Artifacts, Running, serving

KEY = new_key()
PHONE = {"width": 320, "height": 640}


@pytest.mark.parametrize("viewport", [None, PHONE], ids=["desktop", "phone"])
def test_a_chosen_picture_is_answered_with_its_neighbors(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path], viewport: Any
) -> None:
    """The landmark, how sure, the nearest pictures with names; nothing wider than the screen."""
    visited = visit(open_service, viewport=viewport or {"width": 1280, "height": 800})
    visited.choose(pictures[1])
    expect(visited.headline()).to_have_text("Best guess: landmark-1")
    card = visited.page.locator(".card")
    expect(card).to_contain_text("Confidence")
    neighbors = card.locator(".neighbors li")
    expect(neighbors).to_have_count(5)
    expect(neighbors.first.get_by_role("button", name="a picture of landmark-1")).to_be_visible()
    expect(neighbors.first.locator("img")).to_be_visible()
    expect(neighbors.first).to_contain_text("landmark-1")
    width = visited.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert width <= 0


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_can_be_dropped_or_pasted(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path], kind: str
) -> None:
    """It is answered as a chosen one."""
    visited = visit(open_service)
    visited.bring(kind, pictures[2])
    expect(visited.headline()).to_have_text("Best guess: landmark-2")


def test_several_pictures_are_answered_each_on_its_card(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """In their order, and later ones above; one that is no picture leaves the others be."""
    text = pictures[0].with_name("notes.txt")
    text.write_text("not a picture")
    large = pictures[0].with_name("large.jpg")
    large.write_bytes(bytes(MAX_BYTES + 1))
    visited = visit(open_service, "415")
    visited.choose(*pictures, text, large)
    for number in range(3):
        expect(visited.headline(number)).to_have_text(f"Best guess: landmark-{number}")
    expect(visited.headline(3)).to_have_text("This is not a picture that can be read here")
    expect(visited.headline(4)).to_have_text("This picture is too large")
    expect(visited.again()).to_have_count(0)
    visited.choose(pictures[1])
    expect(visited.page.locator(".card")).to_have_count(6)
    expect(visited.headline(0)).to_have_text("Best guess: landmark-1")


def test_markup_in_a_name_is_text(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """Whatever a file is called, the page shows it and does not obey it."""
    named = pictures[0].rename(pictures[0].with_name("<img src=x onerror=alert(1)>.jpg"))
    visited = visit(open_service)
    visited.choose(named)
    expect(visited.page.locator(".file")).to_have_text(named.name)
    expect(visited.headline()).to_have_text("Best guess: landmark-0")


def test_a_service_that_is_gone_is_told_and_can_be_asked_again(
    visit: Callable[..., Visit], shown: Artifacts, pictures: list[Path], tmp_path: Path
) -> None:
    """The page stays and says what happened; once the service is back, it answers.

    Who presses the button by the keyboard stays at the card.
    """
    with serving(shown, tmp_path / "log") as service:
        visited = visit(service, "ERR_CONNECTION")
        visited.choose(pictures[0])
        expect(visited.headline()).to_have_text("Best guess: landmark-0")
        expect(visited.page.locator(".neighbors img").last).to_be_visible()
    visited.choose(pictures[1])
    expect(visited.headline()).to_have_text("The service does not answer")
    visited.again().press("Enter")
    expect(visited.headline()).to_have_text("The service does not answer")
    expect(visited.headline()).to_be_focused()
    visited.page.keyboard.press("Tab")
    expect(visited.again()).to_be_focused()
    port = service.url.rpartition(":")[2]
    with serving(shown, tmp_path / "later", "--port", port):
        visited.page.keyboard.press("Enter")
        expect(visited.headline()).to_have_text("Best guess: landmark-1")
        expect(visited.headline()).to_be_focused()
        expect(visited.again()).to_have_count(0)
        visited.close()


def test_a_key_is_asked_for_and_used(
    visit: Callable[..., Visit], shown: Artifacts, pictures: list[Path], tmp_path: Path
) -> None:
    """What was asked without it is asked again with it, by the keyboard alone."""
    with serving(shown, tmp_path / "log", "--api-keys", digest_of(KEY)) as service:
        visited = visit(service, "401")
        visited.choose(pictures[0])
        expect(visited.page.get_by_label("This service asks for a key")).to_be_focused()
        visited.page.keyboard.type(KEY)
        visited.page.keyboard.press("Enter")
        expect(visited.headline()).to_have_text("Best guess: landmark-0")
        expect(visited.headline()).to_be_focused()
        expect(visited.page.locator(".neighbors img").first).to_be_visible()
        assert KEY not in visited.page.evaluate("JSON.stringify(localStorage)")
        visited.close()


def test_everything_is_reached_by_the_keyboard(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """In the order of reading, and it is seen where one is."""
    visited = visit(open_service)
    visited.choose(pictures[0])
    expect(visited.page.locator(".compare:visible")).to_have_count(5)
    visited.page.locator("body").click(position={"x": 1, "y": 1})
    reached = []
    for _ in range(9):
        visited.page.keyboard.press("Tab")
        reached.append(
            visited.page.evaluate("document.activeElement.id || document.activeElement.className")
        )
    compares = [name for name in reached if name == "compare"]
    assert reached[:2] == ["pick", "remove"]
    assert len(compares) == 5
    visited.page.locator("#pick").focus()
    outline = "getComputedStyle(document.querySelector('[for=pick]')).outlineStyle"
    assert visited.page.evaluate(outline) == "solid"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path], scheme: str
) -> None:
    """Neither on the empty page nor with answers and a mistake, in either scheme."""
    text = pictures[0].with_name("notes.txt")
    text.write_text("not a picture")
    visited = visit(open_service, "415", color_scheme=scheme)
    visited.demand_accessible()
    visited.choose(*pictures, text)
    for number in range(3):
        expect(visited.headline(number)).to_have_text(f"Best guess: landmark-{number}")
    expect(visited.page.locator(".trouble")).to_have_count(1)
    expect(visited.page.locator(".neighbors img").last).to_be_visible()
    visited.demand_accessible()


def test_everything_is_announced_once_and_in_order(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """Answers that arrive together do not overwrite each other; lines are added, never changed."""
    text = pictures[0].with_name("notes.txt")
    text.write_text("not a picture")
    visited = visit(open_service, "415")
    visited.page.evaluate(
        """() => {
          window.changes = [];
          const look = (seen) => changes.push(...seen.map((change) => change.type));
          const all = { childList: true, characterData: true, subtree: true };
          new MutationObserver(look).observe(document.querySelector("[role=log]"), all);
          window.done = [];
          const note = ({ target }) =>
            target.matches(".answered, .trouble") && done.push(target.querySelector("p").innerText);
          const classes = { attributeFilter: ["class"], subtree: true };
          new MutationObserver((seen) => seen.forEach(note)).observe(document.body, classes);
        }"""
    )
    visited.choose(*pictures, text)
    expect(visited.page.locator(".answered, .trouble")).to_have_count(4)
    done = visited.page.evaluate("done")
    news = visited.wait_for_news(done[-1])
    assert news.startswith("Looking at 4 pictures.")
    assert re.findall(r"(?:holiday \d|notes)\.\w+(?=: )", news) == done
    guesses = [f"jpg: Best guess: landmark-{number}." for number in range(3)]
    for words in (*guesses, "txt: This is not"):
        assert news.count(words) == 1
    assert visited.page.evaluate("changes") == ["childList"] * len(news.splitlines())
