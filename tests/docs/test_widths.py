"""Each page of the documentation fits a telephone, a tablet and a desk: measured in Chromium."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium import webdriver

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(page.stem for page in (ROOT / "docs").glob("*.md"))
WIDTHS = (375, 768, 1280)
# A block of code may be wider: it scrolls by itself, and breaking its lines would change it.
TOO_WIDE = """
const page = document.documentElement.clientWidth;
const text = document.querySelector("article").getBoundingClientRect().right;
const wide = [...document.querySelectorAll("article table, article img, article svg")]
    .filter(each => each.getBoundingClientRect().right > text + 1)
    .map(each => [each.tagName, Math.round(each.getBoundingClientRect().right - text),
                  (each.textContent || each.alt).trim().slice(0, 40)]);
if (document.documentElement.scrollWidth > page)
    wide.push(["page", document.documentElement.scrollWidth - page, ""]);
return wide;
"""

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built."""
    out = tmp_path_factory.mktemp("html")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", str(ROOT / "docs"), str(out)]
    subprocess.run(command, check=True, timeout=240)
    return out


@pytest.fixture(scope="module")
def driver() -> Iterator[webdriver.Chrome]:
    """A browser."""
    from chromium import browser

    with browser() as found:
        yield found


def measured(driver: webdriver.Chrome, page: Path, width: int) -> Any:
    """Return the elements that are wider than the text, or the screen, in pixels."""
    # A window of Chromium has a least width, a screen has none.
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    driver.get(page.as_uri())
    assert driver.execute_script("return innerWidth") == width
    return driver.execute_script(TOO_WIDE)


@pytest.mark.timeout(300)  # the first of them builds the pages
@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_wider_than_its_page(built: Path, driver: webdriver.Chrome, page: str) -> None:
    """Otherwise a reader on a telephone has to push tables to and fro."""
    wide = {width: measured(driver, built / f"{page}.html", width) for width in WIDTHS}

    assert {width: found for width, found in wide.items() if found} == {}


def test_a_table_that_is_too_wide_is_found(driver: webdriver.Chrome, tmp_path: Path) -> None:
    """A measure that never complains proves nothing."""
    page = tmp_path / "page.html"
    page.write_text(
        "<body style='margin:0'><article style='width:300px'>"
        "<table style='width:400px'><tr><td>wide</table><pre>" + "code " * 100 + "</article>"
    )

    assert [each[0] for each in measured(driver, page, 375)] == ["TABLE", "page"]
