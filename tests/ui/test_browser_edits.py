"""What edits a face, in a real browser: sliders, a mask, points, parts that are painted or moved, and sentences."""

import re

import pytest

from tests.ui import browsing
from tests.ui.browsing import calm, generate, slider, step, value

pytest.importorskip("playwright")
pytestmark = pytest.mark.skipif(browsing.chromium() is None, reason="there is no Chromium here")

NO_MASK = "Paint on the picture, then use the mask."


def test_a_slider_is_reset_by_a_double_click_and_search_finds_edits(visit):
    page = visit()
    generate(page, 21)
    step(page, "smile", 5)
    slider(page, "smile").dblclick()
    page.wait_for_function("() => deep('input[data-edit=smile]')?.value == 0")
    page.locator("input.search").fill("lipst")
    assert slider(page, "lipstick").is_visible() and not slider(page, "smile").is_visible()
    page.locator("input.search").fill("zzz")
    assert page.locator(".sliders .nothing").is_visible()


def test_dragging_a_slider_is_one_thing_done(visit):
    page = visit()
    generate(page, 22)
    box = slider(page, "smile").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.44, middle)
    page.mouse.down()
    for part in (0.5, 0.55, 0.6, 0.65, 0.7):
        page.mouse.move(box["x"] + box["width"] * part, middle)
        page.wait_for_timeout(150)
    page.mouse.up()
    page.wait_for_timeout(300)
    calm(page)
    assert value(page, "smile") > 1
    page.locator(".st-key-undo button").click()
    page.wait_for_function("() => deep('input[data-edit=smile]')?.value == 0")
    assert page.locator(".st-key-undo button").is_disabled()


def test_sliders_moved_one_after_another_all_arrive(visit):
    page = visit()
    generate(page, 24)
    calm(page)
    names = ("smile", "mouth_open", "brows_up", "wide_mouth")
    for name in names:  # faster than any picture of them is drawn
        for _ in range(4):
            slider(page, name).press("ArrowRight")
    page.wait_for_function("names => names.every(name => location.search.includes(name))", arg=names)
    assert [value(page, name) for name in names] == pytest.approx([0.4] * 4)


def test_a_change_arrives_where_it_was_made_whatever_is_clicked_next(visit):
    page = visit()
    generate(page, 27)
    calm(page)
    for _ in range(4):
        slider(page, "smile").press("ArrowRight")
    page.get_by_role("radio", name="hair", exact=True).click()  # before the server has answered
    page.wait_for_function("() => deep('input[data-edit=smile]')?.closest('.row').classList.contains('elsewhere')")
    assert value(page, "smile") == 0
    page.get_by_role("radio", name="everywhere").click()
    page.wait_for_function("() => deep('input[data-edit=smile]')?.value == 0.4")
    for _ in range(4):
        slider(page, "mouth_open").press("ArrowRight")
    browsing.go(page, "Save")
    page.locator(".st-key-prepare button").wait_for()
    browsing.go(page, "Edit")
    page.wait_for_function("() => deep('input[data-edit=mouth_open]')?.value == 0.4")
    assert value(page, "smile") == pytest.approx(0.4)


def test_a_slider_that_is_brought_back_is_free_again(visit):
    page = visit()
    generate(page, 28)
    step(page, "smile", 5)
    box = slider(page, "smile").bounding_box()
    y, x = box["y"] + box["height"] / 2, lambda part: box["x"] + box["width"] * part
    start = page.evaluate(
        "() => { const s = deep('input[data-edit=smile]'); return (s.value - s.min) / (s.max - s.min); }"
    )
    page.mouse.move(x(0.02 + 0.96 * start), y)
    page.mouse.down()
    for part in (0.7, 0.8, 0.02 + 0.96 * start):
        page.mouse.move(x(part), y)
        page.wait_for_timeout(300)
    page.mouse.up()
    page.wait_for_timeout(300)
    calm(page)
    page.locator(".st-key-reset button").click()
    page.wait_for_function("() => deep('input[data-edit=smile]')?.value == 0")


