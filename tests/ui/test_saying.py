"""Typing what to change: sentences as steps, as rows, as links; what is not understood changes nothing."""

from types import SimpleNamespace

import numpy as np
import pytest

from editing import edit as command_line
from editing.faces import photo as photos
from editing.text import edits, poles, reading
from editing.text.reading import Understanding
from editing.types import Recipe, Step
from encoders import sentence
from stylegan2 import zoo
from stylegan2.errors import UsageError, WeightsMissing
from tests.ui.test_app import EN, page, sound  # noqa: F401
from ui import saying, words
from ui.studio import Studio
from ui.views import saying as view

KNOWN = {
    "make her smile": Understanding({"smiling": 1.0}),
    "younger, red hair and a hat": Understanding({"younger": 0.8, "red_hair": 1.0}, ("a hat",)),
    "30 years old": Understanding({}, (), 30.0),
    "웃게 해 줘": Understanding({"smiling": 1.0}),
}
HOSTILE = "<img src=x onerror=alert(1)> **smile** [x](http://example.invalid) ![y](http://example.invalid/y.png) `😀`"


@pytest.fixture
def read(monkeypatch):
    """A stand-in reader that knows a few sentences; the list of what it was given."""
    given = []

    def one(text):
        given.append(text)
        return KNOWN.get(text) or (Understanding({"smiling": 1.0}) if "smile" in text else Understanding({}, (text,)))

    monkeypatch.setattr(reading, "load", lambda: SimpleNamespace(read=one))
    return given


@pytest.fixture
def nobody_reads(monkeypatch):
    monkeypatch.setattr(reading, "load", lambda: pytest.fail("a sentence was read"))


def without_encoder(monkeypatch):
    there = zoo.path

    def path(name):
        if name == sentence.RECORD:
            raise WeightsMissing("not here")
        return there(name)

    def load():
        return SimpleNamespace(read=lambda _: path(sentence.RECORD))

    monkeypatch.setattr(zoo, "path", path)
    monkeypatch.setattr(reading, "load", load)


def step(text="make her smile", wants=None, strength=1.0, **more):
    parameters = {"text": text, "wants": {"smiling": 1.0} if wants is None else wants, "strength": strength}
    return Step(op="text", parameters=parameters, **more)


# ------------------------------------------------------------------------------------------- the studio


def test_a_sentence_is_a_step_beside_the_others(studio, inverted, read):
    inverted(studio)
    studio.set({"age": 1.0})
    assert studio.ask("  make her\tsmile ") == ()
    assert studio.ask("younger, red hair and a hat", "hair") == ("a hat",)
    (smile, more) = studio.asked()
    assert (smile.op, smile.face, smile.region, smile.strength) == ("text", 0, None, 1.0)
    assert smile.parameters["text"] == "make her smile" and smile.parameters["wants"] == {"smiling": 1.0}
    assert more.region == "hair" and more.parameters["wants"] == {"younger": 0.8, "red_hair": 1.0}
    studio.undo()
    assert studio.asked() == [smile] and studio.steps()[0].parameters["name"] == "age"
    studio.redo()
    assert studio.asked() == [smile, more]


@pytest.mark.parametrize("text", ["paint a house", "", " \n ", "😀", HOSTILE.replace("smile", "")])
def test_what_asks_for_nothing_known_changes_nothing(studio, inverted, read, text):
    inverted(studio)
    studio.ask("make her smile")
    before = studio.recipe
    with pytest.raises(UsageError):
        studio.ask(text)
    with pytest.raises(UsageError, match="elbow"):
        studio.ask("make her smile", "elbow")
    assert studio.recipe is before and not studio.current.history.future


def test_a_very_long_sentence_is_cut_to_what_is_read(studio, inverted, read):
    inverted(studio)
    studio.ask("smile " * 5000)
    assert len(studio.asked()[0].parameters["text"]) <= reading.LONGEST


