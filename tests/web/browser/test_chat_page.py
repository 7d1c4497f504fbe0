"""The chat page in a real browser, under the servers that people run it with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from chat_servers import FOLDER, HEARTBEAT, SERVERS, THREADS, Site, running
from chat_wires import chunk
from clients import in_time

from resilient_requests.testing import respond, sse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chromium import ChatPage
    from selenium.webdriver import Chrome

    from resilient_requests.testing import FaultServer

SCREENSHOTS = os.environ.get("SCREENSHOTS")
MARGIN = 1.2  # seconds that a busy machine may take
STALL = sse(chunk("word "), done=False, ending="silence")
MISSING = {
    "selenium, a framework or a server": all(
        find_spec(name)
        for name in ("selenium", "fastapi", "flask", "gunicorn", "rest_framework", "uvicorn")
    ),
    "chromium or chromium-driver": shutil.which("chromium") and shutil.which("chromedriver"),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.leaks("the browser and the servers live for the whole module"),
    pytest.mark.skipif(
        not all(MISSING.values()) and "CI" not in os.environ,
        reason=f"{' and '.join(what for what, found in MISSING.items() if not found)} is missing: "
        "apt-get install chromium chromium-driver, and nox -s browser",
    ),
]


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    """A browser."""
    from chromium import browser

    with browser() as driver:
        yield driver


@pytest.fixture(scope="module", params=list(SERVERS))
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The page under one of the servers."""
    sys.path.insert(0, str(FOLDER))
    import provider

    log = tmp_path_factory.mktemp("site") / "log"
    with running(request.param, provider.answer, log) as site:
        yield site
    sys.path.remove(str(FOLDER))


@pytest.fixture
def page(site: Site, driver: Chrome) -> Iterator[ChatPage]:
    """The page, in the browser. Afterwards the upstream has nothing to do any more."""
    from chromium import ChatPage

    page = ChatPage(driver, site.url)
    yield page
    page.leave()


def seconds_to_end(site: Site, since: float) -> float:
    """The seconds until the connection of the last request has ended at the provider."""
    asked = site.provider.requests[-1].connection
    ended = site.provider.wait_for(
        lambda one: any(each.number == asked and each.ended for each in one.connections), 10.0
    )
    assert ended, "the upstream goes on"
    return time.monotonic() - since


def test_tokens_appear_one_by_one(site: Site, page: ChatPage) -> None:
    """The provider sends each only when the page has shown the one before."""
    gates = [threading.Event() for _ in range(5)]
    words = [item for number, gate in enumerate(gates) for item in (chunk(f"{number} "), gate)]
    site.provider.script(sse(*words, chunk(finish="stop")))
    page.ask()
    for number, gate in enumerate(gates):
        page.wait_for(f"{number} ")
        assert page.end == ""
        gate.set()
    page.wait_for_end()

    assert (page.text, page.end, page.is_part) == ("0 1 2 3 4 ", "Whole.", False)


def test_stop_closes_the_upstream_within_a_second(site: Site, page: ChatPage) -> None:
    """A provider that goes on writing goes on counting."""
    more: list[Any] = [0.02, chunk("word ")] * 500
    site.provider.script(sse(*more))
    page.ask()
    page.wait_for("word ")
    since = time.monotonic()
    page.stop()

    in_time(seconds_to_end(site, since), 1.0)
    page.wait_for_end()
    assert page.end == "This answer is not whole. You stopped it."
    assert page.is_part


def test_stop_during_a_stall_closes_the_upstream(site: Site, page: ChatPage) -> None:
    """Two heartbeats are enough: the first write reaches a dead socket, and the second fails."""
    site.provider.script(STALL)
    page.ask()
    page.wait_for("word ")
    since = time.monotonic()
    page.stop()

    in_time(seconds_to_end(site, since), 2 * HEARTBEAT + MARGIN)


def test_leaving_during_a_stall_frees_the_worker(site: Site, page: ChatPage) -> None:
    """Two heartbeats are enough, each time: there is one page more than the server has threads."""
    for _ in range(THREADS + 1):
        site.provider.script(STALL)
        page.ask()
        page.wait_for("word ")
        since = time.monotonic()
        page.leave()
        in_time(seconds_to_end(site, since), 2 * HEARTBEAT + MARGIN)
        page.come()

    assert page.text == ""


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("cut", "StreamTruncated: the stream ended cleanly, but"),
        ("reset", "StreamBroken: the connection was lost"),
        ("stall", "StreamIdle: no byte for 5 s"),
        ("overloaded", "ChatAPIError: Overloaded"),
    ],
)
def test_a_part_of_an_answer_is_marked(page: ChatPage, model: str, reason: str) -> None:
    """The text so far stays, and nobody takes it for the whole."""
    page.ask(model)
    page.wait_for_end()

    assert page.text.startswith("Each word of this answer")
    assert page.text.endswith("passed it on")
    assert page.end.startswith(f"This answer is not whole. {reason}")
    assert page.is_part


