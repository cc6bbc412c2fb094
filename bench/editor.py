"""The editor as a browser sees it: how soon it starts, how soon a slider's picture is there, and many users at once.

    python -m bench.editor face.jpg                            # one user
    python -m bench.editor face.jpg --users 8 --minutes 10     # so many, each with a face of their own

Starts the editor and drives Debian's Chromium (which takes its share of the same cores).  A slider counts from its
release until the new picture is decoded in the page.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.ui import browsing

EDITS = ("smile", "mouth_open", "brows_up", "teeth", "wide_mouth")
RELEASE = """([name, value]) => new Promise((done, fail) => {
  const slider = deep(`input[data-edit="${name}"]`), picture = deep('img.now');
  const start = performance.now();
  const late = setTimeout(() => fail(new Error('no picture after 30 s')), 30000);
  new MutationObserver((_, observer) => {  // costs nothing while waiting, unlike asking every frame
    observer.disconnect();
    clearTimeout(late);
    picture.decode().then(() => done(performance.now() - start));
  }).observe(picture, { attributes: true, attributeFilter: ['src'] });
  slider.value = value;
  slider.dispatchEvent(new Event('change'));
})"""


def release(page, name: str, value: float) -> float:
    """Seconds from a slider's release to the picture of it."""
    return page.evaluate(RELEASE, [name, value]) / 1000


def memory(pid: int) -> float:
    """Megabytes that a process holds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def fingerprint(page) -> str:
    return hashlib.sha256(page.locator("img.before").get_attribute("src").encode()).hexdigest()[:12]


def one_user(browser, address: str, photo: Path, releases: int) -> None:
    strangers: list[str] = []
    page = browsing.user(browser, strangers)
    page.goto(address)
    page.locator('input[type="file"]').first.wait_for(state="attached")
    browsing.generate(page, 1)  # everything is loaded
    page.locator(".st-key-view").get_by_role("radio", name="Photo", exact=True).click()
    page.locator('input[type="file"]').first.set_input_files(photo)
    begun = time.perf_counter()
    page.locator('.viewer[data-mode="after"]').wait_for(state="detached")
    page.locator(".viewer").wait_for()
    print(f"photo dropped to first picture (hyper): {time.perf_counter() - begun:.1f} s")
    browsing.calm(page)
    times, random = [], np.random.default_rng(0)
    for number in range(releases):
        value = 0.2 + 0.1 * random.integers(0, 10) + (number // len(EDITS)) % 2  # never the one before
        times.append(release(page, EDITS[number % len(EDITS)], float(value)))
        page.wait_for_timeout(300)
    low, high = np.percentile(times, [50, 95])
    print(f"{releases} sliders released: median {low * 1000:.0f} ms, 95% within {high * 1000:.0f} ms")
    print(f"requests from outside: {len(strangers)}")


def many_users(browser, address: str, pid: int, users: int, minutes: float) -> None:
    strangers: list[str] = []
    pages = [browsing.user(browser, strangers) for _ in range(users)]
    for seed, page in enumerate(pages):
        page.goto(address)
        page.locator('input[type="file"]').first.wait_for(state="attached")
        browsing.generate(page, 100 + seed)
        browsing.calm(page)
    known, times, held, random = [fingerprint(page) for page in pages], [], [memory(pid)], np.random.default_rng(1)
    print(f"{users} users, {len(set(known))} faces, {held[0]:.0f} MB", flush=True)
    until, crossed, turn = time.monotonic() + 60 * minutes, 0, 0
    while time.monotonic() < until:
        for page in pages:  # all at once: each promise is asked for only afterwards
            value = 0.2 + 0.1 * random.integers(0, 10) + (turn // len(EDITS)) % 2
            page.evaluate(f"(what) => {{ window.released = ({RELEASE})(what); }}", [EDITS[turn % len(EDITS)], value])
        times += [page.evaluate("() => window.released") / 1000 for page in pages]
        pages[0].wait_for_timeout(500)
        if turn % 10 == 9:  # everybody rests until the real pictures are there
            for page in pages:
                browsing.calm(page)
            crossed += sum(fingerprint(page) != name for page, name in zip(pages, known, strict=True))
            held.append(memory(pid))
        turn += 1
    low, high = np.percentile(times, [50, 95])
    print(
        f"{len(times)} releases, {users} at once, in {minutes:g} minutes: median {low:.2f} s, 95% within {high:.2f} s"
    )
    print(f"memory: {held[0]:.0f} MB at the start, at most {max(held):.0f}, {held[-1]:.0f} at the end")
    print(f"pictures of somebody else: {crossed}; requests from outside: {len(strangers)}")


def portrait(browser, address: str, path: Path) -> None:
    """A picture of the editor with a generated face in it, for the documents."""
    page = browsing.user(browser, [], viewport={"width": 1440, "height": 960}, color_scheme="light")
    page.goto(address)
    page.locator('input[type="file"]').first.wait_for(state="attached")
    browsing.generate(page, 12)
    for name, value in (("brows_up", 0.6), ("smile", 1.8)):
        release(page, name, value)
        browsing.calm(page)
    page.locator('[data-mode="wiped"]').click()
    page.wait_for_timeout(800)
    Image.open(io.BytesIO(page.screenshot())).convert("RGB").save(path, "WEBP", quality=82)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", type=Path)
    parser.add_argument("--releases", type=int, default=60)
    parser.add_argument("--users", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--picture", type=Path, help="only take a picture of the page: docs/gallery/editor.webp")
    options = parser.parse_args()
    begun = time.perf_counter()
    with browsing.serving() as (address, pid):
        print(f"the app answers after {time.perf_counter() - begun:.1f} s", flush=True)
        with browsing.browsing() as browser:
            if options.picture:
                portrait(browser, address, options.picture)
            elif options.users:
                many_users(browser, address, pid, options.users, options.minutes)
            else:
                one_user(browser, address, options.photo, options.releases)


if __name__ == "__main__":
    main()