def test_strengths_are_changed_and_sentences_taken_out(studio, inverted, read):
    inverted(studio)
    studio.do(studio.recipe.then(step("of another face", face=1)))
    studio.ask("make her smile")
    studio.ask("30 years old")
    history = len(studio.current.history.past)
    for strength in (0.9, 0.5, 0.2):
        studio.weigh(1, strength, "a")
    assert [one.strength for one in studio.asked()] == [1.0, 0.2] and len(studio.current.history.past) == history + 1
    studio.weigh(0, None)
    assert [one.parameters["text"] for one in studio.asked()] == ["30 years old"]
    assert [one.face for one in studio.recipe.steps] == [1, 0]
    studio.undo()
    studio.undo()
    assert [one.strength for one in studio.asked()] == [1.0, 1.0]


def test_the_picture_follows(studio, inverted, read):
    inverted(studio)
    plain = studio.preview().astype(int)
    studio.ask("make her smile")
    full = np.abs(studio.preview() - plain).mean()
    studio.weigh(0, 0.3)
    less = np.abs(studio.preview() - plain).mean()
    studio.weigh(0, 0.0)
    assert full > less > 0.3 and np.array_equal(studio.preview(), plain)


def test_the_command_line_gives_the_same_pixels(studio, inverted, read, face_file, tmp_path, monkeypatch):
    inverted(studio)
    studio.set({"blond": 1.0}, "hair")
    studio.ask("younger, red hair and a hat")
    studio.ask("make her smile", "mouth")
    studio.weigh(0, 0.7)
    data, recipe = studio.export(".png")
    monkeypatch.setattr(reading, "load", lambda: pytest.fail("the sentence was read again"))
    (tmp_path / "face.png").write_bytes(face_file())
    (tmp_path / "edited.png").write_bytes(data)
    studio.inversion.save(tmp_path / "face.inversion")
    with pytest.raises(SystemExit) as end:
        command_line.main(["--img", str(tmp_path / "face.png"), "--inversion", str(tmp_path / "face.inversion"),
                           "--recipe", str(tmp_path / "edited.png"), "--out", str(tmp_path / "again.png")])  # fmt: skip
    assert end.value.code == 0 and [one.op for one in recipe.steps] == ["latent", "text", "text"]
    ours, theirs = photos.load(tmp_path / "edited.png"), photos.load(tmp_path / "again.png")
    assert np.array_equal(ours.samples, theirs.samples)


def test_the_box_understands_what_the_command_line_does(studio, inverted, weights):
    weights(sentence.RECORD)
    inverted(studio)
    for text in ("make her ten years younger and give her red hair", "머리를 빨갛게 하고 조금 더 젊게 해줘"):
        ignored = studio.ask(text)
        assert studio.asked()[-1] == edits.step_of(text) and ignored == reading.load().read(text).ignored


def test_sentences_come_back_with_the_picture(studio, inverted, read, nobody_reads):
    inverted(studio)
    studio.do(Recipe(steps=(step(strength=0.8), step("red", {"red_hair": 1.0}, region="hair"))))
    data, _ = studio.export(".png")
    wanted = studio.steps()
    studio.reset()
    studio.open(data, "edited.png")
    found = [one.model_copy(update={"direction_sha256": ""}) for one in studio.steps()]
    assert found == wanted and studio.left_out == 0


def test_a_recipe_with_sentences_that_nobody_read(engine, inverted, read, monkeypatch):
    studio = inverted(Studio(engine))
    unread = Recipe(steps=(Step(op="text", parameters={"text": "make her smile", "strength": 0.5}),))
    (found,) = studio.usable(unread).steps
    assert found.parameters == {"text": "make her smile", "wants": {"smiling": 1.0}, "strength": 0.5}
    wrong = Recipe(steps=(step(wants={"hat": 1.0}), step(wants={"smiling": 1e9}), Step(op="text")))
    assert not studio.usable(wrong).steps and studio.left_out == 3
    without_encoder(monkeypatch)
    assert not studio.usable(unread).steps and studio.left_out == 1
    assert studio.usable(Recipe(steps=(step(),))).steps and studio.left_out == 0


def test_a_locked_identity_weakens_sentences_too(studio, inverted, monkeypatch):
    from ui import refining

    inverted(studio)
    monkeypatch.setattr(refining, "LOCKED", 0.05)
    studio.do(Recipe(steps=(step(wants={"elderly": 1.0}),)))
    studio.refine(lock=True)
    assert 0 < studio.asked()[0].strength < 1


# ------------------------------------------------------------------------------------- rows and links


