"""The editor in a process of its own, and Debian's Chromium to look at it: for tests and for `bench.editor`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

APP = Path(__file__).parents[2] / "ui" / "app.py"
DEEP = """window.deep = (selector, root = document) => {
  const own = root.querySelector(selector);
  if (own) return own;
  for (const each of root.querySelectorAll('*')) {
    const found = each.shadowRoot && window.deep(selector, each.shadowRoot);
    if (found) return found;
  }
  return null;
};"""  # document.querySelector does not look into components
OURS = ("http://localhost:", "ws://localhost:", "data:", "blob:")


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def serving(seconds: float = 90) -> Iterator[tuple[str, int]]:
    """The editor's address and its process number, until the body ends."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.port", str(port)]
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "log", "w+") as log:
        environment = {**os.environ, "PYTHONPATH": str(APP.parents[1])}
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            until = time.monotonic() + seconds
            while not healthy(port):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    raise RuntimeError(f"the editor did not start: {log.read()[-2000:]}")
                time.sleep(0.05)
            yield f"http://localhost:{port}", process.pid
        finally:
            process.terminate()
            process.wait(20)


def healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


@contextmanager
def browsing() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


def user(browser, strangers: list[str], **options):
    """A page of a user's own; every request that does not stay on this machine is refused, and noted in `strangers`."""
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, **options})

    def guard(route):
        if route.request.url.startswith(OURS):
            route.continue_()
        else:
            strangers.append(route.request.url)
            route.abort()

    context.route("**/*", guard)
    context.add_init_script(DEEP)
    page = context.new_page()
    page.set_default_timeout(90_000)
    return page


def go(page, name: str) -> None:
    """To a view, by the name on its button."""
    page.locator(".st-key-view").get_by_role("radio", name=name, exact=True).click()


def generate(page, seed: int) -> None:
    """A generated face, ready to be edited."""
    field = page.locator(".st-key-seed input")
    field.fill(str(seed))
    field.press("Enter")
    page.wait_for_timeout(500)
    page.locator(".st-key-generate button").click()
    page.locator(".viewer").wait_for()


def calm(page) -> None:
    """Until the real picture is there."""
    page.locator(".viewer:not(.rough)").wait_for()


def slider(page, name):
    return page.locator(f'input[data-edit="{name}"]')


def step(page, name, presses, key="ArrowRight"):
    """Press a key on a slider and wait until the quick picture, and then the real one, is there."""
    before = page.locator("img.now").get_attribute("src")
    for _ in range(presses):
        slider(page, name).press(key)
    page.wait_for_function("old => ![undefined, old].includes(deep('img.now')?.src)", arg=before)
    calm(page)


def value(page, name):
    return float(slider(page, name).input_value())
