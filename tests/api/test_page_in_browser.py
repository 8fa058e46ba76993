"""What a person does with the page, in a real browser, with the real service."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from embedder.embedder import Embedder
from embedder.photographs import open_data
from index.build import BuildRecipe, build
from index.store import Store
from service.security import digest_of, new_key
from tests.api.conftest import MAX_BYTES, Artifacts, Running, serving
from tests.factories import view_bytes

KEY = new_key()
PHONE = {"width": 320, "height": 640}
PATIENCE_MILLISECONDS = 30_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Start Chromium, as Debian packs it."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    expect.set_options(timeout=PATIENCE_MILLISECONDS)
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=path, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )


@pytest.fixture(scope="module")
def shown(artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """Build a gallery whose pictures can be shown."""
    store = Store(tmp_path_factory.mktemp("page") / "store")
    embedder = Embedder.load(artifacts.embedder)
    build(store, embedder, open_data(artifacts.photographs), BuildRecipe(thumbnail_side=48))
    embedder.close()
    return replace(artifacts, store=store.path)


@pytest.fixture(scope="module")
def open_service(shown: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serve it to anybody."""
    log = tmp_path_factory.mktemp("page") / "log"
    with serving(shown, log, "--max-bytes", str(MAX_BYTES)) as running:
        yield running


@dataclass
class Visit:
    """The page in a tab, and what went wrong in it."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)

    def choose(self, *files: Path) -> None:
        """Choose pictures with the page's own button."""
        self.page.get_by_label("Choose pictures").set_input_files(list(files))

    def bring(self, kind: str, path: Path) -> None:
        """Drop a file onto the page, or paste it."""
        self.page.evaluate(
            """([kind, bytes, name]) => {
              const data = new DataTransfer();
              data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
              const event = kind === "paste"
                ? new ClipboardEvent(kind, { clipboardData: data, bubbles: true })
                : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
              document.body.dispatchEvent(event);
            }""",
            [kind, list(path.read_bytes()), path.name],
        )

    def headline(self, number: int = 0) -> Any:
        """Find the headline of a card; the newest is the first."""
        return self.page.locator(".card").nth(number).get_by_role("heading")

    def demand_accessible(self) -> None:
        """Let axe-core look for what keeps people out."""
        # Run inside the page's own world: the policy forbids it as a script of the page.
        found = Axe().run(self.page).response["violations"]
        grave = [fault["id"] for fault in found if fault["impact"] in {"serious", "critical"}]
        assert grave == []


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Give a function that opens the page of a service; nothing may go wrong in it unseen."""
    visits = []

    def open_page(service: Running, **options: Any) -> Visit:
        context = browser.new_context(**options)
        context.set_default_timeout(PATIENCE_MILLISECONDS)
        found = Visit(context.new_page(), service.url)
        found.page.on("pageerror", lambda error: found.faults.append(str(error)))
        found.page.on(
            "console",
            lambda line: (
                found.faults.append(line.text)
                if line.type == "error" and "Failed to load resource" not in line.text
                else None
            ),
        )
        found.page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith((service.url, f"blob:{service.url}"))
                else found.faults.append(f"asked {asked.url}")
            ),
        )
        found.page.goto(service.url)
        visits.append(found)
        return found

    yield open_page
    for found in visits:
        assert found.faults == []
        found.page.context.close()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Write pictures that the gallery has not seen, one of each of three landmarks."""
    paths = [tmp_path / f"holiday {landmark}.jpg" for landmark in range(3)]
    for landmark, path in enumerate(paths):
        path.write_bytes(view_bytes(landmark, 50))
    return paths


@pytest.mark.parametrize("viewport", [None, PHONE], ids=["desktop", "phone"])
def test_a_chosen_picture_is_answered_with_its_neighbors(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path], viewport: Any
) -> None:
    """The landmark, how sure, the nearest pictures with names; nothing wider than the screen."""
    visited = visit(open_service, viewport=viewport or {"width": 1280, "height": 800})
    visited.choose(pictures[1])
    expect(visited.headline()).to_have_text("landmark-1")
    card = visited.page.locator(".card")
    expect(card).to_contain_text("Confidence")
    neighbors = card.locator(".neighbors li")
    expect(neighbors).to_have_count(5)
    expect(neighbors.first.get_by_role("img")).to_be_visible()
    expect(neighbors.first).to_contain_text("landmark-1")
    expect(visited.page.get_by_role("status")).to_contain_text("landmark-1")
    width = visited.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert width <= 0


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_can_be_dropped_or_pasted(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path], kind: str
) -> None:
    """It is answered as a chosen one."""
    visited = visit(open_service)
    visited.bring(kind, pictures[2])
    expect(visited.headline()).to_have_text("landmark-2")


