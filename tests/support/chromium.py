"""A headless Chromium, and the chat page in it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from typing import TYPE_CHECKING, Any

from clients import TooSlow
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 15.0
# The sandbox does not work for root; the rest keeps the browser from talking to anybody else.
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,760",
)


@contextlib.contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Run a Chromium with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for each in (*OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(each)
        service = webdriver.ChromeService(shutil.which("chromedriver") or "chromedriver")
        driver = webdriver.Chrome(options, service)
        try:
            driver.set_page_load_timeout(PATIENCE)
            yield driver
        finally:
            driver.quit()


class ChatPage:
    """The page, driven as a person would."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url
        self.come()

    def come(self) -> None:
        """Open the page, anew."""
        self.driver.get(self.url)

    def ask(self, model: str = "whole", prompt: str = "How do you answer?") -> None:
        """Choose a fault, and send a question."""
        Select(self.driver.find_element(By.ID, "model")).select_by_value(model)
        self.driver.find_element(By.ID, "prompt").send_keys(prompt)
        self.driver.find_element(By.ID, "send").click()

    def stop(self) -> None:
        """Press the button."""
        self.driver.find_element(By.ID, "stop").click()

    def leave(self) -> None:
        """Go elsewhere."""
        self.driver.get("about:blank")

    @property
    def text(self) -> str:
        """The text of the last answer so far."""
        return self._last(".text")

    @property
    def end(self) -> str:
        """The page's note on the end of the last answer; empty while it is written."""
        return self._last(".end")

    @property
    def is_part(self) -> bool:
        """Whether the last answer is marked as not whole."""
        return bool(
            self.run("return [...document.querySelectorAll('.answer')].pop().matches('.part')")
        )

    def run(self, script: str) -> Any:
        """Run a script in the page and return its result."""
        return self.driver.execute_script(script)

    def wait_for(self, text: str) -> None:
        """Wait until the last answer ends with this."""
        self._wait(lambda: self.text.endswith(text))

    def wait_for_end(self) -> None:
        """Wait until the last answer is over."""
        self._wait(lambda: self.end)

    def _wait(self, predicate: Callable[[], object]) -> None:
        until = time.monotonic() + PATIENCE
        while not predicate():
            if time.monotonic() > until:
                raise TooSlow(f"it does not show: text {self.text!r}, end {self.end!r}")
            time.sleep(0.01)

    def _last(self, selector: str) -> str:
        script = f"return [...document.querySelectorAll('.answer {selector}')].pop()?.textContent"
        return str(self.run(script) or "")