def test_rows_say_what_was_understood():
    steps = [step(wants={"red_hair": 0.8}, strength=0.5, region="hair"), step("y" * 5000),
             Step(op="text", parameters={"text": HOSTILE, "wants": {}, "age": 30})]  # fmt: skip
    rows = saying.rows(steps, lambda name, amount: f"{name} {amount:g}", str.upper)
    assert rows[0] == {"row": 0, "text": "make her smile", "chips": ["red_hair 0.8"], "where": "HAIR", "value": 0.5}
    assert len(rows[1]["text"]) == saying.SHOWN and rows[1]["text"].endswith("…") and rows[1]["where"] == ""
    assert rows[2]["text"] == HOSTILE and rows[2]["chips"] == ["age 30"]
    assert saying.aims(steps[0]) == ["hair_red"] and saying.aims(steps[2]) == ["age"]


@pytest.mark.parametrize("text", ["make her smile, please: 50% @home ~ & more", HOSTILE, "웃게 해 줘"])
def test_a_step_survives_its_link(text):
    one = step(text, {"smiling": 1.0, "younger": 0.83}, 0.7, region="hair")
    one = one.model_copy(update={"parameters": one.parameters | {"age": 30.0}})
    assert saying.from_link(*saying.linked(one), 0.7, "hair") == one
    assert "wants" not in saying.from_link(text, "", 1.0, None).parameters
    for meant in ("smiling:x", "smiling", "age:nan"):
        with pytest.raises(UsageError):
            saying.from_link(text, meant, 1.0, None)


def test_rows_that_the_page_sends(studio, inverted):
    inverted(studio)
    studio.do(Recipe(steps=(step("a"), step("b"))))
    state, history = SimpleNamespace(studio=studio), len(studio.current.history.past)
    view.weighed(state, 1, {"text": "b", "value": 0.5, "stroke": 5})
    view.weighed(state, 1, {"text": "b", "value": 99, "stroke": 5})
    assert [one.strength for one in studio.asked()] == [1.0, saying.STRONGEST]
    assert len(studio.current.history.past) == history + 1
    for row, text in ((0, "c"), (2, ""), (-1, "c")):  # the page saw another list
        view.weighed(state, row, {"text": text, "value": None})
    view.weighed(state, 5, {"text": "b", "value": 0.6})  # a row above it was taken out since, or two of them
    assert [one.strength for one in studio.asked()] == [1.0, 0.6]
    studio.do(studio.recipe.then(step("b")))
    view.weighed(state, 0, {"text": "b", "value": None})  # which?
    assert len(studio.asked()) == 3
    with pytest.raises(UsageError):
        view.weighed(state, 0, {"text": "a", "value": "much"})
    view.weighed(state, 0, {"text": "a", "value": None})
    assert [one.parameters["text"] for one in studio.asked()] == ["b", "b"]


def test_every_pole_has_a_korean_name():
    missing = [name for name in poles.load() if words.name_of("ko", "pole", name) == words.name_of("en", "pole", name)]
    assert not missing
    strange = [key for code in ("en", "ko") for key in words._read(code) if key.startswith("pole.")]
    assert {key.removeprefix("pole.") for key in strange} == set(poles.load())


# --------------------------------------------------------------------------------------------- the page


def generated(app):
    app.button(key="generate").click()
    return sound(app.run())


def say(app, text):
    app.text_input(key="sentence").set_value(text)
    next(button for button in app.button if button.key == "say-it").click()
    return sound(app.run())


def test_a_sentence_is_applied_where_the_chip_says(page, read):  # noqa: F811
    app = say(generated(page()), "make her smile")
    app.pills(key="region").set_value("hair")
    app = say(sound(app.run()), "younger, red hair and a hat")
    asked = app.session_state["studio"].asked()
    assert [(one.parameters["text"], one.region) for one in asked] == [
        ("make her smile", None), ("younger, red hair and a hat", "hair")]  # fmt: skip
    assert app.text_input(key="sentence").value == ""
    heard = app.session_state["heard"]
    assert heard["kind"] == "left" and "a hat" in heard["text"] and heard["stamp"] == app.session_state["stamp"]
    count = len(read)
    sound(app.run())
    assert len(read) == count  # read once, not at every turn
    app.button(key="undo").click()
    app = sound(app.run())
    assert app.session_state["studio"].asked() == asked[:1]
    assert app.session_state["heard"]["stamp"] != app.session_state["stamp"]  # said once