def test_several_pictures_are_answered_each_on_its_card(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """The newest card stands first; one that is no picture leaves the others be."""
    text = pictures[0].with_name("notes.txt")
    text.write_text("not a picture")
    large = pictures[0].with_name("large.jpg")
    large.write_bytes(view_bytes(1, 0) + bytes(MAX_BYTES))
    visited = visit(open_service)
    visited.choose(*pictures, text, large)
    expect(visited.headline(0)).to_have_text("This picture is too large")
    expect(visited.headline(1)).to_have_text("This is not a picture that can be read here")
    for number in range(3):
        expect(visited.headline(4 - number)).to_have_text(f"landmark-{number}")
    expect(visited.page.locator(".card").first.get_by_text("Ask again")).to_be_hidden()


def test_markup_in_a_name_is_text(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path]
) -> None:
    """Whatever a file is called, the page shows it and does not obey it."""
    named = pictures[0].rename(pictures[0].with_name("<img src=x onerror=alert(1)>.jpg"))
    visited = visit(open_service)
    visited.choose(named)
    expect(visited.page.locator(".file")).to_have_text(named.name)
    expect(visited.headline()).to_have_text("landmark-0")


def test_a_service_that_is_gone_is_told_and_can_be_asked_again(
    visit: Callable[..., Visit], shown: Artifacts, pictures: list[Path], tmp_path: Path
) -> None:
    """The page stays, says what happened, and offers to try once more."""
    with serving(shown, tmp_path / "log") as service:
        visited = visit(service)
        visited.choose(pictures[0])
        expect(visited.headline()).to_have_text("landmark-0")
    visited.choose(pictures[1])
    expect(visited.headline()).to_have_text("The service does not answer")
    expect(visited.page.get_by_role("button", name="Ask again")).to_be_visible()
    expect(visited.page.get_by_role("button", name="Ask again")).to_be_enabled()


def test_a_key_is_asked_for_and_used(
    visit: Callable[..., Visit], shown: Artifacts, pictures: list[Path], tmp_path: Path
) -> None:
    """What was asked without it is asked again with it, by the keyboard alone."""
    with serving(shown, tmp_path / "log", "--api-keys", digest_of(KEY)) as service:
        visited = visit(service)
        visited.choose(pictures[0])
        expect(visited.page.get_by_label("This service asks for a key")).to_be_focused()
        visited.page.keyboard.type(KEY)
        visited.page.keyboard.press("Enter")
        expect(visited.headline()).to_have_text("landmark-0")
        expect(visited.page.locator(".neighbors img").first).to_be_visible()
        assert visited.page.evaluate("localStorage.length") == 0


def test_everything_is_reached_by_the_keyboard(
    visit: Callable[..., Visit], open_service: Running
) -> None:
    """In the order of reading, and it is seen where one is."""
    visited = visit(open_service)
    reached = []
    for _ in range(2):
        visited.page.keyboard.press("Tab")
        reached.append(visited.page.evaluate("document.activeElement.id"))
    assert reached == ["pick", "photograph"]
    outline = "getComputedStyle(document.querySelector('[for=photograph]')).outlineStyle"
    assert visited.page.evaluate(outline) == "solid"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_grave(
    visit: Callable[..., Visit], open_service: Running, pictures: list[Path], scheme: str
) -> None:
    """Neither on the empty page nor with answers and a mistake, in either scheme."""
    text = pictures[0].with_name("notes.txt")
    text.write_text("not a picture")
    visited = visit(open_service, color_scheme=scheme)
    visited.demand_accessible()
    visited.choose(*pictures, text)
    for number in range(3):
        expect(visited.headline(3 - number)).to_have_text(f"landmark-{number}")
    expect(visited.page.locator(".trouble")).to_have_count(1)
    expect(visited.page.locator(".neighbors img").last).to_be_visible()
    visited.demand_accessible()
