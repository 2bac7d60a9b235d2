"""A headless Chromium, driven by the driver that its distribution builds with it: both have the same version."""

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.wait import WebDriverWait

CHROMIUM = shutil.which("chromium") and shutil.which("chromedriver")
"""Whether both are there."""

_ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-device-scale-factor=1")

_PATIENCE = 30
_POLL = 0.02


class Browser:
    """One window."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def resize(self, width: int, height: int) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def prefer(self, scheme: str) -> None:
        """Prefer light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, url: str) -> list[str]:
        """Load a page and return what the console says of it: errors, warnings, what a policy forbade."""
        self._driver.get(url)
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def run(self, script: str) -> Any:
        """Return what a script finds in the page. It comes from the driver, beside the page's policy."""
        return self._driver.execute_script(script)

    def run_until_done(self, script: str) -> Any:
        """Return what a script hands to its last argument, a callback."""
        return self._driver.execute_async_script(script)

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self._driver).send_keys(*keys).perform()

    def follow(self, *keys: str) -> None:
        """Press keys that lead to another page, and wait until it has come: the driver itself waits for no such thing."""
        self.run("window.isLeft = true")
        self.press(*keys)
        has_come = "return document.readyState === 'complete' && !window.isLeft"
        wait = WebDriverWait(self._driver, _PATIENCE, _POLL, ignored_exceptions=[WebDriverException])  # between two pages
        wait.until(lambda driver: driver.execute_script(has_come))

    @property
    def title(self) -> str:
        return self._driver.title

    def picture(self) -> bytes:
        """Return what the window shows, as PNG."""
        return base64.b64decode(self._driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"])


@contextmanager
def opened() -> Iterator[Browser]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        raise AssertionError("No browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in _ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(driver))
    window.set_script_timeout(_PATIENCE)
    try:
        yield Browser(window)
    finally:
        window.quit()