def test_a_refusal_is_no_answer(page: ChatPage) -> None:
    """It comes before the head, so the status says it."""
    page.ask("refusal")
    page.wait_for_end()

    assert page.end.startswith("There is no answer. The server says 502: ")
    assert "HTTPError" in page.end


@pytest.mark.parametrize("ending", [None, "reset"])
def test_an_answer_without_a_last_event_is_marked(
    driver: Chrome, fault_server: FaultServer, ending: Any
) -> None:
    """A worker that was killed says nothing, and to the browser its end may look like any other."""
    from chromium import ChatPage

    html = {"Content-Type": "text/html"}
    fault_server.route("/", respond((FOLDER / "index.html").read_text("utf-8"), headers=html))
    fault_server.route("/chat", sse({"content": "word "}, 0.5, done=False, ending=ending))
    page = ChatPage(driver, fault_server.url)
    page.ask()
    page.wait_for_end()

    assert page.is_part
    assert (page.text, page.end[:25]) == ("word ", "This answer is not whole.")
    page.leave()


def test_a_break_before_the_answer_is_not_seen(site: Site, page: ChatPage) -> None:
    """Nothing was shown, so the request was sent again."""
    before = len(site.provider.requests)
    page.ask("broken-once")
    page.wait_for_end()

    assert (page.end, page.is_part) == ("Whole.", False)
    assert len(site.provider.requests) == before + 2


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_nothing_is_wider_than_the_page(site: Site, driver: Chrome, width: int) -> None:
    """A long word is not, either."""
    from chromium import ChatPage

    emulate(driver, width=width)
    try:
        page = ChatPage(driver, site.url)
        site.provider.script(sse(chunk("x" * 300), done=False))
        page.ask(prompt="y" * 300)
        page.wait_for_end()

        assert page.run("return document.documentElement.scrollWidth") <= width
    finally:
        emulate(driver)


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json", "*/*"])
def test_rest_framework_answers_whatever_is_accepted(site: Site, accept: str) -> None:
    """EventSource accepts nothing but an event stream, to which it answers 406 by itself."""
    headers = {"Accept": accept}
    asked = {"prompt": "hi", "model": "whole"}
    site.provider.script(sse(chunk("a"), chunk(finish="stop")), respond(status=401))
    answers = [
        requests.post(f"{site.url}/chat", json=asked, headers=headers, timeout=10) for _ in range(2)
    ]

    assert [each.status_code for each in answers] == [200, 502]
    assert answers[0].headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answers[0].text.endswith('event: done\ndata: {"finish_reason": "stop"}\n\n')
    assert "HTTPError" in answers[1].text


def test_rest_framework_refuses_an_event_stream_by_itself() -> None:
    """This is the reason for the renderer, which can go once the refusal goes."""
    script = (
        "import drf_app; from rest_framework.renderers import JSONRenderer;"
        "drf_app.ChatView.renderer_classes = [JSONRenderer];"
        "from django.test import Client;"
        "client = Client(HTTP_HOST='localhost', HTTP_ACCEPT='text/event-stream');"
        "print(client.post('/chat', {}).status_code)"
    )
    environment = {**os.environ, "UPSTREAM": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stdout.strip() == "406"


def emulate(driver: Chrome, *, width: int = 0, height: int = 0, scheme: str = "") -> None:
    """Give the page another screen; 0 and "": the browser's own."""
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)


@pytest.mark.skipif(not SCREENSHOTS, reason="SCREENSHOTS names the folder for them")
@pytest.mark.parametrize("site", ["flask-gunicorn"], indirect=True)
@pytest.mark.parametrize(
    ("name", "screen"),
    [
        ("light", {"width": 800, "height": 760, "scheme": "light"}),
        ("dark", {"width": 800, "height": 760, "scheme": "dark"}),
        ("narrow", {"width": 375, "height": 812, "scheme": "light"}),
    ],
)
def test_screenshots(site: Site, driver: Chrome, name: str, screen: dict[str, Any]) -> None:
    """The documentation shows a whole answer and a part of one."""
    from chromium import ChatPage

    assert SCREENSHOTS
    emulate(driver, **screen)
    try:
        page = ChatPage(driver, site.url)
        page.ask("whole")
        page.wait_for_end()
        page.ask("cut", "And when somebody cuts you off?")
        page.wait_for_end()
        path = Path(SCREENSHOTS, f"chat-{name}.png")
        assert driver.save_screenshot(str(path))
        assert path.stat().st_size < 100_000
    finally:
        emulate(driver)
