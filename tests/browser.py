"""A real browser for tests of pages: Debian's chromium, driven by selenium."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

MISSING = "no chromium with its driver (apt-get install chromium chromium-driver)"


@contextlib.contextmanager
def chromium(downloads: Path, width: int = 1280, height: int = 900) -> Iterator:
    """A browser without a window, a fresh profile, that saves to `downloads`.

    Without one the test is skipped, or fails where REQUIRE_BROWSER is set.
    """
    binary, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if binary is None or driver is None:
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip)(MISSING)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    # As root, as in CI, chromium runs without its sandbox only.
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--lang=en"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        resize(browser, width, height)
        yield browser
    finally:
        browser.quit()


def show(browser, page: Path | None = None) -> None:
    """Opens a suspects.html, or the one that is open once more, and waits until it can be judged."""
    browser.refresh() if page is None else browser.get(page.resolve().as_uri())
    until(lambda: browser.execute_script("return 'ready' in document.documentElement.dataset"), 60)


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Waits until something is true, or for so long."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)


def resize(browser, width: int, height: int) -> None:
    """The page's own size in CSS pixels; a window without a screen cannot be made as narrow as a phone."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