def test_what_is_not_understood_stays_in_the_box(page, read):  # noqa: F811
    app = generated(page())
    for text in ("paint a house", HOSTILE.replace("smile", "")):
        app = say(app, text)
        heard = app.session_state["heard"]
        assert app.text_input(key="sentence").value == text and heard["kind"] == "wrong"
        assert heard["text"] == edits.refused(text) and not app.session_state["studio"].steps()
        assert not any("Nothing in this" in shown.value for shown in (*app.error, *app.markdown, *app.caption))
    app = say(app, "")
    assert "There is no text" in app.session_state["heard"]["text"]


def test_a_brush_without_a_mask_takes_no_sentence(page, read):  # noqa: F811
    app = generated(page())
    app.pills(key="region").set_value("brush")
    app = say(sound(app.run()), "make her smile")
    assert app.session_state["heard"]["text"] == EN("brush.none") and not app.session_state["studio"].steps()


def test_nothing_is_read_before_somebody_types(page, nobody_reads, monkeypatch):  # noqa: F811
    monkeypatch.setattr(sentence, "load", lambda: pytest.fail("the encoder was loaded"))
    app = generated(page())
    assert not app.text_input(key="sentence").disabled
    app.session_state["studio"].do(Recipe(steps=(step(),)))
    sound(app.run())


def test_without_the_encoder_the_rest_works(page, monkeypatch):  # noqa: F811
    without_encoder(monkeypatch)
    app = generated(page())
    assert app.text_input(key="sentence").disabled
    assert next(button for button in app.button if button.key == "say-it").disabled
    assert any("wplus zoo fetch" in caption.value for caption in app.caption)
    studio = app.session_state["studio"]
    studio.set({"smile": 1.0})
    studio.do(studio.recipe.then(step("red", {"red_hair": 1.0})))
    app = sound(app.run())
    assert not app.error
    app.button(key="undo").click()
    assert [one.op for one in sound(app.run()).session_state["studio"].steps()] == ["latent"]


def test_a_link_brings_sentences_and_nothing_is_read(page, nobody_reads):  # noqa: F811
    app = generated(page(edits="smile:1.5,say:0.8@hair,say:1,say:2", say=["red, please", "be 30"],
                         meant=["red_hair:1,younger:0.5", "age:30"]))  # fmt: skip
    steps = app.session_state["studio"].steps()
    assert [one.op for one in steps] == ["latent", "text", "text"]
    assert steps[1] == step("red, please", {"red_hair": 1.0, "younger": 0.5}, 0.8, region="hair")
    assert steps[2].parameters == {"text": "be 30", "wants": {}, "age": 30.0, "strength": 1.0}
    app.session_state["studio"].weigh(0, 0.4)
    app.session_state["studio"].do(app.session_state["studio"].recipe.then(step()))
    app.session_state["settle"] = app.session_state["stamp"]
    app = sound(app.run())
    assert app.query_params["edits"] == "smile:1.5,say:0.4@hair,say:1,say:1"
    assert app.query_params["say"] == ["red, please", "be 30", "make her smile"]
    assert app.query_params["meant"] == ["red_hair:1,younger:0.5", "age:30", "smiling:1"]
    app.button(key="forget").click()
    assert not {"edits", "say", "meant"} & set(sound(app.run()).query_params)


def test_a_link_of_a_strangers(page, read, monkeypatch):  # noqa: F811
    app = generated(page(edits="say:1,say:1,say:1", say=["make her smile", "x", HOSTILE], meant=["", "hat:1"]))
    assert [one.parameters["wants"] for one in app.session_state["studio"].steps()] == [{"smiling": 1.0}] * 2
    without_encoder(monkeypatch)
    app = generated(page(edits="smile:1,say:1", say="make her smile"))
    assert [one.op for one in app.session_state["studio"].steps()] == ["latent"] and not app.error


def test_a_link_writes_no_markdown_on_the_page(page):  # noqa: F811
    app = page(edits="say:1", say="x", meant="![y](http://example.invalid/y.png) <b>:x")
    assert "!\\[y\\](http" in app.error[0].value and "\\<b\\>" in app.error[0].value
