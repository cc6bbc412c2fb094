"""The real page in a real browser: a photo's way from upload to export, two users, both themes, a narrow screen."""

import numpy as np
import pytest
from PIL import Image

from editing import provenance
from editing.faces import photo as photos
from editing.types import Recipe
from tests.ui import browsing
from tests.ui.browsing import calm, generate, slider, step, value

pytest.importorskip("playwright")
pytestmark = pytest.mark.skipif(browsing.chromium() is None, reason="there is no Chromium here")


def test_from_upload_to_export_and_back(visit, picture, tmp_path):
    page = visit()
    page.locator('input[type="file"]').first.set_input_files(picture)
    page.locator(".viewer").wait_for()
    unedited = page.locator("img.now").get_attribute("src")
    step(page, "smile", 12)
    assert value(page, "smile") == pytest.approx(1.2)
    page.get_by_text("What else changed").wait_for()
    page.get_by_text("same person").wait_for()
    assert "edits=smile" in page.url

    page.locator('[data-mode="wiped"]').click()
    page.locator("input.wipe").fill("20")
    assert page.locator("img.before").is_visible()
    page.locator('[data-mode="difference"]').click()
    assert page.locator("canvas.difference").is_visible()
    page.locator('[data-mode="after"]').click()

    step(page, "smile", 3)
    page.keyboard.press("Control+z")
    page.wait_for_function("() => deep('input[data-edit=smile]')?.value == 1.2")
    page.keyboard.press("Control+Shift+Z")
    page.wait_for_function("() => deep('input[data-edit=smile]')?.value == 1.5")
    calm(page)

    browsing.go(page, "Save")
    page.locator(".st-key-prepare button").click()
    with page.expect_download() as saved:
        page.locator(".st-key-file button").click()
    edited = tmp_path / "edited.png"
    saved.value.save_as(edited)
    result, original = photos.load(edited), photos.load(picture)
    assert result.size == original.size and provenance.is_marked(result)
    assert np.array_equal(result.samples[:20], original.samples[:20])
    assert Recipe.from_json(provenance.recipe_text(result)).steps[0].strength == 1.5

    browsing.go(page, "Edit")
    calm(page)  # a click while the whole page still runs can be lost: Streamlit drops it with the run
    page.locator(".st-key-reset button").click()
    page.wait_for_function("() => deep('input[data-edit=smile]')?.value == 0")
    browsing.go(page, "Photo")
    page.locator('input[type="file"]').first.set_input_files(edited)
    page.wait_for_function("() => deep('input[data-edit=smile]')?.value == 1.5")
    assert unedited.startswith("data:image/jpeg")


def test_a_page_that_is_loaded_anew_goes_on_and_a_copy_of_it_does_not(visit, picture):
    page = visit()
    page.locator('input[type="file"]').first.set_input_files(picture)
    page.locator(".viewer").wait_for()
    step(page, "smile", 12)
    page.reload()
    page.locator(".viewer").wait_for()
    assert value(page, "smile") == pytest.approx(1.2)
    page.keyboard.press("Control+z")
    page.wait_for_function("() => deep('input[data-edit=smile]')?.value == 0")
    calm(page)

    here, other = page.url, page.context.new_page()
    other.set_default_timeout(90_000)
    other.goto(here)
    other.get_by_text("Drop a photo here").first.wait_for()
    name = "() => new URLSearchParams(location.search).get('tab')"
    other.wait_for_function(f"old => ![null, old].includes(({name})())", arg=page.evaluate(name))
    assert other.locator(".viewer").count() == 0
    assert page.url == here


def test_work_goes_on_while_its_page_is_loaded_anew(visit, picture):
    page = visit()
    page.locator('input[type="file"]').first.set_input_files(picture)
    page.locator(".st-key-cancel-invert").wait_for()
    page.reload()
    page.locator(".viewer").wait_for()


def test_a_gray_photo_gets_colours(visit, picture):
    rgb = np.asarray(Image.open(picture).convert("L").convert("RGB"))
    Image.fromarray(rgb).save(picture)
    page = visit()
    page.locator('input[type="file"]').first.set_input_files(picture)
    page.get_by_text("This photo is gray, or a drawing.").wait_for()
    page.get_by_role("button", name="Give it colours").click()
    page.locator(".viewer").wait_for()
    page.wait_for_function("""() => {
        const image = deep('img.now'), pen = document.createElement('canvas').getContext('2d');
        pen.drawImage(image, 0, 0, 64, 64);
        const [r, g, b] = pen.getImageData(32, 32, 1, 1).data; return Math.abs(r - b) > 8; }""")


