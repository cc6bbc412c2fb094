"""A real engine for all tests of the page, and a real face as a file: generated, so that it is nobody's."""

import io
import re

import pytest
from PIL import Image

from tests.ui import browsing


@pytest.fixture(scope="session")
def engine(mobile):
    from ui.engine import Engine

    return Engine()


@pytest.fixture
def studio(engine):
    from ui.studio import Studio

    return Studio(engine)


@pytest.fixture(scope="session")
def face_file(generated):
    """face_file(seed, size) -> a PNG of a generated face with a grey rim, as bytes."""

    def make(seed=3, size=700):
        canvas = Image.new("RGB", (size + 240, size + 60), (120, 130, 140))
        canvas.paste(Image.fromarray(generated(seed)).resize((size, size), Image.Resampling.LANCZOS), (100, 30))
        stream = io.BytesIO()
        canvas.save(stream, "PNG")
        return stream.getvalue()

    return make


@pytest.fixture(scope="session")
def inverted(engine, face_file):
    """inverted(studio) -> the studio with a photo open and its face inverted by the encoder; inverted once only."""
    from ui.studio import Studio

    first = Studio(engine)
    opened = first.open(face_file(), "face.png")
    first.invert("encoder").wait(120)
    known = dict(opened.inversions)

    def fill(studio):
        mine = studio.open(face_file(), "face.png")
        mine.inversions.update(known)
        assert studio.invert("encoder") is None
        return studio

    return fill


@pytest.fixture(scope="session")
def address(mobile):
    with browsing.serving() as (address, _):
        yield address


@pytest.fixture(scope="session")
def browser():
    with browsing.browsing() as browser:
        yield browser


@pytest.fixture
def visit(address, browser):
    """visit(**options) -> a new user's page; afterwards: nobody asked for anything from outside."""
    strangers, pages = [], []

    def start(path="", **options):
        page = browsing.user(browser, strangers, **options)
        pages.append(page)
        page.goto(address + path)
        page.get_by_text(re.compile("Drop a photo here|사진을 여기에")).first.wait_for()
        return page

    yield start
    for page in pages:
        page.context.close()
    assert not strangers


@pytest.fixture
def picture(tmp_path, face_file):
    path = tmp_path / "face.png"
    path.write_bytes(face_file())
    return path