def test_every_press_of_undo_counts(visit):
    page = visit()
    generate(page, 29)
    for _ in range(5):
        step(page, "smile", 1)
    for _ in range(5):
        page.keyboard.press("Control+z")
    page.wait_for_function("() => deep('input[data-edit=smile]')?.value == 0")
    page.wait_for_function("() => document.querySelector('.st-key-undo button')?.disabled === true")


def test_a_painted_mask_limits_an_edit(visit):
    page = visit()
    generate(page, 32)
    calm(page)
    page.get_by_role("radio", name="brush").click()
    marks = page.locator(".painting canvas.marks")
    marks.wait_for()
    page.get_by_text(NO_MASK).wait_for()
    box = marks.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.68)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.68, steps=6)
    page.mouse.up()
    page.locator(".painting button.use").click()
    page.get_by_text(NO_MASK).wait_for(state="detached")
    page.locator("input.search").fill("lipstick")
    step(page, "lipstick", 12)
    top = page.evaluate("""() => {
        const canvas = document.createElement('canvas'); canvas.width = canvas.height = 64;
        const pen = canvas.getContext('2d');
        const read = (img) => { pen.drawImage(deep(img), 0, 0, 64, 64); return pen.getImageData(0, 0, 64, 24).data; };
        const a = read('img.now'), b = read('img.before');
        return Math.max(...a.map((v, i) => Math.abs(v - b[i]))); }""")
    assert top <= 3  # above the mouth nothing moved, but for what JPEG does


def test_points_are_dragged(visit):
    page = visit()
    generate(page, 11)
    browsing.go(page, "Drag points")
    page.locator(".pointing:not(.rough)").wait_for()
    marks = page.locator(".pointing canvas.marks")
    box = marks.bounding_box()
    for x, y in ((0.43, 0.62), (0.41, 0.60)):
        page.mouse.click(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
    before = page.locator(".pointing img.now").get_attribute("src")
    page.locator(".pointing button.drag").click()
    page.wait_for_function("() => deep('.pointing button.drag')?.disabled")  # one after the other
    page.set_default_timeout(300_000)  # the longest wait of all: dozens of renders, beside whatever the machine does
    page.wait_for_function("old => ![undefined, old].includes(deep('.pointing img.now')?.src)", arg=before)
    page.wait_for_function("() => document.querySelector('.st-key-undo button')?.disabled === false")
    page.wait_for_function("() => deep('.pointing button.drag')?.disabled === false")


NEAR = """() => {  // how far the picture is from the first one
    const pen = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const read = (name) => {
        pen.drawImage(deep(name), 0, 0, 128, 128); return pen.getImageData(40, 20, 48, 90).data; };
    const a = read('img.now'), b = read('img.before');
    return a.reduce((sum, v, i) => sum + Math.abs(v - b[i]), 0) / a.length; }"""


def pulled(page, selector, *places):
    """A pointer goes down at the first of these places (x, y in parts of an element), along the others, and up."""
    box = page.locator(selector).bounding_box()
    for number, (x, y) in enumerate(places):
        page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y, steps=4)
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def test_a_part_is_painted_and_undone(visit):
    page = visit()
    generate(page, 11)
    browsing.go(page, "Paint parts")
    page.locator(".labelling canvas.map").wait_for()
    calm(page)
    apply, unstroke = page.locator("button.apply"), page.locator("button.unstroke")
    assert apply.is_disabled() and page.evaluate(NEAR) < 1
    page.get_by_role("radio", name="skin", exact=True).check()
    page.keyboard.press("]")
    page.wait_for_function("() => deep('.palette .size').value == 12")
    pulled(page, "canvas.map", (0.4, 0.72), (0.6, 0.76))
    pulled(page, "canvas.map", (0.2, 0.2), (0.2, 0.3))
    page.keyboard.press("Control+z")  # not applied yet: the stroke is taken back, and nothing else
    assert unstroke.is_enabled() and apply.is_enabled()
    apply.click()
    page.wait_for_function(f"() => ({NEAR})() > 1")
    page.wait_for_function("() => deep('button.apply').disabled && deep('.viewer').dataset.mode === 'after'")
    calm(page)
    page.locator(".st-key-undo button").click()
    page.wait_for_function(f"() => ({NEAR})() < 1")
    page.wait_for_function("() => document.querySelector('.st-key-undo button')?.disabled === true")
    calm(page)
    page.locator(".st-key-redo button").click()
    page.wait_for_function(f"() => ({NEAR})() > 1")
    page.locator(".labels button.clear").click()
    page.wait_for_function(f"() => ({NEAR})() < 1")


