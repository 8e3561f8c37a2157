"""A real browser: the machine's Chromium, driven by Playwright. Without one these tests are skipped, and `.ci/run` installs it."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from whydiff.notebooks import own_kernel

ROOT = pathlib.Path(__file__).resolve().parents[2]


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
    """A fresh page of 1280 by 900, watched."""
    with watched(chromium, 900) as page:
        yield page


@contextlib.contextmanager
def watched(chromium, height: int):
    """A page that keeps what went wrong: `page.complaints` has console errors, uncaught exceptions and requests that would leave
    the machine. A test that opened a page ends by asking that there are none."""
    context = chromium.new_context(viewport={"width": 1280, "height": height})
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


@pytest.fixture(scope="session")
def lab(chromium, tmp_path_factory):
    """A JupyterLab on loopback over a copy of the notebooks, one for all tests: (its address, the folder it serves).

    It has folders of its own for whatever Jupyter keeps, so that nothing of the user's changes what is tested, or is changed.
    """
    folder = tmp_path_factory.mktemp("lab")
    served = folder / "served"
    shutil.copytree(ROOT / "notebooks", served / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    (served / "data" / "cases").mkdir(parents=True)
    for path in [*(ROOT / "data").iterdir(), *(ROOT / "data" / "cases").iterdir()]:
        link = served / path.relative_to(ROOT)
        if not link.exists():
            link.symlink_to(path)
    settings = {"apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
                "notebook-extension/tracker": '{"windowingMode": "none"}'}  # so that every cell is on the page  # fmt: skip
    for name, text in settings.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    own = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
           "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
               "--IdentityProvider.token=whydiff", f"--ServerApp.root_dir={served}", "--expose-app-in-browser",
               "--LabApp.extension_manager=readonly", *(["--allow-root"] if os.geteuid() == 0 else [])]  # fmt: skip
    with (folder / "log").open("w") as log, own_kernel():
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {key: str(folder / name) for key, name in own.items()})
        try:
            address = f"http://127.0.0.1:{port}"
            wait_for(f"{address}/api/status?token=whydiff", server, folder / "log")
            yield address, served
        finally:
            server.terminate()
            server.wait(20)


def wait_for(address: str, server: subprocess.Popen, log: pathlib.Path, seconds: float = 60):
    """Return when the server answers; fail with its log where it ended or takes too long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start: {log.read_text()[-2000:]}")