def test_a_face_of_several_is_chosen(visit, tmp_path, generated):
    both = np.full((560, 1060, 3), 128, np.uint8)
    for place, seed in ((20, 3), (540, 9)):
        face = Image.fromarray(generated(seed)).resize((500, 500), Image.Resampling.LANCZOS)
        both[30:530, place : place + 500] = np.asarray(face)
    photos.save(photos.from_rgb(both), tmp_path / "two.png")
    page = visit()
    page.locator('input[type="file"]').first.set_input_files(tmp_path / "two.png")
    page.get_by_text("2 faces were found").wait_for()
    page.locator(".faces button").nth(1).click()
    page.locator(".viewer").wait_for()
    step(page, "smile", 12)
    page.get_by_text("What else changed").wait_for()


def test_what_is_no_photo_is_told_and_nothing_is_lost(visit, tmp_path):
    page = visit()
    generate(page, 23)
    browsing.go(page, "Photo")
    (tmp_path / "notes.png").write_bytes(b"these are notes")
    page.locator('input[type="file"]').first.set_input_files(tmp_path / "notes.png")
    page.get_by_text("notes.png is not a picture").wait_for()
    browsing.go(page, "Edit")
    step(page, "smile", 4)
    assert value(page, "smile") == pytest.approx(0.4)
    browsing.go(page, "Many photos")
    (tmp_path / "recipe.json").write_text("{}}")
    page.locator('input[type="file"]').first.set_input_files(tmp_path / "recipe.json")
    page.get_by_text("The recipe is not valid JSON").wait_for()
    page.get_by_text("Set some edits first, or drop a recipe").wait_for()  # those that are set are not used instead


def test_two_users_never_see_each_other(visit, picture):
    one, other = visit(), visit()
    one.locator('input[type="file"]').first.set_input_files(picture)
    generate(other, 31)
    one.locator(".viewer").wait_for()
    step(one, "smile", 10)
    other.wait_for_timeout(500)
    assert value(other, "smile") == 0 and value(one, "smile") == pytest.approx(1.0)
    mine, theirs = (page.locator("img.before").get_attribute("src") for page in (one, other))
    assert mine != theirs
    other.locator(".st-key-forget button").first.click()
    other.get_by_text("Everything is forgotten").wait_for()
    browsing.go(other, "Edit")
    other.get_by_text("Open a photo first").wait_for()
    step(one, "smile", 2)
    third = visit()
    browsing.go(third, "Edit")
    third.get_by_text("Open a photo first").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_holds_everything(visit, scheme):
    page = visit(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    generate(page, 24)
    step(page, "smile", 5)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".frame").bounding_box()["width"] > 300
    slider(page, "smile").scroll_into_view_if_needed()
    frame = page.locator(".frame").bounding_box()
    assert frame["y"] + frame["height"] > 150  # the picture stays in sight while a slider is used
    for name, shown, used in (("Paint parts", ".labelling .frame", ".chip >> nth=12"),
                              ("Move parts", ".boxing .frame", "[data-place=nose-size]")):  # fmt: skip
        browsing.go(page, name)
        page.locator(used).scroll_into_view_if_needed()
        frame, box = (page.locator(each).bounding_box() for each in (shown, used))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert frame["y"] + frame["height"] > 150 and box["x"] + box["width"] <= 390


def test_korean(visit, tmp_path):
    page = visit("/?lang=ko")
    told = """selector => getComputedStyle(document.querySelector('[data-testid="stFileUploaderDropzone' + selector),
                                           '::after').content"""
    page.wait_for_function(f"""() => ({told})('"] button p') === '"올리기"'""")  # once the page's style is there
    assert "파일마다 64 MB까지" in page.evaluate(told, 'Instructions"] > *')
    (tmp_path / "notes.png").write_bytes(b"these are notes")
    page.locator('input[type="file"]').first.set_input_files(tmp_path / "notes.png")
    page.get_by_text("notes.png: 그림이 아니거나").wait_for()
    generate(page, 25)
    page.get_by_text("미소", exact=True).first.wait_for()
    page.get_by_text("실행 취소").first.wait_for()  # drawn after the sliders


@pytest.mark.parametrize("name", ["Edit", "Paint parts", "Move parts"])
def test_everything_that_can_be_used_has_a_name(visit, name):
    page = visit()
    generate(page, 26)
    browsing.go(page, name)
    page.locator({"Edit": ".sliders", "Paint parts": ".palette", "Move parts": ".places"}[name]).wait_for()
    nameless = page.evaluate("""() => {
        const all = [];
        const walk = (root) => root.querySelectorAll('*').forEach(
            (e) => { all.push(e); if (e.shadowRoot) walk(e.shadowRoot); });
        walk(document.querySelector('[data-testid="stMain"]'));
        return all.filter((e) => e.matches('button, input, select, textarea') && e.checkVisibility()
            && !(e.innerText || '').trim() && !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby')
            && !(e.labels && e.labels.length) && !e.title).map((e) => e.outerHTML.slice(0, 200)); }""")
    assert not nameless