def test_a_part_is_moved_by_its_box_by_keys_and_by_numbers(visit):
    page = visit()
    generate(page, 11)
    browsing.go(page, "Move parts")
    mouth, down = page.locator('.box[data-part="mouth"]'), page.locator('[data-place="mouth-down"]')
    mouth.wait_for()
    calm(page)
    side = page.locator(".frame").bounding_box()["width"]
    height = mouth.bounding_box()["height"]
    pulled(page, '.box[data-part="mouth"]', (0.5, 0.5), (0.5, 0.5 + 0.05 * side / height))
    page.wait_for_function(f"() => ({NEAR})() > 1")
    page.wait_for_function("() => Math.abs(deep('[data-place=mouth-down]').value - 5) < 0.3")
    calm(page)
    was = float(down.input_value())
    mouth.press("ArrowUp")
    mouth.press("ArrowUp")
    page.wait_for_function("was => Math.abs(deep('[data-place=mouth-down]').value - was + 1) < 0.15", arg=was)
    assert "down" in mouth.get_attribute("aria-label")
    page.locator('[data-place="mouth-size"]').fill("120")
    page.locator('[data-place="mouth-size"]').press("Tab")
    page.wait_for_function(
        "old => deep('.box[data-part=mouth]').getBoundingClientRect().height > 1.1 * old", arg=height
    )
    page.locator("button.home").click()
    page.wait_for_function("() => deep('[data-place=mouth-size]').value == 100")
    page.wait_for_function(f"() => ({NEAR})() < 1")


def say(page, text):
    page.locator(".st-key-sentence input").fill(text)
    page.locator(".st-key-sentence input").press("Enter")


def test_what_is_typed_is_done_weighed_and_taken_out(visit, weights):
    weights("all-minilm-l6-v2")
    page = visit()
    generate(page, 24)
    field, told = page.locator(".st-key-sentence input"), page.locator(".sayings .note")
    assert field.get_attribute("placeholder").startswith("Make her ten years younger")
    say(page, "<img src=x onerror='document.title=1'> **[what](http://x.invalid)** time is it ![y](//x.invalid/y)")
    told.get_by_text("Nothing in this sentence is something I can change: '<img src=x").wait_for()
    assert "**[what](http" in told.inner_text() and field.input_value().endswith("/y)")
    assert page.locator(".said").count() == 0 and page.title() != "1"

    say(page, "make her smile and add a purple hat")
    page.wait_for_function(f"() => ({NEAR})() > 1")
    page.locator(".said .chip").wait_for()  # the picture may be there before the rows below it
    calm(page)
    assert page.locator(".said .chip").all_inner_texts() == ["smiling"] and "purple hat" in told.inner_text()
    assert field.input_value() == ""
    strong = page.evaluate(NEAR)
    amount = page.get_by_role("slider", name="How much of: make her smile")
    for _ in range(12):
        amount.press("ArrowLeft")
    page.wait_for_function(f"old => ({NEAR})() < old / 1.3", arg=strong)
    calm(page)
    assert amount.input_value() == "0.4"
    assert re.search("edits=say(:|%3A)0.4&say=make.*&meant=smiling(:|%3A)1", page.url)
    page.keyboard.press("Control+z")
    page.wait_for_function("() => deep('input[data-said]').value > 0.4")

    say(page, "give her red hair, " + "please " * 40)
    page.locator(".said >> nth=1").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    page.get_by_role("button", name=re.compile("Take out: make her smile")).press("Enter")
    page.wait_for_function("() => deep('.sayings ul').children.length === 1")
    page.get_by_role("button", name=re.compile("Take out")).press("Enter")
    page.wait_for_function(f"() => ({NEAR})() < 1 && document.activeElement.matches('.st-key-sentence input')")
