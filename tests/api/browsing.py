"""The page in a tab of a real browser, as tests see it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Locator, Page, Request, Route, expect

from service.contract.schemas import Answer
from service.http.openapi_examples import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Collection

_NOT_LOADED = re.compile(
    r"Failed to load resource: "
    r"(?:the server responded with a status of (\d+)|net::(ERR_CONNECTION|\w+))"
)


@dataclass
class Visit:
    """The page in a tab, and what went wrong in it.

    Attributes:
        page: The tab.
        url: Of the service.
        foreseen: What shall fail to load: statuses, and Chromium's names of errors of the network,
            ``ERR_CONNECTION`` for all kinds of missing connections.
        failed: What did.
        faults: What went wrong unforeseen.
    """

    page: Page
    url: str
    foreseen: Collection[str] = ()
    failed: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Load the page, and look from now on at all that goes wrong in it."""
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._look_at_line)
        self.page.on("request", self._look_at_request)
        self.page.goto(self.url)

    def _look_at_line(self, line: ConsoleMessage) -> None:
        if line.type != "error":
            return
        failure = _NOT_LOADED.match(line.text)
        what = failure and (failure[1] or failure[2])
        if what in self.foreseen:
            self.failed.add(what)
        else:
            self.faults.append(line.text)

    def _look_at_request(self, asked: Request) -> None:
        if not asked.url.startswith((self.url, f"blob:{self.url}")):
            self.faults.append(f"asked {asked.url}")

    def close(self) -> None:
        """Close the tab; nothing but what was foreseen may have failed, and all of that must.

        It has no effect the second time. A test closes it that stops the service itself.
        """
        self.page.context.close()
        assert self.faults == []
        assert self.failed == set(self.foreseen)

    def choose(self, *files: Path) -> None:
        """Choose pictures with the page's own button."""
        self.page.get_by_label("Choose pictures").set_input_files(list(files))

    def bring(self, kind: str, path: Path) -> None:
        """Drop the bytes of a file onto the page, or paste them."""
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

    def drag_from_disk(self, *paths: Path) -> None:
        """Drop files and folders onto the page as a file manager does."""
        devtools = self.page.context.new_cdp_session(self.page)
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            place = {"type": kind, "x": 100, "y": 100, "data": data}
            devtools.send("Input.dispatchDragEvent", place)

    def pretend(self, answer: Answer, thumbnail: bytes) -> list[bytes]:
        """Answer in the service's place from now on; return a list that gets what is sent."""
        sent: list[bytes] = []

        def respond(route: Route) -> None:
            sent.append(route.request.post_data_buffer or b"")
            route.fulfill(json=answer.model_dump(mode="json"))

        self.page.route("**/predict?*", respond)
        self.page.route(
            "**/pictures/*", lambda route: route.fulfill(body=thumbnail, content_type="image/jpeg")
        )
        return sent

    @contextmanager
    def full(self) -> Iterator[None]:
        """Refuse pictures in the service's place, as a full one does."""
        overloaded = PROBLEMS[503].model_copy(update={"code": "overloaded"})
        problem = overloaded.model_dump(mode="json")
        headers = {"Retry-After": "1"}

        def refuse(route: Route) -> None:
            route.fulfill(status=503, json=problem, headers=headers)

        self.page.route("**/predict?*", refuse)
        yield
        self.page.unroute("**/predict?*", refuse)

    def card(self, number: int = 0) -> Locator:
        """Find a card; the newest is the first."""
        return self.page.locator(".card").nth(number)

    def headline(self, number: int = 0) -> Locator:
        """Find the headline of a card."""
        return self.card(number).get_by_role("heading")

    def again(self) -> Locator:
        """Find the button to ask again."""
        return self.page.get_by_role("button", name="Ask again")

    def wait_for_news(self, text: str) -> str:
        """Wait until ``text`` was announced; return all announcements, a line each."""
        news = self.page.get_by_role("log")
        expect(news).to_contain_text(text)
        return "\n".join(news.locator("p").all_text_contents())

    def demand_accessible(self) -> None:
        """Let axe-core look for what keeps people out."""
        # Run inside the page's own world: the policy forbids it as a script of the page.
        found = Axe().run(self.page).response["violations"]
        grave = [fault["id"] for fault in found if fault["impact"] in {"serious", "critical"}]
        assert grave == []
