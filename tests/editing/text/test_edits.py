"""Text as steps of recipes: what was understood is kept, pinned, checked, and drawn; nothing else changes."""

import pytest
import torch

from editing import session, steps
from editing.text import edits, mapper
from editing.types import Inversion, Recipe, Step
from stylegan2 import engine
from stylegan2.errors import UsageError


@pytest.fixture(scope="module")
def inversion(mobile):
    return Inversion(ws=engine.broadcast(mobile, engine.latents(mobile, [5], 0.7)), family=mobile.family)


def test_a_sentence_is_a_step_that_says_what_it_was_taken_for():
    step = edits.step_of("make her ten years younger and give her red hair", face=1, region="hair")
    assert set(step.parameters["wants"]) == {"younger", "red_hair"}
    assert (step.op, step.face, step.region, step.strength) == ("text", 1, "hair", 1.0)
    assert Recipe.from_json(Recipe(steps=(step,)).to_json()).steps == (step,)


@pytest.mark.parametrize("text", ["add a hat", "what time is it", "😀"])
def test_nothing_known_is_refused_in_one_sentence(text):
    with pytest.raises(UsageError, match="Nothing in this sentence is something I can change"):
        edits.step_of(text)


def test_no_text_is_refused():
    with pytest.raises(UsageError, match="There is no text"):
        edits.step_of("  \n ")


def test_a_long_text_is_not_repeated():
    with pytest.raises(UsageError) as error:
        edits.step_of("hats " * 2000)
    assert len(str(error.value)) < 400


def test_from_and_to_is_the_difference():
    found = edits.between("a smiling woman with glasses", "a smiling woman with red hair")
    assert set(found.wants) == {"red_hair", "no_glasses"}


def test_the_step_moves_the_code_as_the_mapper_does(inversion):
    step = edits.step_of("make her smile", strength=0.7)
    wants = step.parameters["wants"]
    found = steps.apply_step(inversion, step, {})
    assert torch.equal(found.ws, mapper.load()(inversion.ws, wants, 0.7))
    still = step.model_copy(update={"parameters": step.parameters | {"strength": 0.0}})
    assert steps.apply_step(inversion, still, {}) is inversion


def test_pinning_reads_and_pins():
    recipe = Recipe(steps=(Step(op="text", parameters={"text": "make her smile"}),))
    (step,) = steps.pin(recipe, {}).steps
    assert step.parameters["wants"] == {"smiling": 1.0} and step.direction_sha256 == edits.sha256()
    other = step.model_copy(update={"direction_sha256": "0" * 64})
    with pytest.raises(UsageError, match="another version of 'text'"):
        steps.pin(Recipe(steps=(other,)), {})


def test_a_pinned_recipe_needs_no_sentence_encoder(monkeypatch, tmp_path):
    from editing.text import reading

    (step,) = steps.pin(Recipe(steps=(edits.step_of("make her smile"),)), {}).steps
    monkeypatch.setattr(reading, "load", lambda: pytest.fail("the sentence was read again"))
    assert steps.pin(Recipe(steps=(step,)), {}).steps == (step,)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "needs its text"),
        ({"text": 7}, "needs its text"),
        ({"text": "x", "wants": 3}, "a list of names"),
        ({"text": "x", "wants": {"hat": 1}}, "hat"),
        ({"text": "x", "wants": {"smiling": "lots"}}, "finite number"),
        ({"text": "x", "wants": {"smiling": 1e9}}, "amounts are 1 or so"),
        ({"text": "x", "wants": {}, "age": 999}, "cannot look 999"),
        ({"text": "x", "wants": {"smiling": float("nan")}}, "finite number"),
        ({"text": "x", "wants": {"smiling": "9"}}, "amounts are 1 or so"),
        ({"text": "x", "wants": []}, "a list of names"),
        ({"text": "x", "wants": {}, "age": "999"}, "cannot look 999"),
    ],
)
def test_strangers_recipes_are_checked(parameters, said):
    with pytest.raises(UsageError, match=said):
        steps.pin(Recipe(steps=(Step(op="text", parameters=parameters),)), {})


def test_numbers_as_strings_are_numbers_after_pinning():
    (step,) = steps.pin(Recipe(steps=(Step(op="text", parameters={"text": "x", "wants": {"smiling": "1"}}),)), {}).steps
    assert step.parameters["wants"] == {"smiling": 1.0} and edits.phrase(step) == "smiling"


def test_what_cannot_be_written_is_not_kept():
    step = edits.step_of("make her smile \udcff\x1b[2J " + "and so on " * 500)
    (pinned,) = steps.pin(Recipe(steps=(step,)), {}).steps
    assert Recipe.from_json(Recipe(steps=(pinned,)).to_json()).steps == (pinned,)
    assert len(pinned.parameters["text"]) <= 600 and "\x1b" not in pinned.parameters["text"]


def test_another_meaning_of_a_pole_is_another_version(monkeypatch):
    from dataclasses import replace

    from editing.text import poles

    (step,) = steps.pin(Recipe(steps=(edits.step_of("make her smile"),)), {}).steps
    changed = dict(poles.load())
    changed["smiling"] = replace(changed["smiling"], wants={"smile": 0.2})
    monkeypatch.setattr(poles, "load", lambda: changed)
    with pytest.raises(UsageError, match="another version"):
        steps.pin(Recipe(steps=(step,)), {})


@pytest.mark.parametrize(
    ("before", "after", "wants"),
    [("an old man", "a young man", {"younger"}), ("a blond woman", "a woman with black hair", {"black_hair"})],
)
def test_what_is_said_anew_needs_no_opposite(before, after, wants):
    assert set(edits.between(before, after).wants) == wants


def test_no_difference_is_said():
    with pytest.raises(UsageError, match="no difference"):
        edits.step_of("a smiling man", before="a smiling man")


def test_a_region_at_the_end_of_a_sentence():
    assert edits.split_region("dye it red @hair") == ("dye it red", "hair")
    assert edits.split_region("mail me@home") == ("mail me@home", None)


def test_what_was_understood_is_said():
    step = edits.step_of("make her slightly older")
    assert edits.notes(step, ("a hat",))[0].startswith("understood: older 0.")
    assert "'a hat'" in edits.notes(step, ("a hat",))[1]


def test_text_beside_other_steps_in_the_editor(mobile, inversion):
    editor = session.Editor(mobile)
    editor.set_inversion(inversion)
    text = edits.step_of("make her smile")
    both = editor.render(Recipe.from_strengths({"age": 1.0}).then(text))
    assert both.shape[-1] == 1024
    assert (both - editor.render({"age": 1.0})).abs().mean() > 0.005
    inside = editor.render(Recipe(steps=(text.model_copy(update={"region": "mouth"}),)))
    changed = (inside - editor.reconstruction()).abs().amax(1)[0]
    assert changed[:300].max() == 0 and changed[500:800].max() > 0.05
