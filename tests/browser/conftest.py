"""A real browser: the machine's Chromium, driven by Playwright. Without one these tests are skipped, and `.ci/run` installs it."""

import os
import shutil

import pytest


@pytest.fixture(scope="session")
def chromium():
    """The browser, one for all tests of a process."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A fresh page of 1280 by 900 that keeps what went wrong: `page.complaints` has console errors, uncaught exceptions and
    requests that would leave the machine. A test that opened a page ends by asking that there are none."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda said: said.type == "error" and page.complaints.append(f"console: {said.text}"))
    page.on("pageerror", lambda error: page.complaints.append(f"exception: {error}"))
    context.on("request", lambda asked: is_outside(asked.url) and page.complaints.append(f"request: {asked.url}"))
    yield page
    context.close()


def is_outside(url: str) -> bool:
    """Whether a request leaves this machine."""
    return not url.startswith(("file:", "data:", "blob:", "about:", "http://127.0.0.1", "ws://127.0.0.1", "http://localhost"))
